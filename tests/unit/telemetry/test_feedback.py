"""Ratings of responses: which response they belong to, and what is recorded."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from chatscope import genai, names, record_feedback
from chatscope.genai import Rating, Recorder
from chatscope.genai.feedback import record_rating
from chatscope.genai.pricing import PriceTable
from chatscope.genai.recent import RecentResponse, RecentResponses
from chatscope.guard import containing_errors
from chatscope.instruments import Instruments
from chatscope.otlp import redact_with
from chatscope.otlp.log_records import encode_log_record
from chatscope.otlp.redacting import process
from chatscope.otlp.spans import encode_span
from chatscope.redaction import Redactor
from tests.memory import Memory

MODEL = "gpt-4o"
_TRACE = "0af7651916cd43dd8448eb211c80319c"
_SPAN = "b7ad6b7169203331"
_ANSWER = "a1"
_EVALUATION = "evaluate response"


@pytest.fixture
def recorder(memory: Memory) -> Iterator[Recorder]:
    providers = memory.providers
    logger = providers.logger_provider.get_logger("test")

    def emit(name: str, level: str, attributes: Mapping[str, Any], context: Any) -> None:
        logger.emit(context=context, body=name, attributes=dict(attributes), event_name=name)

    recorder = Recorder(
        tracer=providers.tracer_provider.get_tracer("test"),
        instruments=Instruments(providers.meter_provider.get_meter("test"), frozenset({MODEL})),
        prices=PriceTable({}),
        emit=emit,
    )
    genai.use_recorder(recorder)
    yield recorder
    genai.forget_recorder(recorder)


def _respond(response_id: str = _ANSWER) -> str:
    """Record a response; return its trace ID."""
    with genai.inference(
        model=MODEL, provider="openai", conversation_id="c-1", user_id="ann", session_id="s-1"
    ) as call:
        call.response(text="x", id=response_id)
    return call.trace_id or ""


def _ratings(memory: Memory) -> list[ReadableSpan]:
    return [span for span in memory.spans if span.name == _EVALUATION]


def _event(memory: Memory) -> tuple[Any, dict[str, Any]]:
    record = memory.log(names.EVENT_EVALUATION).log_record
    assert record.event_name == names.EVENT_EVALUATION
    return record, dict(record.attributes or {})


@pytest.mark.parametrize("by", ["response_id", "trace_id"])
def test_rating_is_an_event_on_the_trace_of_the_response(
    memory: Memory, recorder: Recorder, by: str
) -> None:
    trace_id = _respond()
    given = {"response_id": _ANSWER, "trace_id": trace_id}[by]
    record_feedback("bad", score=0.25, comment="too short", **{by: given})
    record, attributes = _event(memory)
    span = memory.span(f"chat {MODEL}").context
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert attributes == {
        "gen_ai.evaluation.name": "user_feedback",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "bad",
        "gen_ai.evaluation.explanation": "too short",
        "gen_ai.request.model": MODEL,
        "gen_ai.provider.name": "openai",
        "gen_ai.response.id": _ANSWER,
        "gen_ai.conversation.id": "c-1",
        "session.id": "s-1",
        "user.id": "ann",
    }
    [point] = memory.points(names.FEEDBACK.name)
    assert point.value == 1
    assert point.attributes == {"gen_ai.request.model": MODEL, "chatscope.feedback.label": "bad"}


@pytest.mark.parametrize("by", ["response_id", "trace_id"])
def test_rating_is_a_span_below_the_model_call(memory: Memory, recorder: Recorder, by: str) -> None:
    trace_id = _respond()
    given = {"response_id": _ANSWER, "trace_id": trace_id}[by]
    record_feedback("bad", score=0.25, comment="too short", **{by: given})
    span, rated = memory.span(_EVALUATION), memory.span(f"chat {MODEL}").context
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (rated.trace_id, rated.span_id)
    assert span.context.trace_id == rated.trace_id
    assert span.context.span_id != rated.span_id
    assert span.kind is SpanKind.INTERNAL
    assert span.status.is_unset
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 <= span.end_time - span.start_time < 1_000_000_000
    assert span.attributes == {
        "gen_ai.evaluation.name": "user_feedback",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "bad",
        "gen_ai.evaluation.explanation": "too short",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.id": _ANSWER,
        "gen_ai.conversation.id": "c-1",
        "session.id": "s-1",
        "user.id": "ann",
    }


def test_span_of_a_rating_is_not_counted_as_a_model_call(
    memory: Memory, recorder: Recorder
) -> None:
    """Dashboards and alerts count spans with these attributes, which span metrics have."""
    _respond()
    record_feedback("bad", response_id=_ANSWER)
    record_feedback("bad", trace_id=_TRACE, span_id=_SPAN, model="a text of somebody")
    spans = _ratings(memory)
    assert len(spans) == 2
    counted = {names.GEN_AI_REQUEST_MODEL, names.GEN_AI_OPERATION_NAME, names.ANSWER_EMPTY}
    assert not [span for span in spans if counted & set(span.attributes or {})]


def test_rating_of_an_unknown_response_is_a_span_below_the_one_that_is_given(
    memory: Memory, recorder: Recorder
) -> None:
    record_feedback("good", trace_id=_TRACE, span_id=_SPAN, response_id="r-9")
    span = memory.span(_EVALUATION)
    assert span.parent is not None
    assert span.parent.is_remote
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (_TRACE, _SPAN)
    assert (span.attributes or {})["gen_ai.response.id"] == "r-9"


@pytest.mark.parametrize("ids", [{"response_id": "r-9"}, {"trace_id": _TRACE}, {}], ids=str)
def test_rating_without_a_known_span_makes_no_span(
    memory: Memory, recorder: Recorder, ids: dict[str, str]
) -> None:
    record_feedback("bad", **ids)
    _event(memory)
    assert not memory.spans


def test_rating_of_a_response_that_is_not_sampled_makes_no_span(
    memory: Memory, recorder: Recorder
) -> None:
    not_sampled = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0))
    recorder.recent.add(RecentResponse(not_sampled, {names.GEN_AI_RESPONSE_ID: _ANSWER}))
    # Its flag would not count for a sampler that records all of them.
    remote = SpanContext(3, 4, is_remote=True, trace_flags=TraceFlags(0))
    recorder.recent.add(RecentResponse(remote, {names.GEN_AI_RESPONSE_ID: "a2"}))
    for response_id in (_ANSWER, "a2"):
        record_feedback("bad", response_id=response_id)
    assert len(memory.logs) == 2
    assert not memory.spans


def test_comment_is_redacted_on_the_span_as_in_the_event(
    memory: Memory, recorder: Recorder
) -> None:
    secret = "sk-" + "canary0123456789abcdef"
    _respond()
    record_feedback("bad", comment=f"my key {secret}", response_id=_ANSWER)
    before = process.redaction
    redact_with(Redactor())
    try:
        span = SpanMessage.FromString(encode_span(memory.span(_EVALUATION)))
        event = encode_log_record(memory.log(names.EVENT_EVALUATION))
    finally:
        redact_with(before)
    shown = {each.key: each.value.string_value for each in span.attributes}
    assert shown["gen_ai.evaluation.explanation"] == "my key <redacted api key>"
    assert b"my key <redacted api key>" in event
    assert secret.encode() not in event + span.SerializeToString()


def test_failure_to_make_the_span_raises_nothing_and_keeps_event_and_counter(
    memory: Memory, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no span")

    response = RecentResponse(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)), {})
    recorder.recent.add(response)
    monkeypatch.setattr(recorder.tracer, "start_span", broken)
    rating = Rating(label="bad", trace_id=f"{1:032x}")
    with containing_errors():
        assert record_rating(recorder, rating)
    _event(memory)
    assert memory.value(names.FEEDBACK.name) == 1


def test_rating_of_an_unknown_response_has_the_ids_that_are_given(
    memory: Memory, recorder: Recorder
) -> None:
    record_feedback("good", trace_id=_TRACE, span_id=_SPAN, response_id="r-9", model=MODEL)
    record, attributes = _event(memory)
    assert (f"{record.trace_id:032x}", f"{record.span_id:016x}") == (_TRACE, _SPAN)
    assert attributes["gen_ai.response.id"] == "r-9"
    assert memory.value(names.FEEDBACK.name, gen_ai__request__model=MODEL) == 1


def test_rating_without_a_span_id_belongs_to_the_trace_only(
    memory: Memory, recorder: Recorder
) -> None:
    record_feedback("good", trace_id=_TRACE)
    record, _ = _event(memory)
    assert (f"{record.trace_id:032x}", record.span_id) == (_TRACE, 0)


def test_models_of_unknown_responses_are_limited_to_the_known_ones(
    memory: Memory, recorder: Recorder
) -> None:
    record_feedback("good", response_id="r-9", model="a text of somebody")
    record_feedback("good", response_id="r-9")
    [point] = memory.points(names.FEEDBACK.name)
    assert (point.value, point.attributes["gen_ai.request.model"]) == (2, "_OTHER")


def test_current_call_is_rated_without_an_id(memory: Memory, recorder: Recorder) -> None:
    with genai.inference(model=MODEL, provider="openai", user_id="ann") as call:
        call.response(text="x")
        record_feedback("good")
    record, attributes = _event(memory)
    assert f"{record.trace_id:032x}" == call.trace_id
    assert attributes["user.id"] == "ann"


@pytest.mark.parametrize(
    ("label", "score", "expected"),
    [
        *(("good", None, "good"), ("bad", None, "bad"), ("wrong language", None, "other")),
        *((None, 1, "good"), (None, 0.51, "good"), (None, 0.5, "other"), (None, 0, "bad")),
        *(("bad", 1, "bad"),),
    ],
)
def test_label_is_counted_as_one_of_three(
    memory: Memory, recorder: Recorder, label: str | None, score: float | None, expected: str
) -> None:
    record_feedback(label, score=score, response_id="r-9")
    assert memory.value(names.FEEDBACK.name, chatscope__feedback__label=expected) == 1
    assert _event(memory)[1]["gen_ai.evaluation.score.label"] == (label or expected)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("label", (None, "", "x" * 65, 5)),
        ("score", (-0.1, 1.1, float("nan"), True, "1")),
        ("comment", ("x" * 4001, 5)),
        ("name", ("", "x" * 65)),
        ("response_id", ("", "x" * 257)),
        ("trace_id", ("", "0" * 32, "A" * 32, _TRACE + "0", f"{_TRACE}\n")),
        ("span_id", ("", "0" * 16, _TRACE)),
        ("model", ("", "x" * 257)),
    ],
)
def test_invalid_value_is_named(argument: str, values: tuple[Any, ...]) -> None:
    for value in values:
        fields = {"label": "good", "trace_id": _TRACE, argument: value}
        problem = Rating(**fields).problem()
        assert problem is not None, value
        assert problem.argument == argument


def test_invalid_rating_is_not_recorded_and_raises_nothing(
    memory: Memory, recorder: Recorder
) -> None:
    record_feedback("good", score=5, response_id="r-9")
    assert not memory.logs
    assert not memory.points(names.FEEDBACK.name)


def test_oldest_responses_are_forgotten() -> None:
    recent = RecentResponses(2)
    for n in range(1, 4):
        span = SpanContext(n, n, is_remote=False, trace_flags=TraceFlags(1))
        recent.add(RecentResponse(span, {names.GEN_AI_RESPONSE_ID: f"r-{n}"}))
    assert recent.find("r-1") is None
    assert recent.find(f"{1:032x}") is None
    for n in (2, 3):
        found = recent.find(f"r-{n}")
        assert found is not None
        assert found is recent.find(None, f"{n:032x}")


def test_long_values_are_not_kept_in_memory() -> None:
    recent = RecentResponses()
    span = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1))
    recent.add(RecentResponse(span, {names.USER_ID: "x" * 257, names.SESSION_ID: "s"}))
    found = recent.find(f"{1:032x}")
    assert found is not None
    assert found.attributes == {names.SESSION_ID: "s"}
