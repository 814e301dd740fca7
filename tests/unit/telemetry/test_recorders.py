"""Recorders of model calls, tools and agents in code that is not ours."""

import asyncio
import contextvars
import gc
import inspect
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from chatscope import arguments, genai, names
from chatscope.genai import Recorder, Usage
from chatscope.genai.deferred import WORKER
from chatscope.genai.pricing import Price, PriceTable
from chatscope.guard import containing_errors
from chatscope.instruments import Instruments
from chatscope.logs.bridge import Bridge
from chatscope.otlp import Warnings
from stack.facts import ROOT
from tests.memory import Memory

MODEL = "gpt-4o"
SECRET = "the capital of nowhere"
_CALL: Any = {"model": MODEL, "provider": "openai"}
_PRICES = PriceTable({MODEL: Price(prompt=2.5, completion=10.0)})


@pytest.fixture
def memory() -> Memory:
    return Memory()


def _recorder(memory: Memory, **options: Any) -> Recorder:
    providers = memory.providers
    instruments = Instruments(
        providers.meter_provider.get_meter("test"),
        tallies=memory.tallies,
        prefix=options.pop("prefix", names.PREFIX),
    )
    return Recorder(
        tracer=options.pop("tracer", providers.tracer_provider.get_tracer("test")),
        instruments=instruments,
        prices=_PRICES,
        emit=Bridge(providers.logger_provider).emit_event,
        **options,
    )


@pytest.fixture
def recorder(memory: Memory) -> Iterator[Recorder]:
    recorder = _recorder(memory)
    genai.use_recorder(recorder)
    yield recorder
    genai.forget_recorder(recorder)


@pytest.fixture
def capturing(memory: Memory) -> Iterator[Recorder]:
    recorder = _recorder(memory, capture_content=True)
    genai.use_recorder(recorder)
    yield recorder
    genai.forget_recorder(recorder)


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def _exceptions(memory: Memory) -> list[str | None]:
    """The names of the events that describe an exception."""
    records = [each.log_record for each in memory.logs]
    return [each.event_name for each in records if names.EXCEPTION_TYPE in (each.attributes or {})]


def _flush() -> None:
    assert WORKER.flush(60.0)


# -- one call in a block --------------------------------------------------------------


def test_call_in_a_block_has_the_conventions_span_counts_and_cost(
    memory: Memory, recorder: Recorder
) -> None:
    with genai.inference(**_CALL, temperature=0.5, stop="x", server_address="api.example") as call:
        assert trace.get_current_span().get_span_context().trace_id == int(call.trace_id, 16)
        call.response(
            text="42",
            finish_reason="stop",
            usage=Usage(100, 20, cache_read_tokens=60, reasoning_tokens=5),
            id="r-1",
            model="gpt-4o-2026",
        )
    span = memory.span("chat gpt-4o")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    found = _attributes(span)
    assert found.pop("chatscope.answer.cost") == pytest.approx(0.00045)
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": False,
        "gen_ai.request.temperature": 0.5,
        "server.address": "api.example",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.model": "gpt-4o-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "chatscope.answer.outcome": "completed",
    }
    assert memory.value("llm_token_usage", type="prompt", gen_ai__request__model=MODEL) == 100
    assert memory.value("llm_token_usage", type="completion") == 20
    assert memory.value("llm_cost") == pytest.approx(0.00045)
    assert memory.value("llm_response_time") == 1
    assert memory.value("gen_ai.client.inference.duration", server__address="api.example") == 1
    assert memory.value("gen_ai.client.inference.usage.input_tokens") == 100
    assert memory.value("gen_ai.client.inference.usage.output_tokens") == 20
    assert memory.value("gen_ai.client.inference.usage.cache_read.input_tokens") == 60
    assert memory.value("gen_ai.client.inference.usage.reasoning.output_tokens") == 5
    assert memory.points("gen_ai.server.request.duration") == []
    assert memory.value("chatscope.answers.active") == 0
    assert memory.exemplars()["llm_cost"] == {call.trace_id}


def test_call_is_one_log_record_of_the_standard_library(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "chatscope.genai"), genai.inference(**_CALL) as call:
        call.response(usage=Usage(100, 20), text="x")
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "answer completed")
    assert vars(record)["gen_ai.usage.output_tokens"] == 20


def test_response_that_was_not_shown_is_neither_empty_nor_estimated(
    memory: Memory, recorder: Recorder
) -> None:
    with genai.inference(**_CALL):
        pass
    found = _attributes(memory.span("chat gpt-4o"))
    assert names.ANSWER_EMPTY not in found
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in found
    assert memory.points("llm_token_usage") == []


def test_empty_text_is_an_empty_response(memory: Memory, recorder: Recorder) -> None:
    with genai.inference(**_CALL) as call:
        call.response(text="", finish_reason="stop")
    assert _attributes(memory.span("chat gpt-4o"))[names.ANSWER_EMPTY] is True


def test_failure_after_the_response_keeps_its_tokens(memory: Memory, recorder: Recorder) -> None:
    @genai.inference(**_CALL)
    def ask() -> None:
        genai.current_call().response(text="x", usage=Usage(100, 20))
        raise ValueError("not JSON")

    with pytest.raises(ValueError, match="not JSON"):
        ask()
    span = memory.span("chat gpt-4o")
    assert _attributes(span)[names.ERROR_TYPE] == "ValueError"
    assert _exceptions(memory) == [names.EVENT_INFERENCE_EXCEPTION]
    assert memory.value("llm_token_usage", type="prompt") == 100


def test_failure_of_a_stream_in_a_block_is_one_event(memory: Memory, recorder: Recorder) -> None:
    def ask() -> None:
        with genai.inference(**_CALL) as call:
            list(call.stream(_words(True)))

    with pytest.raises(_Failure):
        ask()
    assert _recorded_once(memory, "failed")[names.ERROR_TYPE] == f"{__name__}._Failure"
    assert _exceptions(memory) == [names.EVENT_INFERENCE_EXCEPTION]


def test_failure_of_a_stream_that_is_handled_in_the_block_stays(
    memory: Memory, recorder: Recorder
) -> None:
    with genai.inference(**_CALL) as call, suppress(_Failure):
        list(call.stream(_words(True)))
    _recorded_once(memory, "failed")


def test_failure_without_an_exception_is_recorded(memory: Memory, recorder: Recorder) -> None:
    with genai.inference(**_CALL) as call:
        call.failed("rate_limit")
    span = memory.span("chat gpt-4o")
    assert span.status.status_code is StatusCode.ERROR
    assert _attributes(span)[names.ERROR_TYPE] == "rate_limit"


def test_texts_are_recorded_only_when_captured(memory: Memory, capturing: Recorder) -> None:
    parts = [{"type": "text", "text": SECRET}, {"type": "image_url", "image_url": {"url": "x"}}]
    messages: Any = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    with genai.inference(**_CALL, messages=messages) as call:
        call.response(text="none", finish_reason="stop")
    found = _attributes(memory.span("chat gpt-4o"))
    assert SECRET in found[names.GEN_AI_INPUT_MESSAGES]
    assert '"none"' in found[names.GEN_AI_OUTPUT_MESSAGES]


def test_texts_are_recorded_nowhere_by_default(memory: Memory, recorder: Recorder) -> None:
    def ask() -> None:
        with genai.inference(**_CALL, messages=[{"role": "user", "content": SECRET}]) as call:
            call.chunk(SECRET)
            raise RuntimeError(SECRET)

    with pytest.raises(RuntimeError):
        ask()
    assert memory.spans
    assert not any(SECRET in span.to_json() for span in memory.spans)


async def _in_async_block() -> None:
    async with genai.inference(**_CALL) as call:
        await asyncio.sleep(0)
        assert trace.get_current_span().get_span_context().trace_id == int(call.trace_id, 16)
        call.response(text="x")


def test_async_block_records(memory: Memory, recorder: Recorder) -> None:
    asyncio.run(_in_async_block())
    assert _attributes(memory.span("chat gpt-4o"))[names.ANSWER_OUTCOME] == "completed"


# -- every kind of function, every end -------------------------------------------------


class _Failure(Exception):
    pass


_FAILURE = _Failure("mine")


def _words(fails: bool) -> Iterator[str]:
    yield "one"
    assert trace.get_current_span().is_recording()
    if fails:
        raise _FAILURE
    yield "two"


@genai.inference(**_CALL)
def _function(fails: bool) -> str:
    assert trace.get_current_span().is_recording()
    if fails:
        raise _FAILURE
    genai.current_call().response(usage=Usage(3, 2))
    return "one two"


@genai.inference(**_CALL)
async def _coroutine(fails: bool) -> str:
    await asyncio.sleep(0)
    assert trace.get_current_span().is_recording()
    if fails:
        raise _FAILURE
    return "one two"


@genai.inference(**_CALL)
def _generator(fails: bool) -> Iterator[str]:
    yield from _words(fails)


@genai.inference(**_CALL)
async def _async_generator(fails: bool) -> AsyncIterator[str]:
    for word in _words(fails):
        await asyncio.sleep(0)
        yield word


@genai.inference(**_CALL)
def _returned_stream(fails: bool) -> Iterator[str]:
    return _words(fails)  # not a generator function itself


def _wrapped_stream(fails: bool) -> Iterator[str]:
    stream: Iterator[str] = genai.inference(**_CALL).stream(_words(fails))
    return stream


async def _async_words(fails: bool) -> AsyncIterator[str]:
    for word in _words(fails):
        await asyncio.sleep(0)
        yield word


def _wrapped_async_stream(fails: bool) -> AsyncIterator[str]:
    stream: AsyncIterator[str] = genai.inference(**_CALL).stream(_async_words(fails))
    return stream


def _block_in_a_generator(fails: bool) -> Iterator[str]:
    with genai.inference(**_CALL) as call:
        words = iter(("one", "two"))
        for word in words:
            call.chunk(word)
            yield word
            if fails:
                raise _FAILURE


async def _block_in_an_async_generator(fails: bool) -> AsyncIterator[str]:
    async with genai.inference(**_CALL) as call:
        for word in ("one", "two"):
            call.chunk(word)
            yield word
            if fails:
                raise _FAILURE


_GENERATORS = {
    "generator": _generator,
    "returned stream": _returned_stream,
    "wrapped stream": _wrapped_stream,
    "block in a generator": _block_in_a_generator,
}
_ASYNC_GENERATORS = {
    "async generator": _async_generator,
    "wrapped async stream": _wrapped_async_stream,
    "block in an async generator": _block_in_an_async_generator,
}


def _is_current() -> bool:
    return trace.get_current_span().get_span_context().is_valid


def _consume(make: Callable[[bool], Any], *, fails: bool, most: int = 9) -> list[str]:
    """Consume a generator of either kind, and see that no span is current meanwhile."""
    items: list[str] = []

    def note(item: str) -> bool:
        assert not _is_current()
        items.append(item)
        return len(items) == most

    async def consume_async() -> None:
        async for item in make(fails):
            if note(item):
                break

    if make in _ASYNC_GENERATORS.values():
        asyncio.run(consume_async())
    else:
        for item in make(fails):
            if note(item):
                break
    assert not _is_current()
    return items


def _recorded_once(memory: Memory, outcome: str) -> dict[str, Any]:
    _flush()
    span = memory.span("chat gpt-4o")
    found = _attributes(span)
    assert found[names.ANSWER_OUTCOME] == outcome
    assert memory.value("gen_ai.client.inference.duration") == 1
    assert memory.value("llm_response_time") == 1
    assert memory.value("chatscope.answers.active") == 0
    return found


@pytest.mark.parametrize("kind", [*_GENERATORS, *_ASYNC_GENERATORS])
def test_stream_to_its_end_is_recorded_once(kind: str, memory: Memory, recorder: Recorder) -> None:
    assert _consume((_GENERATORS | _ASYNC_GENERATORS)[kind], fails=False) == ["one", "two"]
    found = _recorded_once(memory, "completed")
    assert found[names.GEN_AI_REQUEST_STREAM] is True
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 2
    assert found[names.USAGE_PARTIAL] is True
    assert memory.value("gen_ai.client.inference.time_to_first_chunk") == 1
    assert memory.value("gen_ai.client.inference.time_per_output_chunk") == 1


@pytest.mark.parametrize("kind", [*_GENERATORS, *_ASYNC_GENERATORS])
def test_stream_that_fails_is_recorded_once_with_the_exception_unchanged(
    kind: str, memory: Memory, recorder: Recorder
) -> None:
    with pytest.raises(_Failure) as raised:
        _consume((_GENERATORS | _ASYNC_GENERATORS)[kind], fails=True)
    assert raised.value is _FAILURE
    assert raised.value.__context__ is raised.value.__cause__ is None
    found = _recorded_once(memory, "failed")
    assert found[names.ERROR_TYPE] == f"{__name__}._Failure"
    assert _exceptions(memory) == [names.EVENT_INFERENCE_EXCEPTION]


@pytest.mark.parametrize("kind", [*_GENERATORS, *_ASYNC_GENERATORS])
def test_break_is_recorded_once_as_cancelled(kind: str, memory: Memory, recorder: Recorder) -> None:
    assert _consume((_GENERATORS | _ASYNC_GENERATORS)[kind], fails=False, most=1) == ["one"]
    gc.collect()
    found = _recorded_once(memory, "cancelled")
    assert found[names.ERROR_TYPE] == "cancelled"
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 1


@pytest.mark.parametrize("kind", _GENERATORS)
def test_stream_closed_twice_is_recorded_once(
    kind: str, memory: Memory, recorder: Recorder
) -> None:
    stream: Any = _GENERATORS[kind](False)
    next(stream)
    stream.close()
    stream.close()
    _recorded_once(memory, "cancelled")


@pytest.mark.parametrize("kind", _ASYNC_GENERATORS)
def test_async_stream_closed_twice_is_recorded_once(
    kind: str, memory: Memory, recorder: Recorder
) -> None:
    async def close() -> None:
        stream: Any = _ASYNC_GENERATORS[kind](False)
        await anext(stream)
        await stream.aclose()
        await stream.aclose()

    asyncio.run(close())
    _recorded_once(memory, "cancelled")


@pytest.mark.parametrize("kind", _GENERATORS)
def test_abandoned_stream_in_a_cycle_is_recorded_by_the_garbage_collector(
    kind: str, memory: Memory, recorder: Recorder
) -> None:
    gc.disable()
    try:
        stream = _GENERATORS[kind](False)
        next(stream)
        cycle = [stream]
        cycle.append(cycle)  # type: ignore[arg-type]
        del stream, cycle
        assert memory.spans == ()
    finally:
        gc.enable()
    gc.collect()
    _recorded_once(memory, "cancelled")


def test_stream_that_was_never_read_is_recorded_when_it_is_dropped(
    memory: Memory, recorder: Recorder
) -> None:
    _wrapped_stream(False)
    _recorded_once(memory, "cancelled")


def test_generator_that_was_never_started_called_no_model(
    memory: Memory, recorder: Recorder
) -> None:
    _generator(False)
    _async_generator(False)
    gc.collect()
    _flush()
    assert memory.spans == ()


@pytest.mark.parametrize("kind", [*_ASYNC_GENERATORS, "coroutine"])
def test_cancelled_task_is_recorded_once(kind: str, memory: Memory, recorder: Recorder) -> None:
    waiting = asyncio.Event

    async def consume() -> None:
        never = waiting()

        @genai.inference(**_CALL)
        async def wait_forever() -> None:
            await never.wait()

        async def words() -> AsyncIterator[str]:
            yield "one"
            await never.wait()

        async def decorated() -> None:
            async for _ in genai.inference(**_CALL)(words)():
                pass

        async def wrapped() -> None:
            async for _ in genai.inference(**_CALL).stream(words()):
                pass

        async def block() -> None:
            async with genai.inference(**_CALL):
                await never.wait()

        ways = dict(zip(_ASYNC_GENERATORS, (decorated, wrapped, block), strict=True))
        task = asyncio.create_task({**ways, "coroutine": wait_forever}[kind]())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(consume())
    _recorded_once(memory, "cancelled")


@pytest.mark.parametrize("kind", ["block", "decorated"])
def test_coroutine_destroyed_in_another_context_is_recorded_without_a_complaint(
    kind: str, memory: Memory, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait() -> None:
        await _Suspend()

    async def block() -> None:
        async with genai.inference(**_CALL):
            await wait()

    pending = block() if kind == "block" else genai.inference(**_CALL)(wait)()
    contextvars.copy_context().run(pending.send, None)
    pending.close()
    _recorded_once(memory, "cancelled")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert not _is_current()


class _Suspend:
    def __await__(self) -> Generator[None, None, None]:
        yield


def test_functions_record_their_return(memory: Memory, recorder: Recorder) -> None:
    assert _function(False) == "one two"
    assert asyncio.run(_coroutine(False)) == "one two"
    first, second = memory.spans
    assert _attributes(first)[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 2
    for span in (first, second):
        assert _attributes(span)[names.ANSWER_OUTCOME] == "completed"
        assert names.ANSWER_EMPTY not in _attributes(span)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_function_that_fails_is_recorded_once(
    kind: str, memory: Memory, recorder: Recorder
) -> None:
    call = _function if kind == "function" else lambda fails: asyncio.run(_coroutine(fails))
    with pytest.raises(_Failure) as raised:
        call(True)
    assert raised.value is _FAILURE
    _recorded_once(memory, "failed")


def test_decorated_functions_keep_their_kind_and_name() -> None:
    assert inspect.iscoroutinefunction(_coroutine)
    assert inspect.isgeneratorfunction(_generator)
    assert inspect.isasyncgenfunction(_async_generator)
    assert [f.__name__ for f in (_function, _generator)] == ["_function", "_generator"]


def test_decorated_generator_passes_on_what_is_sent_and_thrown(
    memory: Memory, recorder: Recorder
) -> None:
    @genai.inference(**_CALL)
    def echo() -> Any:
        received: object = None
        while received != "end":
            try:
                received = yield received
            except _Failure as thrown:
                received = thrown
        return "returned"

    steps = echo()
    assert next(steps) is None
    assert steps.send("a") == "a"
    assert steps.throw(_FAILURE) is _FAILURE
    with pytest.raises(StopIteration) as end:
        steps.send("end")
    assert end.value.value == "returned"
    _recorded_once(memory, "completed")


def test_recording_waits_for_no_lock_while_a_generator_is_closed(
    memory: Memory, recorder: Recorder
) -> None:
    """The garbage collector may close one in code that holds the lock of an instrument."""
    lock = threading.Lock()
    record = recorder.instruments.inference_duration.record

    class Locked:
        def record(self, *args: Any) -> None:
            with lock:
                record(*args)

    recorder.instruments.__dict__["inference_duration"] = Locked()
    closed = threading.Event()
    streams = [make(False) for make in _GENERATORS.values()]
    for stream in streams:
        next(stream)

    def drop() -> None:
        with lock:
            streams.clear()
            gc.collect()
            closed.set()

    thread = threading.Thread(target=drop, daemon=True)
    del stream
    thread.start()
    assert closed.wait(60)
    _flush()
    assert len(memory.spans) == len(_GENERATORS)
    assert memory.value("gen_ai.client.inference.duration") == len(_GENERATORS)


# -- responses of common clients ---------------------------------------------------------


def _object(value: Any) -> Any:
    """JSON as the objects of a client."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _object(each) for name, each in value.items()})
    return [_object(each) for each in value] if isinstance(value, list) else value


_OPENAI_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
_OPENAI = {
    "id": "c-1",
    "model": "gpt-4o-2026",
    "choices": [{"message": {"content": "one two"}, "finish_reason": "stop"}],
    "usage": _OPENAI_USAGE,
}
_OPENAI_CHUNKS = [
    {"id": "c-1", "model": "gpt-4o-2026", "choices": [{"delta": {"content": "one "}}]},
    {"id": "c-1", "choices": [{"delta": {"content": "two"}, "finish_reason": None}]},
    {"id": "c-1", "choices": [{"delta": {"content": None, "tool_calls": [{"index": 0}]}}]},
    {"id": "c-1", "choices": [{"delta": {"content": None}, "finish_reason": "stop"}]},
    {"id": "c-1", "choices": [], "usage": _OPENAI_USAGE},
]
_RESPONSES_EVENTS = [
    {"type": "response.created", "response": {"id": "c-1", "model": "gpt-4o-2026"}},
    {"type": "response.output_text.delta", "delta": "one "},
    {"type": "response.output_text.delta", "delta": "two"},
    {"type": "response.function_call_arguments.delta", "delta": "{}"},
    {
        "type": "response.completed",
        "response": {
            "id": "c-1",
            "model": "gpt-4o-2026",
            "usage": {
                "input_tokens": 10,
                "output_tokens": 7,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 3},
            },
        },
    },
]
_ANTHROPIC = {
    "id": "c-1",
    "model": "gpt-4o-2026",
    "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
    "stop_reason": "stop",
    "usage": {
        "input_tokens": 4,
        "output_tokens": 7,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 2,
    },
}
_ANTHROPIC_EVENTS = [
    {
        "type": "message_start",
        "message": {
            **_ANTHROPIC,
            "content": [],
            "stop_reason": None,
            "usage": {
                "input_tokens": 4,
                "output_tokens": 1,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 2,
            },
        },
    },
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "one "}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "two"}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}},
    {"type": "content_block_stop"},
    {"type": "ping"},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "stop"},
        "usage": {"output_tokens": 7},
    },
]


def _check_facts(memory: Memory, reason: bool = True) -> None:
    found = _attributes(memory.span("chat gpt-4o"))
    assert found[names.GEN_AI_RESPONSE_ID] == "c-1"
    assert found[names.GEN_AI_RESPONSE_MODEL] == "gpt-4o-2026"
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == 10
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 7
    assert found[names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] == 4
    assert "one two" in found[names.GEN_AI_OUTPUT_MESSAGES]
    if reason:
        assert found[names.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)


@pytest.mark.parametrize("shape", [lambda value: value, _object], ids=["json", "objects"])
@pytest.mark.parametrize("response", [_OPENAI, _ANTHROPIC], ids=["openai", "anthropic"])
def test_response_of_a_client_is_read(
    response: Any, shape: Callable[[Any], Any], memory: Memory, capturing: Recorder
) -> None:
    with genai.inference(**_CALL) as call:
        call.response(shape(response))
    _check_facts(memory)


@pytest.mark.parametrize("shape", [lambda value: value, _object], ids=["json", "objects"])
@pytest.mark.parametrize(
    ("chunks", "reason"),
    [(_OPENAI_CHUNKS, True), (_RESPONSES_EVENTS, False), (_ANTHROPIC_EVENTS, True)],
    ids=["openai", "responses", "anthropic"],
)
def test_stream_of_a_client_is_read(
    chunks: list[Any],
    reason: bool,
    shape: Callable[[Any], Any],
    memory: Memory,
    capturing: Recorder,
) -> None:
    passed = [shape(chunk) for chunk in chunks]
    with genai.inference(**_CALL) as call:
        assert list(call.stream(passed)) == passed
    _check_facts(memory, reason)
    # Between two texts and a part of a tool call.
    assert memory.value("gen_ai.client.inference.time_per_output_chunk") == 2


def test_usage_after_the_stream_is_recorded(memory: Memory, recorder: Recorder) -> None:
    with genai.inference(**_CALL) as call:
        for _ in call.stream(["one", "two"]):
            pass
        call.response(usage=Usage(9, 5))
    found = _attributes(memory.span("chat gpt-4o"))
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 5
    assert names.USAGE_PARTIAL not in found


def test_recorded_stream_offers_what_the_clients_stream_offers(
    memory: Memory, recorder: Recorder
) -> None:
    class Stream:
        response = "the HTTP response"
        is_closed = False

        def __iter__(self) -> Iterator[str]:
            yield "one"

        def close(self) -> None:
            self.is_closed = True

    inner = Stream()
    stream: Any = genai.inference(**_CALL).stream(inner)
    assert stream.response == "the HTTP response"
    with pytest.raises(AttributeError):
        _ = stream.missing
    stream.close()
    assert inner.is_closed
    _recorded_once(memory, "cancelled")


# -- nesting -----------------------------------------------------------------------------


def test_call_inside_of_a_call_is_the_same_call(memory: Memory, recorder: Recorder) -> None:
    with genai.inference(**_CALL) as outer:
        with genai.inference(model="inner", provider="openai") as call:
            call.chunk("ignored")
            call.response(text="one", usage=Usage(3, 2), id="r-9")
        outer.response(text="one")
    found = _recorded_once(memory, "completed")
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == 3
    assert found[names.GEN_AI_RESPONSE_ID] == "r-9"
    assert memory.value("llm_token_usage", type="prompt") == 3


def test_call_of_a_tool_inside_of_a_call_is_another_call(
    memory: Memory, recorder: Recorder
) -> None:
    inner = genai.inference(model="inner", provider="openai")
    with genai.inference(**_CALL), genai.execute_tool("summarize"), inner:
        pass
    assert [span.name for span in memory.spans] == [
        "chat inner",
        "execute_tool summarize",
        "chat gpt-4o",
    ]


def test_agents_calls_and_tools_are_its_children_and_belong_to_its_conversation(
    memory: Memory, recorder: Recorder
) -> None:
    with genai.invoke_agent("planner", id="a-1", conversation_id="c-1", model=MODEL):
        with genai.inference(**_CALL):
            pass
        with genai.execute_tool("search"), genai.invoke_agent("helper"):
            pass
    agent = memory.span("invoke_agent planner")
    assert agent.kind is SpanKind.INTERNAL
    assert _attributes(agent) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.agent.id": "a-1",
        "gen_ai.request.model": MODEL,
        "gen_ai.conversation.id": "c-1",
    }
    for name in ("chat gpt-4o", "invoke_agent helper"):
        assert _attributes(memory.span(name))[names.GEN_AI_CONVERSATION_ID] == "c-1"
    for name in ("chat gpt-4o", "execute_tool search"):
        parent = memory.span(name).parent
        assert parent is not None
        assert agent.context is not None
        assert parent.span_id == agent.context.span_id
    assert memory.value("gen_ai.invoke_agent.duration", gen_ai__agent__name="planner") == 1
    # Its tokens are those of the calls inside.
    assert memory.points("llm_token_usage") == []


def test_remote_agent_is_a_client(memory: Memory, recorder: Recorder) -> None:
    with genai.invoke_agent("planner", remote=True, provider="openai"):
        pass
    assert memory.span("invoke_agent planner").kind is SpanKind.CLIENT


# -- tools and embeddings ----------------------------------------------------------------


@genai.execute_tool
def weather(city: str, *, unit: str = "C") -> dict[str, object]:
    """The weather."""
    if city == "nowhere":
        raise LookupError(city)
    return {"city": city, "degrees": 21}


def test_tool_has_the_conventions_span_and_duration(memory: Memory, recorder: Recorder) -> None:
    assert weather("Rome", unit="F") == {"city": "Rome", "degrees": 21}
    with pytest.raises(LookupError):
        weather("nowhere")
    good, bad = memory.spans
    assert (good.name, good.kind) == ("execute_tool weather", SpanKind.INTERNAL)
    assert _attributes(good) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "weather",
    }
    assert bad.status.status_code is StatusCode.ERROR
    assert _attributes(bad)[names.ERROR_TYPE] == "LookupError"
    assert memory.value("gen_ai.execute_tool.duration", gen_ai__tool__name="weather") == 2
    assert memory.value("gen_ai.execute_tool.duration", error__type="LookupError") == 1


def test_arguments_and_result_of_a_tool_are_recorded_when_captured(
    memory: Memory, capturing: Recorder
) -> None:
    weather("Rome")
    with genai.execute_tool("lookup", call_id="t-1", type="function", arguments="{}") as tool:
        tool.result(object)
    decorated, block = map(_attributes, memory.spans)
    assert decorated[names.GEN_AI_TOOL_CALL_ARGUMENTS] == '{"city":"Rome"}'
    assert decorated[names.GEN_AI_TOOL_CALL_RESULT] == '{"city":"Rome","degrees":21}'
    assert block[names.GEN_AI_TOOL_CALL_ID] == "t-1"
    assert block[names.GEN_AI_TOOL_CALL_ARGUMENTS] == "{}"
    assert "object" in block[names.GEN_AI_TOOL_CALL_RESULT]


def test_embeddings_have_the_conventions_span_counts_and_cost(
    memory: Memory, recorder: Recorder
) -> None:
    with genai.embeddings(**_CALL, dimensions=256) as call:
        call.response({"model": "e-2026", "usage": {"prompt_tokens": 8, "total_tokens": 8}})
    span = memory.span("embeddings gpt-4o")
    assert span.kind is SpanKind.CLIENT
    assert _attributes(span) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.embeddings.dimension.count": 256,
        "gen_ai.response.model": "e-2026",
        "gen_ai.usage.input_tokens": 8,
        "chatscope.answer.cost": pytest.approx(0.00002),
    }
    assert memory.value("gen_ai.client.embeddings.duration") == 1
    assert memory.value("gen_ai.client.embeddings.operation.input_tokens") == 1
    assert memory.points("gen_ai.client.inference.duration") == []
    assert memory.value("llm_token_usage", type="prompt") == 8
    assert memory.value("llm_cost") == pytest.approx(0.00002)
    assert memory.points("llm_response_time") == []


# -- metrics: labels, prefix, single values ------------------------------------------------


def test_metrics_name_the_first_hundred_models(memory: Memory, recorder: Recorder) -> None:
    for number in range(105):
        with genai.inference(model=f"m{number}", provider="openai"):
            pass
    points = memory.points("llm_response_time")
    assert len(points) == 101
    assert memory.value("llm_response_time", gen_ai__request__model=names.OTHER) == 5


def test_prefix_is_that_of_all_names_of_our_own(memory: Memory) -> None:
    recorder = _recorder(memory, prefix="shop")
    genai.use_recorder(recorder)
    with genai.inference(**_CALL) as call:
        call.response(text="x", usage=Usage(1, 1))
    genai.forget_recorder(recorder)
    recorder.instruments.show_limits({"answers": 1})
    found = _attributes(memory.span("chat gpt-4o"))
    assert "shop.answer.cost" in found
    assert not [name for name in found if name.startswith("chatscope.")]
    metrics = memory.metrics()
    assert {"shop.answers.active", "shop.limit.value", "llm_cost"} <= set(metrics)
    [point] = memory.points("shop.limit.value")
    assert dict(point.attributes) == {"shop.limit": "answers"}


def test_single_values_are_recorded(memory: Memory, recorder: Recorder) -> None:
    genai.record_socket_connection(1)
    genai.record_message("user")
    genai.record_llm_response_time(1.5)
    genai.record_token_usage("prompt", 12, model=MODEL)
    assert memory.value("socket_connections") == 1
    assert memory.value("message_count", role="user") == 1
    [point] = memory.points("llm_response_time")
    assert (point.attributes, point.value) == ({}, 1)
    assert memory.value("llm_token_usage", type="prompt", gen_ai__request__model=MODEL) == 12


def test_no_instrument_exists_before_its_first_use() -> None:
    class Meter:
        created: list[str] = []  # noqa: RUF012

        def __getattr__(self, kind: str) -> Callable[..., Any]:
            def create(name: str, *_: Any, **__: Any) -> Any:
                self.created.append(name)
                return SimpleNamespace(add=lambda *_, **__: None)

            return create

    instruments = Instruments(Meter())  # type: ignore[arg-type]
    assert Meter.created == []
    instruments.record_message("user")
    instruments.record_message("user")
    assert Meter.created == ["message_count"]


# -- errors: the caller's pass, ours do not --------------------------------------------------


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the warnings about telemetry itself, of which none was given before."""
    monkeypatch.setattr(arguments, "warnings", Warnings())
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("opentelemetry")]


def test_invalid_arguments_are_reported_once_and_do_not_raise(
    memory: Memory, recorder: Recorder, warnings: Any
) -> None:
    for _ in range(3):
        with genai.inference(model=5, provider="openai") as call:  # type: ignore[arg-type]
            call.chunk(b"x")  # type: ignore[arg-type]
            call.response(usage="many", id=7)  # type: ignore[arg-type]
        with genai.inference(**{**_CALL, "messages": "hello"}) as call:
            call.chunk("x")
            call.response(usage=Usage("many", "more"))  # type: ignore[arg-type]
            assert call.usage == Usage(0, 1, partial=True)
        with genai.execute_tool(7):  # type: ignore[call-overload]
            pass
    genai.record_message(None)  # type: ignore[arg-type]
    genai.record_message(5)  # type: ignore[arg-type]
    genai.record_socket_connection("one")  # type: ignore[arg-type]
    genai.record_llm_response_time("slow")  # type: ignore[arg-type]
    genai.record_token_usage("prompt", "many")  # type: ignore[arg-type]
    genai.record_token_usage("total", 1)
    genai.record_token_usage("prompt", -1)
    messages = [message for message in warnings() if "similar" not in message]
    assert messages == [
        "model must be str (got int)",
        "text of a chunk must be str (got bytes)",
        "usage must be Usage (got str)",
        "id must be str (got int)",
        "messages must be mappings with role and content",
        "name of a tool must be str (got int)",
        "role must be str (got int)",
        "delta must be int (got str)",
        "seconds must be float (got str)",
        "count must be int (got str)",
        "type must be prompt or completion (got 'total')",
        "count must be >= 0 (got -1)",
    ]
    assert [span.name for span in memory.spans].count("chat unknown") == 3


class _BrokenTracer:
    def start_span(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")


@pytest.mark.parametrize("kind", [*_GENERATORS, *_ASYNC_GENERATORS])
def test_broken_telemetry_changes_nothing_for_the_caller(
    kind: str, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = _recorder(memory, tracer=_BrokenTracer())
    monkeypatch.setattr(f"{__name__}._words", lambda fails: iter(("one", "two")))
    genai.use_recorder(recorder)
    try:
        make = (_GENERATORS | _ASYNC_GENERATORS)[kind]
        with containing_errors():
            assert _consume(make, fails=False) == ["one", "two"]
            assert weather("Rome")
            with genai.inference(**_CALL) as call:
                call.chunk("x")
                call.response(text="x")
            with genai.embeddings(**_CALL) as embedded:
                embedded.response(tokens=1)
    finally:
        genai.forget_recorder(recorder)
    assert memory.spans == ()


def test_object_that_cannot_be_read_is_passed_on(memory: Memory, recorder: Recorder) -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    chunk = Hostile()
    with containing_errors(), genai.inference(**_CALL) as call:
        assert list(call.stream([chunk])) == [chunk]
        call.response(Hostile())
        assert call.stream(5) == 5  # type: ignore[call-overload]
    _recorded_once(memory, "completed")


# -- providers that are not ours -------------------------------------------------------------

_GLOBAL = """
import os, sys
from chatscope import genai

@genai.inference(model="gpt-4o", provider="openai")
def words():
    yield from ("one", "two", "three")

list(words())  # before there is a provider: recorded nowhere, and harmless

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

list(words())
abandoned = words()
next(abandoned)
if child := os.fork():  # the child has a thread of its own
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    exporter.clear()
    next(words())
    from chatscope.genai.deferred import WORKER
    assert WORKER.flush(60.0)
    assert len(exporter.get_finished_spans()) == 1
    os._exit(0)
[span] = exporter.get_finished_spans()
assert span.name == "chat gpt-4o", span.name
found = {
    metric.name: sum(getattr(p, "count", 1) for p in metric.data.data_points)
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
    for metric in scope.metrics
}
assert found["gen_ai.client.inference.time_per_output_chunk"] == 2, found
assert found["llm_response_time"] == 1, found
print("ok")
"""


def test_global_providers_are_found_when_they_are_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _GLOBAL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


def test_public_names_are_found_without_loading_the_sdk() -> None:
    code = "import sys, chatscope.genai; print([n for n in sys.modules if 'opentelemetry' in n])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    for name in genai.__all__:
        assert getattr(genai, name) is not None
