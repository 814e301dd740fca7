"""A provider's stream: a few events ahead, not silent for ever, and cleaned up in its own task."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.provider import Chunk, Completed, Event, ProviderError
from app.providers import stream_guard
from app.providers.stream_guard import READ_AHEAD, StreamGuard
from app.wire.errors import http_status
from tests.unit.scripted import END

if TYPE_CHECKING:
    from loguru import Record

pytestmark = pytest.mark.anyio
_Stream = AsyncGenerator[Event]
_A, _B = Chunk("a"), Chunk("b")
_place: ContextVar[str] = ContextVar("place", default="nowhere")


def _supply(stream: _Stream, stall_seconds: float = 10.0) -> "aclosing[StreamGuard]":
    return aclosing(StreamGuard(stream, stall_seconds=stall_seconds))


async def _pieces(stream: _Stream) -> list[Event]:
    async with _supply(stream) as supply:
        return [piece async for piece in supply]


async def test_pieces_come_in_order_up_to_the_end_and_no_further() -> None:
    after: list[str] = []

    async def stream() -> _Stream:
        yield _A
        yield _B
        yield END
        after.append("asked for more")
        yield _A

    assert await _pieces(stream()) == [_A, _B, END]
    assert after == []


async def test_pieces_before_a_failure_come_before_it() -> None:
    async def stream() -> _Stream:
        yield _A
        raise ZeroDivisionError

    async with _supply(stream()) as supply:
        assert await anext(supply) == _A
        with pytest.raises(ZeroDivisionError):
            await anext(supply)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_stream_that_ends_early_or_cancels_itself_is_broken(cancelled: bool) -> None:
    async def stream() -> _Stream:
        yield _A
        if cancelled:
            raise asyncio.CancelledError

    async with asyncio.timeout(30):
        with pytest.raises(ProviderError) as caught:
            await _pieces(stream())
    assert (caught.value.error_type, http_status(caught.value)) == ("broken_stream", 502)
    assert caught.value.message == "The provider's stream ended before its final message."


@pytest.mark.parametrize("ahead", [True, False])
async def test_silence_counts_only_while_somebody_listens(ahead: bool) -> None:
    goes_on = asyncio.Event()

    async def stream() -> _Stream:
        yield _A
        if not ahead:
            await goes_on.wait()
        yield _B
        await asyncio.Event().wait()

    async with asyncio.timeout(30), _supply(stream(), stall_seconds=0.05) as supply:
        assert await anext(supply) == _A
        # A reader's own pause, longer than the silence allowed, is none.
        await asyncio.sleep(0.15)
        goes_on.set()
        assert await anext(supply) == _B
        with pytest.raises(ProviderError) as caught:
            await anext(supply)
    assert (caught.value.error_type, http_status(caught.value)) == ("stalled", 504)
    assert caught.value.message == "The model stopped responding."


async def test_silence_is_checked_at_least_once_per_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, delays = asyncio.get_running_loop(), list[float]()
    call_later = loop.call_later

    def record(delay: float, *arguments: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return call_later(delay, *arguments)

    async def stream() -> _Stream:
        for _ in range(3):
            await asyncio.sleep(0.02)
            yield _A
        await asyncio.Event().wait()

    async with _supply(stream(), stall_seconds=0.03) as supply:
        monkeypatch.setattr(loop, "call_later", record)
        with pytest.raises(ProviderError):
            [piece async for piece in supply]
        assert delays
        assert max(delays) <= 0.03


async def test_running_streams_are_kept_and_ended_ones_forgotten() -> None:
    """The event loop itself refers to a waiting task only weakly."""

    async def stream() -> _Stream:
        yield _A
        yield END

    before = set(stream_guard._tasks)
    async with _supply(stream()):
        assert len(stream_guard._tasks - before) == 1
    await asyncio.sleep(0)
    assert stream_guard._tasks <= before


async def test_failure_after_the_end_is_logged_without_texts(logged: list["Record"]) -> None:
    async def stream() -> _Stream:
        try:
            yield _A
            await asyncio.Event().wait()
        finally:
            raise ValueError("secret words")

    async with _supply(stream()) as supply:
        await anext(supply)
    await asyncio.sleep(0)
    [record] = logged
    assert (record["level"].name, record["message"]) == (
        "WARNING",
        "provider failed after its response",
    )
    assert record["exception"] is not None
    assert str(record["exception"].value) == "<text withheld>"


async def test_it_is_a_limited_number_of_events_ahead_of_its_reader() -> None:
    pulled = 0

    async def stream() -> _Stream:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield _A

    async with _supply(stream()) as supply:
        await anext(supply)
        assert supply.has_chunk
        for _ in range(20):
            await asyncio.sleep(0)
    # One taken, and the next one in hand.
    assert pulled == 1 + READ_AHEAD + 1


async def test_chunk_of_a_provider_that_pauses_is_not_there_before() -> None:
    async def stream() -> _Stream:
        yield _A
        await asyncio.sleep(0.01)
        yield END

    async with _supply(stream()) as supply:
        assert not supply.has_chunk
        assert await anext(supply) == _A
        assert not supply.has_chunk
        assert await anext(supply) == END


@pytest.mark.parametrize("fails", [False, True])
async def test_time_of_a_slow_reader_is_none_of_the_provider(fails: bool) -> None:
    """Ten chunks at once and a wait of 0.05 s, for a reader that needs 0.5 s for them."""

    async def stream() -> _Stream:
        for _ in range(10):
            yield Chunk("a")
        await asyncio.sleep(0.05)
        if fails:
            raise ZeroDivisionError
        yield Completed(finish_reason="stop")

    began = time.perf_counter()
    times: list[float] = []
    async with _supply(stream()) as supply:
        with suppress(ZeroDivisionError):
            async for event in supply:
                await asyncio.sleep(0.05)
                times.append(event.at or 0.0)
    assert time.perf_counter() - began >= 0.5
    assert all(0 <= at - began < 0.25 for at in times)
    assert times == sorted(times)
    assert 0.05 <= supply.ended - began < 0.25


async def test_one_context_holds_from_the_first_step_to_the_last() -> None:
    seen: list[str] = []

    async def stream() -> _Stream:
        seen.append(_place.get())
        token = _place.set("inside")
        try:
            yield _A
            await asyncio.Event().wait()
        finally:
            seen.append(_place.get())
            _place.reset(token)  # raises in any other context

    _place.set("where it was made")
    async with _supply(stream()) as supply:
        _place.set("elsewhere")
        await anext(supply)
        assert _place.get() == "elsewhere"
    assert seen == ["where it was made", "inside"]


async def test_given_up_it_is_cleared_up_before_its_reader_goes_on() -> None:
    cleared = False

    async def stream() -> _Stream:
        nonlocal cleared
        try:
            yield _A
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleared = True

    async with _supply(stream()) as supply:
        await anext(supply)
    assert cleared


async def test_a_whole_answers_own_clearing_up_is_not_cut_short() -> None:
    cleared = False

    async def stream() -> _Stream:
        nonlocal cleared
        try:
            yield END
        finally:
            await asyncio.sleep(0)
            cleared = True

    await _pieces(stream())
    assert cleared


async def test_a_stream_that_goes_on_after_its_cancel_is_asked_for_nothing_more() -> None:
    stubborn = 0

    async def stream() -> _Stream:
        nonlocal stubborn
        yield _A
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        for _ in range(100):
            stubborn += 1
            yield _B

    async with _supply(stream()) as supply:
        await anext(supply)
    assert stubborn == 1


async def test_a_clearing_up_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.providers.stream_guard.CLOSING_SECONDS", 0.01)
    over, left = asyncio.Event(), asyncio.Event()

    async def stream() -> _Stream:
        try:
            yield _A
            await asyncio.Event().wait()
        finally:
            while not over.is_set():
                with suppress(asyncio.CancelledError):
                    await over.wait()
            left.set()

    try:
        async with asyncio.timeout(30), _supply(stream()) as supply:
            await anext(supply)
        assert not left.is_set()
    finally:
        over.set()
    await asyncio.wait_for(left.wait(), 30)
