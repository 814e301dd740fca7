"""Fallbacks: one attempt is relayed, and nothing of the failed ones before it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.attempt import Attempt, OnAttempt
from app.domain.provider import Chunk, Completed, Event, ProviderError, Upstream
from app.domain.request import ChatRequest
from app.providers.fallback import Candidate, FallbackStream
from app.providers.stream_guard import StreamGuard
from tests.unit.scripted import END, Scripted, chat_request

pytestmark = pytest.mark.anyio

_PATIENCE_SECONDS = 30.0
_REQUEST = chat_request({"model": "m", "messages": [{"role": "user", "content": "hello"}]})


@dataclass
class _Model:
    """A model of a scripted provider, in a guard as the catalog puts it."""

    name: str
    provider: Scripted
    upstream: str | None = None

    def stream(self, request: ChatRequest, on_attempt: OnAttempt | None = None) -> StreamGuard:
        return StreamGuard(self.provider.stream(request), stall_seconds=_PATIENCE_SECONDS)


def _failure(error_type: str = "unavailable", status: int | None = None) -> ProviderError:
    return ProviderError(error_type, f"It failed: {error_type}.", upstream=Upstream(status=status))


class _Run:
    """A stream over scripted providers, and the attempts it reports."""

    def __init__(
        self, *providers: Scripted, attempt_seconds: float = 5.0, seconds: float = 10.0
    ) -> None:
        self.providers = providers
        self.attempts: list[Attempt] = []
        models = [_Model(f"m{number}", each) for number, each in enumerate(providers, start=1)]
        self.stream = FallbackStream(
            [Candidate(model, attempt_seconds) for model in models],
            _REQUEST,
            seconds=seconds,
            on_attempt=self.attempts.append,
        )

    async def events(self) -> list[Event]:
        async with asyncio.timeout(_PATIENCE_SECONDS), aclosing(self.stream):
            return [event async for event in self.stream]

    async def failure(self) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.events()
        return caught.value

    @property
    def outcomes(self) -> list[tuple[int, str, str | None]]:
        return [(each.number, each.model.name, each.error_type) for each in self.attempts]


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))


async def test_first_model_is_used_when_it_works() -> None:
    run = _Run(Scripted("one", END), Scripted("two", END))
    assert _text(await run.events()) == "one"
    assert run.outcomes == [(1, "m1", None)]
    assert not run.providers[1].requests


@pytest.mark.parametrize(
    "error_type",
    [
        *("connection", "timeout", "stalled", "rate_limit_exceeded", "server_error"),
        *("unavailable", "authentication", "permission_denied", "not_found", "bad_response"),
        *("broken_stream", "simulated_error"),
    ],
)
async def test_next_model_is_tried_after_failure_of_the_provider(error_type: str) -> None:
    run = _Run(Scripted(_failure(error_type, 503)), Scripted("two", END))
    assert _text(await run.events()) == "two"
    assert run.outcomes == [(1, "m1", error_type), (2, "m2", None)]
    assert [each.status for each in run.attempts] == [503, None]
    assert [each.model.provider for each in run.attempts] == list(run.providers)


async def test_request_that_the_provider_calls_invalid_is_not_repeated() -> None:
    run = _Run(Scripted(_failure("invalid_request", 400)), Scripted("two", END))
    assert (await run.failure()).error_type == "invalid_request"
    assert run.outcomes == [(1, "m1", "invalid_request")]


async def test_failure_after_the_first_event_is_the_clients() -> None:
    run = _Run(Scripted("one", _failure("broken_stream")), Scripted("two", END))
    assert (await run.failure()).error_type == "broken_stream"
    assert run.outcomes == [(1, "m1", None)]
    assert not run.providers[1].requests


async def test_error_of_the_requested_model_is_reported_when_all_fail() -> None:
    run = _Run(Scripted(_failure("rate_limit_exceeded")), Scripted(_failure("invalid_request")))
    assert (await run.failure()).error_type == "rate_limit_exceeded"
    assert run.outcomes == [(1, "m1", "rate_limit_exceeded"), (2, "m2", "invalid_request")]


async def test_stream_without_any_event_is_a_failed_attempt() -> None:
    run = _Run(Scripted(), Scripted("two", END))
    assert _text(await run.events()) == "two"
    assert run.outcomes == [(1, "m1", "broken_stream"), (2, "m2", None)]


async def test_silent_attempt_ends_after_its_own_time_and_is_closed() -> None:
    run = _Run(Scripted(asyncio.Event()), Scripted("two", END), attempt_seconds=0.1)
    started = time.monotonic()
    assert _text(await run.events()) == "two"
    assert 0.1 <= time.monotonic() - started < 1.0
    assert run.outcomes[0] == (1, "m1", "stalled")
    assert 0.1 <= run.attempts[0].seconds < 1.0
    assert run.providers[0].left.is_set()


async def test_all_attempts_together_end_at_the_deadline() -> None:
    silent = [Scripted(asyncio.Event()) for _ in range(4)]
    run = _Run(*silent, attempt_seconds=0.2, seconds=0.3)
    started = time.monotonic()
    assert (await run.failure()).error_type == "stalled"
    assert 0.3 <= time.monotonic() - started < 1.5
    assert run.outcomes == [(1, "m1", "stalled"), (2, "m2", "stalled")]
    assert all(each.left.is_set() for each in silent[:2])


@pytest.mark.parametrize("failed", [0, 2])
async def test_cancellation_closes_the_running_attempt(failed: int) -> None:
    providers = [Scripted(_failure()) for _ in range(failed)]
    waiting, next_one = Scripted(asyncio.Event()), Scripted("never", END)
    run = _Run(*providers, waiting, next_one)
    task = asyncio.create_task(run.events())
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await waiting.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await waiting.left.wait()
    assert not next_one.requests
    assert len(run.attempts) == failed


async def test_nothing_begins_after_the_stream_was_closed() -> None:
    run = _Run(Scripted("one", END))
    await run.stream.aclose()
    assert [event async for event in run.stream] == []
    assert not run.providers[0].requests


async def test_bug_of_a_provider_is_not_hidden_by_a_fallback() -> None:
    run = _Run(Scripted(ZeroDivisionError()), Scripted("two", END))
    with pytest.raises(ZeroDivisionError):
        await run.events()
    assert not run.providers[1].requests


async def test_events_that_do_not_choose_an_attempt_are_held_back() -> None:
    """Such as the headers of a response whose stream begins with an error."""
    models = [
        _Model("m1", Scripted("<head>", _failure())),
        _Model("m2", Scripted("<head>", "two", END)),
    ]
    stream = FallbackStream(
        [Candidate(model, _PATIENCE_SECONDS) for model in models],
        _REQUEST,
        seconds=_PATIENCE_SECONDS,
        is_content=lambda event: event != Chunk("<head>"),
    )
    async with aclosing(stream):
        assert _text([event async for event in stream]) == "<head>two"


_variable: ContextVar[str] = ContextVar("variable", default="unset")


class _Reading(Scripted):
    """Answers with the value of a context variable."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Completed]:
        yield Chunk(_variable.get())
        yield END


async def test_each_attempt_runs_in_the_context_of_the_request() -> None:
    token = _variable.set("request")
    run = _Run(Scripted(_failure()), _Reading())
    _variable.reset(token)
    assert _text(await run.events()) == "request"


_fails = st.sampled_from(["connection", "timeout", "rate_limit_exceeded", "invalid_request"])
_attempt = st.one_of(
    st.tuples(st.just("fails"), _fails),
    st.tuples(st.just("answers"), st.integers(0, 3)),
    st.tuples(st.just("breaks"), st.integers(1, 3)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_attempt, min_size=1, max_size=5))
def test_exactly_one_attempt_is_relayed_and_no_other(plan: list[tuple[str, object]]) -> None:
    """Every text names its attempt, so that a foreign byte would be seen."""
    providers = []
    for number, (kind, value) in enumerate(plan, start=1):
        texts = [f"<{number}>"] * (value if isinstance(value, int) else 0)
        ends: dict[str, Completed | ProviderError] = {
            "fails": _failure(str(value)),
            "answers": END,
            "breaks": _failure("broken_stream"),
        }
        providers.append(Scripted(*texts, ends[kind]))

    async def check() -> None:
        run = _Run(*providers)
        relayed: list[Event] = []
        error = None
        async with aclosing(run.stream):
            try:
                async for event in run.stream:
                    relayed.append(event)
            except ProviderError as caught:
                error = caught
        stops = [
            n
            for n, (kind, value) in enumerate(plan)
            if kind != "fails" or value == "invalid_request"
        ]
        last = stops[0] if stops else len(plan) - 1
        assert [attempt.number for attempt in run.attempts] == list(range(1, last + 2))
        kind, value = plan[last]
        count = value if isinstance(value, int) else 0
        assert _text(relayed) == f"<{last + 1}>" * count
        assert sum(attempt.succeeded for attempt in run.attempts) == (kind != "fails")
        assert (error is None) == (kind == "answers")
        assert [len(each.requests) for each in providers] == [
            int(n <= last) for n in range(len(plan))
        ]

    asyncio.run(check())
