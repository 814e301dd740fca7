"""A blocking provider: in a thread, with its caller's context, bounded, and stopped with it."""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx2
import pytest
from loguru import logger
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from app.domain.errors import Overloaded
from app.domain.provider import Chunk, Event
from app.domain.request import ChatRequest
from app.main import create_app
from app.providers.blocking import ThreadedProvider, non_blocking
from chatscope.withholding import WITHHELD
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted, catalog_of, chat_request
from tests.unit.serving import quick, serving

if TYPE_CHECKING:
    from loguru import Record

pytestmark = pytest.mark.anyio
_REQUEST = chat_request({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]})
_Stream = Generator[Event]
_CALLS = 100


class _Blocking:
    """Streams what its function yields."""

    name = "blocking"
    models = (MODEL,)
    server: tuple[str, int] | None = None
    in_process = True

    def __init__(self, stream: Callable[[], _Stream]) -> None:
        self._stream = stream
        self.closed = False

    def stream(self, request: ChatRequest) -> _Stream:
        assert request is _REQUEST
        yield from self._stream()

    async def close(self) -> None:
        self.closed = True


async def _told(stream: Callable[[], _Stream]) -> list[Event]:
    async with asyncio.timeout(15):
        return [
            piece async for piece in ThreadedProvider(_Blocking(stream), _CALLS).stream(_REQUEST)
        ]


async def test_the_event_loop_goes_on_while_the_provider_blocks() -> None:
    released = threading.Event()

    def stream() -> _Stream:
        # Only the event loop's own task ends this wait.
        assert released.wait(60)
        yield Chunk("a")
        yield END

    telling = asyncio.create_task(_told(stream))
    await asyncio.sleep(0)
    assert not telling.done()
    released.set()
    assert await telling == [Chunk("a"), END]


async def test_its_failure_is_the_streams_own() -> None:
    def stream() -> _Stream:
        yield Chunk("a")
        raise ZeroDivisionError("theirs")

    with pytest.raises(ZeroDivisionError, match="theirs"):
        await _told(stream)


async def test_what_would_end_the_process_fails_the_answer_only() -> None:
    def stream() -> _Stream:
        yield Chunk("a")
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match=r"SystemExit\(3\)"):
        await _told(stream)


async def test_span_and_log_context_of_the_caller_are_there() -> None:
    span = NonRecordingSpan(SpanContext(trace_id=7, span_id=8, is_remote=False))
    told: list[object] = []

    def stream() -> _Stream:
        told.append(trace.get_current_span().get_span_context().span_id)
        logger.info("inside")
        yield END

    handler = logger.add(lambda message: told.append(message.record["extra"]["turn"]))
    try:
        with trace.use_span(span), logger.contextualize(turn="t-1"):
            await _told(stream)
    finally:
        logger.remove(handler)
    assert told == [8, "t-1"]


async def test_it_is_ahead_of_a_slow_taker_by_a_few_pieces_only() -> None:
    pulled: list[int] = []
    third = threading.Event()
    closed = threading.Event()

    def stream() -> _Stream:
        try:
            for number in range(1000):
                pulled.append(number)
                if number == 3:
                    third.set()
                yield Chunk("x")
        finally:
            closed.set()

    async with aclosing(ThreadedProvider(_Blocking(stream), _CALLS).stream(_REQUEST)) as pieces:
        await anext(pieces)
        assert await asyncio.to_thread(third.wait, 10)
    assert await asyncio.to_thread(closed.wait, 10)
    # One taken, two handed over, one in the thread's hand.
    assert pulled == [0, 1, 2, 3]


async def test_given_up_it_is_closed_with_the_piece_that_it_is_about() -> None:
    released, closed = threading.Event(), threading.Event()
    after: list[str] = []

    def stream() -> _Stream:
        try:
            yield Chunk("a")
            assert released.wait(60)
            yield Chunk("b")
            after.append("asked for more")
        finally:
            closed.set()

    async with aclosing(ThreadedProvider(_Blocking(stream), _CALLS).stream(_REQUEST)) as pieces:
        assert await anext(pieces) == Chunk("a")
    assert not closed.is_set()  # nobody waited for the thread
    released.set()
    assert await asyncio.to_thread(closed.wait, 10)
    assert after == []


def _provider_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "provider"]


async def _abandon(provider: ThreadedProvider) -> list[threading.Thread]:
    """Give a call up while it hangs, and return its thread."""
    stream = provider.stream(_REQUEST)
    asking = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    threads = _provider_threads()
    asking.cancel()
    await asyncio.wait({asking})
    return threads


async def test_failure_after_the_end_is_logged_without_texts(logged: list["Record"]) -> None:
    released = threading.Event()

    def stream() -> _Stream:
        assert released.wait(60)
        raise ValueError("secret words")
        yield END

    [thread] = await _abandon(ThreadedProvider(_Blocking(stream), _CALLS))
    released.set()
    await asyncio.to_thread(thread.join, 10)
    [record] = logged
    assert (record["level"].name, record["message"]) == (
        "WARNING",
        "provider failed after its response",
    )
    assert record["exception"] is not None
    assert str(record["exception"].value) == WITHHELD


def test_call_that_returns_after_the_event_loop_ended_is_no_failure(
    logged: list["Record"],
) -> None:
    released = threading.Event()

    def stream() -> _Stream:
        assert released.wait(60)
        yield from ()

    [thread] = asyncio.run(_abandon(ThreadedProvider(_Blocking(stream), _CALLS)))
    assert thread.daemon  # it does not keep the process from its end
    released.set()
    thread.join(60)
    assert logged == []


async def test_calls_that_hang_keep_no_more_threads_than_allowed() -> None:
    released = threading.Event()

    def stream() -> _Stream:
        assert released.wait(60)
        yield END

    threads = threading.active_count()
    provider = ThreadedProvider(_Blocking(stream), max_calls=3)
    hanging = [asyncio.create_task(anext(provider.stream(_REQUEST))) for _ in range(3)]
    await asyncio.sleep(0)
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)
    for _ in range(30):
        with pytest.raises(Overloaded, match="maximum 3"):
            await anext(provider.stream(_REQUEST))
    assert threading.active_count() == threads + 3
    released.set()
    async with asyncio.timeout(10):
        while threading.active_count() > threads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [piece async for piece in provider.stream(_REQUEST)] == [END]


@pytest.mark.parametrize("stream", [True, False])
async def test_client_of_a_provider_whose_calls_hang_gets_503(memory: Memory, stream: bool) -> None:
    released = threading.Event()

    class Hanging(_Blocking):
        def stream(self, request: ChatRequest) -> _Stream:
            released.wait(60)
            yield END

    catalog = catalog_of(Hanging(lambda: iter(())), max_calls=1)  # type: ignore[arg-type,return-value]
    app = create_app(quick(), catalog=catalog, providers=memory.providers)
    ask = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
    url = "/v1/chat/completions"
    async with serving(app) as server:
        client = httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False)
        async with client:
            with pytest.raises(httpx2.ReadTimeout):
                await client.post(url, json=ask, timeout=0.5)
            refused = await client.post(url, json=ask, timeout=10)
        released.set()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    error = refused.json()["error"]
    assert (error["code"], error["trace_id"]) == ("too_many_answers", refused.headers["x-trace-id"])
    assert memory.value("chatscope.limit.reached", chatscope__limit="answers") == 1


async def test_closing_passes_through() -> None:
    provider = _Blocking(lambda: iter(()))  # type: ignore[arg-type,return-value]
    await ThreadedProvider(provider, _CALLS).close()
    assert provider.closed


async def test_only_a_provider_that_blocks_is_put_into_a_thread() -> None:
    scripted = Scripted(END)
    assert non_blocking(scripted, _CALLS) is scripted
    assert isinstance(non_blocking(_Blocking(lambda: iter(())), _CALLS), ThreadedProvider)  # type: ignore[arg-type,return-value]


def test_provider_in_a_thread_is_the_same_for_others() -> None:
    class Seeing(_Blocking):
        server = ("api.example", 443)
        in_process = False
        whole_seconds = 7.0

    threaded = ThreadedProvider(Seeing(lambda: iter(())), _CALLS)  # type: ignore[arg-type,return-value]
    assert (threaded.name, threaded.models) == ("blocking", (MODEL,))
    assert (threaded.server, threaded.in_process) == (("api.example", 443), False)
    assert threaded.whole_seconds == 7.0
