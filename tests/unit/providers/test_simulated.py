"""The simulated model: the same words for the same question, and the faults that were set."""

from dataclasses import replace

import pytest

from app.domain.provider import Chunk, Completed, ProviderError, Started
from app.domain.request import ChatRequest
from app.providers.simulated import Behaviour, Phase, SimulatedProvider
from app.providers.simulated_failures import BEFORE_RESPONSE, KINDS
from app.wire.errors import http_status
from tests.unit.scripted import chat_request

pytestmark = pytest.mark.anyio
MODEL = "simulated-1"
_PLAIN = Behaviour(answer_tokens=30)


def _request(text: str = "hello there", **parameters: object) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return chat_request({"messages": messages, "model": MODEL, "stream": True, **parameters})


async def _ask(request: ChatRequest, behaviour: Behaviour = _PLAIN) -> tuple[list[str], Completed]:
    events = [event async for event in SimulatedProvider(behaviour, model=MODEL).stream(request)]
    texts = [event.text for event in events if isinstance(event, Chunk)]
    end = events[-1]
    assert isinstance(end, Completed)
    assert len(events) == len(texts) + 1
    return texts, end


async def test_it_says_that_it_is_simulated() -> None:
    texts, _ = await _ask(_request())
    assert "".join(texts).startswith("(simulated) ")


async def test_same_seed_and_same_messages_give_the_same_words() -> None:
    first, _ = await _ask(_request())
    again, _ = await _ask(_request())
    assert again == first


async def test_another_seed_or_question_gives_other_words() -> None:
    texts, _ = await _ask(_request())
    for other in (
        _ask(_request(), replace(_PLAIN, seed=2)),
        _ask(_request(seed=2)),
        _ask(_request("hello you")),
    ):
        assert (await other)[0] != texts


async def test_response_that_is_not_streamed_is_one_text() -> None:
    streamed, streamed_end = await _ask(_request())
    whole, end = await _ask(_request(stream=False))
    assert whole == ["".join(streamed)]
    assert end.usage == streamed_end.usage


async def test_a_word_is_a_token() -> None:
    texts, end = await _ask(_request("three little words"))
    assert end.usage is not None
    assert end.usage.prompt_tokens == 3
    assert end.usage.completion_tokens == len(texts) == len("".join(texts).split())
    assert end.finish_reason == "stop"


async def test_response_ids_are_unique_and_the_model_is_the_requested_one() -> None:
    (_, first), (_, second) = await _ask(_request()), await _ask(_request())
    assert first.response_id
    assert first.response_id != second.response_id
    assert first.response_model == "simulated-1"


@pytest.mark.parametrize("text", ["a", "b", "c", "d", "e"])
async def test_length_is_between_half_and_one_and_a_half_of_what_was_set(text: str) -> None:
    texts, _ = await _ask(_request(text))
    assert 15 <= len(texts) <= 45


async def test_lengths_vary_around_what_was_set() -> None:
    lengths = [len((await _ask(_request(str(number))))[0]) for number in range(20)]
    assert min(lengths) < 30 < max(lengths)


async def test_a_token_limit_ends_the_answer_for_its_length() -> None:
    texts, end = await _ask(_request(max_tokens=4))
    whole, _ = await _ask(_request())
    assert texts == whole[:4]
    assert end.finish_reason == "length"
    assert end.usage is not None
    assert end.usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("stop", "text"), [(["Hello!", "Hi!"], "(simulated) "), (["zzz", "ulated"], "(sim")]
)
async def test_a_stop_text_ends_the_answer_before_it(stop: object, text: str) -> None:
    texts, end = await _ask(_request(stop=stop))
    assert "".join(texts) == text
    assert end.finish_reason == "stop"


async def test_a_stop_text_at_the_start_leaves_nothing() -> None:
    texts, end = await _ask(_request(stop="("))
    assert texts == []
    assert end.usage is not None
    assert end.usage.completion_tokens == 0


async def test_at_an_error_rate_of_one_every_answer_fails() -> None:
    provider = SimulatedProvider(replace(_PLAIN, error_rate=1.0), model=MODEL)
    for _ in range(3):
        with pytest.raises(ProviderError) as caught:
            [event async for event in provider.stream(_request())]
        assert (caught.value.error_type, http_status(caught.value)) == ("simulated_error", 502)
        assert caught.value.message == "The simulated model failed, as configured."


async def test_a_question_that_failed_may_be_answered_when_asked_again() -> None:
    provider = SimulatedProvider(replace(_PLAIN, error_rate=0.5), model=MODEL)
    outcomes = set()
    for _ in range(20):
        try:
            outcomes.add(bool([event async for event in provider.stream(_request())]))
        except ProviderError:
            outcomes.add(False)
    assert outcomes == {True, False}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the model in seconds, none of which takes any time."""
    waits: list[float] = []
    clock = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal clock
        waits.append(round(seconds, 6))
        clock += seconds

    monkeypatch.setattr("app.providers.simulated.asyncio.sleep", sleep)
    monkeypatch.setattr("app.providers.simulated.time.monotonic", lambda: clock)
    return waits


_SLOW = replace(_PLAIN, first_token_seconds=2, tokens_per_second=10, stall_rate=1, stall_seconds=7)


async def test_pauses_and_stalls_are_waited_for(waits: list[float]) -> None:
    texts, _ = await _ask(_request(max_tokens=5), _SLOW)
    assert len(waits) == len(texts) == 5
    assert sum(waits) == pytest.approx(2 + 4 * 0.1 + 7)
    assert sorted(round(wait, 3) for wait in waits)[-1] >= 7


async def test_whole_response_takes_as_long_as_a_streamed_one(waits: list[float]) -> None:
    await _ask(_request(max_tokens=5, stream=False), _SLOW)
    assert sum(waits) == pytest.approx(2 + 4 * 0.1 + 7)


async def test_whole_response_fails_after_the_tokens_before_its_error(waits: list[float]) -> None:
    broken = replace(_SLOW, error_rate=1, stall_rate=0)
    for _ in range(10):
        waits.clear()
        with pytest.raises(ProviderError):
            await _ask(_request(max_tokens=5, stream=False), broken)
        assert sum(waits) in [pytest.approx(2 + tokens * 0.1) for tokens in range(5)]


@pytest.mark.parametrize(
    ("kind", "status", "http"),
    [
        ("rate_limit_exceeded", 429, 429),
        ("server_error", 500, 502),
        ("unavailable", 503, 503),
        ("timeout", 504, 504),
    ],
)
async def test_failures_are_those_of_a_real_endpoint(kind: str, status: int, http: int) -> None:
    failing = replace(_PLAIN, error_rate=1.0, errors=(kind,))
    with pytest.raises(ProviderError) as caught:
        await _ask(_request(), failing)
    error = caught.value
    assert (error.error_type, error.upstream.status, http_status(error)) == (kind, status, http)
    assert error.upstream.text
    assert (error.retry_after == "2") == (kind == "rate_limit_exceeded")


@pytest.mark.parametrize("kind", sorted(BEFORE_RESPONSE))
async def test_overloaded_model_fails_before_its_first_token(kind: str) -> None:
    provider = SimulatedProvider(replace(_PLAIN, error_rate=1.0, errors=(kind,)), model=MODEL)
    for _ in range(5):
        with pytest.raises(ProviderError):
            await anext(provider.stream(_request()))


async def test_every_kind_of_failure_occurs() -> None:
    provider = SimulatedProvider(replace(_PLAIN, error_rate=1.0, errors=KINDS), model=MODEL)
    found = set()
    for _ in range(60):
        with pytest.raises(ProviderError) as caught:
            [event async for event in provider.stream(_request())]
        found.add(caught.value.error_type)
    assert found == set(KINDS)


def test_phase_changes_the_behaviour_in_its_part_of_each_period() -> None:
    phase = Phase(every_seconds=300, after_seconds=60, for_seconds=30, error_rate=0.5)
    usual = replace(_PLAIN, first_token_seconds=1, phase=phase)
    for period in (0, 300, 3000):
        rates = [usual.at(period + second).error_rate for second in (0, 59, 60, 89, 90, 299)]
        assert rates == [0, 0, 0.5, 0.5, 0, 0]
    assert usual.at(60).first_token_seconds == 1
    slow = Phase(every_seconds=10, after_seconds=0, for_seconds=10, first_token_seconds=0)
    assert replace(usual, phase=slow).at(5).first_token_seconds == 0


async def test_conversation_reports_the_tokens_that_were_sent_before() -> None:
    caching = replace(_PLAIN, prompt_cache=True)
    first = {"role": "user", "content": "word " * 150}
    said = [first, {"role": "assistant", "content": "word " * 50}, {"role": "user", "content": "?"}]
    for messages, cached in (([first], 0), (said, 192)):
        _, end = await _ask(_request(messages=messages), caching)
        assert end.usage is not None
        assert end.usage.cache_read_tokens == cached
        _, end = await _ask(_request(messages=messages))
        assert end.usage is not None
        assert end.usage.cache_read_tokens is None


async def test_rate_limit_is_told_and_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600.0
    monkeypatch.setattr("app.providers.simulated.time.time", lambda: now)
    provider = SimulatedProvider(replace(_PLAIN, requests_per_minute=2), model=MODEL)
    for remaining in ("1", "0"):
        first = await anext(provider.stream(_request()))
        assert isinstance(first, Started)
        assert first.headers == {
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": remaining,
            "x-ratelimit-reset-requests": "60s",
        }
    with pytest.raises(ProviderError) as refused:
        await anext(provider.stream(_request()))
    assert refused.value.error_type == "rate_limit_exceeded"
    assert refused.value.upstream.headers["x-ratelimit-remaining-requests"] == "0"
    now += 60
    assert isinstance(await anext(provider.stream(_request())), Started)
