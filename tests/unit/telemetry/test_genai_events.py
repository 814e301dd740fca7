"""What is recorded of a request, its texts and its tokens: on the span, as events, on metrics."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber

from chatscope import Telemetry, genai, names
from chatscope.genai.request import ModelRequest, Usage
from chatscope.providers import TelemetrySettings
from tests.memory import Memory

MODEL = "gpt-4o"
SECRET = "the capital of nowhere"
_TOOL = {"type": "function", "function": {"name": "weather", "description": SECRET}}
_REQUEST = ModelRequest(
    provider="openai",
    model=MODEL,
    top_k=40,
    choice_count=2,
    reasoning_level="low",
    output_type="json",
    conversation_id="conversation-1",
    session_id="session-1",
    user_id="user-1",
    prompt_name="forecast",
    prompt_version="7",
    previous_response_id="r-0",
    system_instructions=SECRET,
    tools=[_TOOL],
    messages=[{"role": "user", "content": SECRET}],
)
_WITHOUT_TEXTS = {
    "gen_ai.request.top_k": 40,
    "gen_ai.request.choice.count": 2,
    "gen_ai.request.reasoning.level": "low",
    "gen_ai.output.type": "json",
    "gen_ai.conversation.id": "conversation-1",
    "session.id": "session-1",
    "user.id": "user-1",
    "gen_ai.prompt.name": "forecast",
    "gen_ai.prompt.version": "7",
    "gen_ai.request.previous_response.id": "r-0",
}
_OUTPUT: list[dict[str, Any]] = [
    {"content": f"{SECRET} 1", "finish_reason": "stop"},
    {"tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{}"}}]},
]
_TEXTS = {
    "gen_ai.system_instructions": [{"type": "text", "content": SECRET}],
    "gen_ai.tool.definitions": [{"type": "function", "name": "weather", "description": SECRET}],
    "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}],
    "gen_ai.output.messages": [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": f"{SECRET} 1"}],
            "finish_reason": "stop",
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c", "name": "weather", "arguments": {}}],
            "finish_reason": "tool_calls",
        },
    ],
}


@contextmanager
def _started(memory: Memory, **options: Any) -> Iterator[Telemetry]:
    telemetry = Telemetry(TelemetrySettings(**options), memory.providers)
    telemetry.start()
    yield telemetry
    telemetry.shutdown()


def _record(memory: Memory, usage: Usage | None = None, **options: Any) -> dict[str, Any]:
    """Record one response; return the attributes of its span."""
    with _started(memory, **options) as telemetry:
        answer = telemetry.start_answer(_REQUEST, started=0.0)
        answer.came_out(_OUTPUT)
        answer.completed(finish_reason="tool_calls", usage=usage or Usage(10, 4))
        answer.close()
    return dict(memory.span(f"chat {MODEL}").attributes or {})


def _texts(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: json.loads(found[name]) for name in _TEXTS if name in found}


def _details(memory: Memory) -> list[Any]:
    records = [each.log_record for each in memory.logs]
    return [each for each in records if each.event_name == names.EVENT_INFERENCE_DETAILS]


def test_request_has_the_attributes_of_the_conventions() -> None:
    memory = Memory()
    found = _record(memory)
    assert found.items() >= _WITHOUT_TEXTS.items()
    assert not _texts(found)


def test_one_choice_is_not_recorded() -> None:
    memory = Memory()
    with _started(memory) as telemetry:
        request = ModelRequest(provider="openai", model=MODEL, choice_count=1)
        telemetry.start_answer(request, started=0.0).close()
    assert "gen_ai.request.choice.count" not in (memory.span(f"chat {MODEL}").attributes or {})


@pytest.mark.parametrize(
    ("spans", "events"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_texts_are_where_they_were_asked_for(spans: bool, events: bool) -> None:
    memory = Memory()
    found = _record(memory, capture_content=spans, capture_events=events)
    assert _texts(found) == (_TEXTS if spans else {})
    details = _details(memory)
    assert [_texts(each.attributes) for each in details] == ([_TEXTS] if events else [])
    for each in memory.logs:
        if each.log_record not in details:
            assert SECRET not in repr(each.log_record)
    if not spans:
        assert SECRET not in repr(found)


def test_details_are_the_spans_attributes_in_its_context() -> None:
    memory = Memory()
    span = _record(memory, capture_content=True, capture_events=True)
    [event] = _details(memory)
    assert event.severity_number is SeverityNumber.DEBUG
    assert dict(event.attributes) == span
    context = memory.span(f"chat {MODEL}").context
    assert context is not None
    assert (event.trace_id, event.span_id) == (context.trace_id, context.span_id)


def test_details_are_exported_at_any_log_level() -> None:
    memory = Memory()
    _record(memory, capture_events=True, log_level="ERROR")
    assert len(_details(memory)) == 1


def test_who_asked_is_on_the_log_record_and_on_no_metric() -> None:
    memory = Memory()
    _record(memory)
    record = memory.log("answer completed").log_record
    asked = {"user.id": "user-1", "session.id": "session-1"}
    assert (record.attributes or {}).items() >= asked.items()
    labels = {
        (metric.name, label)
        for metric in memory.metrics().values()
        for point in metric.data.data_points
        for label in point.attributes or ()
    }
    kept_off = {*asked, "gen_ai.conversation.id", "gen_ai.prompt.name", "gen_ai.prompt.version"}
    assert labels
    assert not {each for each in labels if each[1] in kept_off}


def _counted(memory: Memory, name: str) -> dict[object, float]:
    points = memory.points(f"gen_ai.client.inference.usage.{name}")
    return {each.attributes["gen_ai.token.modality"]: each.value for each in points}


def test_tokens_are_counted_by_kind_and_modality() -> None:
    memory = Memory()
    usage = Usage(
        100,
        50,
        cache_read_tokens=30,
        cache_write_tokens=5,
        reasoning_tokens=20,
        audio_input_tokens=40,
        audio_output_tokens=10,
        audio_cache_read_tokens=8,
        image_input_tokens=25,
    )
    found = _record(memory, usage)
    assert _counted(memory, "input_tokens") == {"audio": 40, "image": 25, "text": 35}
    assert _counted(memory, "output_tokens") == {"audio": 10, "unknown": 40}
    assert _counted(memory, "cache_read.input_tokens") == {"audio": 8, "unknown": 22}
    assert _counted(memory, "cache_write.input_tokens") == {"unknown": 5}
    assert _counted(memory, "reasoning.output_tokens") == {"unknown": 20}
    assert found["gen_ai.usage.input_tokens"] == 100
    assert found["gen_ai.usage.audio.input_tokens"] == 40
    assert found["gen_ai.usage.image.input_tokens"] == 25
    assert found["gen_ai.usage.cache_write.input_tokens"] == 5


def test_modalities_that_do_not_add_up_never_exceed_the_total() -> None:
    memory = Memory()
    _record(memory, Usage(10, 4, audio_input_tokens=8, image_input_tokens=7))
    assert _counted(memory, "input_tokens") == {"audio": 8, "text": 2}


def test_failed_call_counts_as_zero_tokens() -> None:
    memory = Memory()
    with _started(memory) as telemetry:
        answer = telemetry.start_answer(_REQUEST, started=0.0)
        answer.failed("timeout")
        answer.close()
    assert _counted(memory, "input_tokens") == {"unknown": 0}
    assert _counted(memory, "output_tokens") == {"unknown": 0}
    assert _counted(memory, "cache_read.input_tokens") == {}
    assert memory.value("gen_ai.client.inference.operation.input_tokens", error__type="timeout")
    assert memory.value("gen_ai.server.request.duration", error__type="timeout") == 1


def test_retry_is_an_event_of_the_current_call_only() -> None:
    memory = Memory()
    with _started(memory) as telemetry:
        genai.record_retry({names.HTTP_RESEND_COUNT: 1})
        answer = telemetry.start_answer(_REQUEST, started=0.0)
        with answer.current():
            genai.record_retry({names.HTTP_RESEND_COUNT: 1, names.ERROR_TYPE: "timeout"})
        answer.close()
    event = memory.log(names.EVENT_RETRY).log_record
    assert event.event_name == names.EVENT_RETRY
    assert dict(event.attributes or {}) == {
        "gen_ai.request.model": MODEL,
        "gen_ai.provider.name": "openai",
        "http.request.resend_count": 1,
        "error.type": "timeout",
    }
    assert f"{event.trace_id:032x}" == answer.trace_id


_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
_CALLED = {"type": "tool_call", "id": "c", "name": "f", "arguments": {"x": 1}}
_COMPLETION = {
    "choices": [
        {"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [_CALL]}}
    ]
}
_MESSAGE = {
    "role": "assistant",
    "stop_reason": "tool_use",
    "content": [
        {"type": "text", "text": "wait"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
    ],
}


def _object(found: Any) -> Any:
    """The same as an object of a client; arguments stay JSON."""
    if isinstance(found, dict):
        made = {key: each if key == "input" else _object(each) for key, each in found.items()}
        return SimpleNamespace(**made)
    return [_object(each) for each in found] if isinstance(found, list) else found


@pytest.mark.parametrize("made", [dict, _object], ids=["JSON", "object"])
@pytest.mark.parametrize(
    ("response", "parts", "reason"),
    [
        (_COMPLETION, [_CALLED], "tool_calls"),
        (_MESSAGE, [{"type": "text", "content": "wait"}, _CALLED], "tool_use"),
    ],
    ids=["OpenAI", "Anthropic"],
)
def test_recorded_response_has_its_tool_calls(
    made: Any, response: Any, parts: list[Any], reason: str
) -> None:
    memory = Memory()
    with _started(memory, capture_content=True) as telemetry:
        genai.use_recorder(telemetry.recorder)
        with genai.inference(model=MODEL, provider="openai", tools=[_TOOL]) as call:
            call.response(made(response))
        genai.forget_recorder(telemetry.recorder)
    found = _texts(memory.span(f"chat {MODEL}").attributes or {})
    assert found["gen_ai.tool.definitions"] == _TEXTS["gen_ai.tool.definitions"]
    assert found["gen_ai.output.messages"] == [
        {"role": "assistant", "parts": parts, "finish_reason": reason}
    ]


def test_failed_tool_has_the_event_of_its_exception() -> None:
    memory = Memory()
    with _started(memory) as telemetry:
        genai.use_recorder(telemetry.recorder)
        with pytest.raises(ValueError, match=SECRET), genai.execute_tool("search"):
            raise ValueError(SECRET)
        genai.forget_recorder(telemetry.recorder)
    event = memory.log(names.EVENT_EXECUTE_TOOL_EXCEPTION).log_record
    assert event.severity_text == "WARN"
    assert (event.attributes or {})["exception.type"] == "ValueError"
    assert SECRET not in repr(event)
    assert not memory.span("execute_tool search").events
