"""The invariant of every response: everything is recorded exactly once."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from chatscope import names
from chatscope.genai.pricing import PriceTable
from tests.memory import Memory
from tests.unit.conformance.cases import Case, Record, Way
from tests.unit.conformance.scripts import MODEL

_CHAT = f"chat {MODEL}"
_GRAVE = ("WARN", "ERROR", "FATAL")


class Spans(SpanProcessor):
    """Tracks open spans."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.answered = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        assert span.context is not None
        self.open[span.context.span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        assert span.context is not None
        del self.open[span.context.span_id]
        if span.name == _CHAT:
            self._loop.call_soon_threadsafe(self.answered.set)


def assert_recorded_once(memory: Memory, spans: Spans, case: Case) -> None:
    """Check the whole invariant, after the server has stopped."""
    assert spans.open == {}
    record = case.record
    span = memory.span(_CHAT)
    _assert_span(span, record)
    _assert_events(memory, case, span)
    _assert_log(memory, case, span)
    _assert_counted(memory, record)
    _assert_tokens(memory, record)
    assert memory.value("message_count", role="user") == 1
    assert memory.value("message_count", role="assistant") == record.message
    assert memory.value("chatscope.answers.active") == 0
    assert memory.value("socket_connections") == 0
    assert memory.value("http.server.active_requests") == 0
    if case.way is Way.SOCKET:
        assert len(memory.points("socket_connections")) == 1


def _assert_span(span: ReadableSpan, record: Record) -> None:
    found = span.attributes or {}
    assert found.get(names.ANSWER_OUTCOME) == record.outcome
    assert found.get(names.ERROR_TYPE) == record.error_type
    assert (span.status.status_code is StatusCode.ERROR) == (record.outcome == "failed")
    _assert_totals(found, record)


def _assert_events(memory: Memory, case: Case, span: ReadableSpan) -> None:
    """Check retries and the exception, as log records in the context of the span."""
    assert not span.events
    assert span.context is not None
    records = [each.log_record for each in memory.logs if each.log_record.event_name]
    ids = {(each.trace_id, each.span_id) for each in records}
    assert ids <= {(span.context.trace_id, span.context.span_id)}
    kept = (names.HTTP_RESEND_COUNT, names.HTTP_RESPONSE_STATUS_CODE, names.ERROR_TYPE)
    retries = [
        {name: value for name, value in (each.attributes or {}).items() if name in kept}
        for each in records
        if each.event_name == names.EVENT_RETRY
    ]
    assert retries == [dict(retry) for retry in case.retries]
    exceptions = [e for e in records if e.event_name == names.EVENT_INFERENCE_EXCEPTION]
    assert len(exceptions) == (case.record.outcome == "failed")


def _assert_totals(found: Mapping[str, object], record: Record) -> None:
    tokens = record.tokens
    assert found.get(names.GEN_AI_USAGE_INPUT_TOKENS) == (tokens.prompt if tokens else None)
    assert found.get(names.GEN_AI_USAGE_OUTPUT_TOKENS) == (tokens.completion if tokens else None)
    assert found.get(names.USAGE_PARTIAL, False) == bool(tokens and tokens.partial)
    assert found.get(names.ANSWER_COST) == _cost(record)
    empty = record.outcome == "completed" and tokens is not None and not tokens.completion
    assert found.get(names.ANSWER_EMPTY, False) == empty


def _assert_log(memory: Memory, case: Case, span: ReadableSpan) -> None:
    record = case.record
    lines = [r.log_record for r in memory.logs if str(r.log_record.body).startswith("answer ")]
    assert [line.body for line in lines] == [f"answer {record.outcome}"]
    (line,) = lines
    assert span.context is not None
    assert line.severity_text == record.severity
    assert (line.trace_id, line.span_id) == (span.context.trace_id, span.context.span_id)
    attributes = line.attributes or {}
    assert attributes.get(names.ERROR_TYPE) == record.error_type
    _assert_totals(attributes, record)
    others = [r.log_record.body for r in memory.logs if _is_grave(r) and r.log_record is not line]
    assert tuple(others) == case.logged


def _is_grave(record: ReadableLogRecord) -> bool:
    found = record.log_record
    return found.severity_text in _GRAVE and not found.event_name


def _assert_counted(memory: Memory, record: Record) -> None:
    """Check that it is counted once, under its error type."""
    for metric in ("llm_response_time", "gen_ai.client.inference.duration"):
        points = memory.points(metric)
        assert [point.value for point in points] == [1], metric
        assert points[0].attributes.get(names.ERROR_TYPE) == record.error_type, metric


def _assert_tokens(memory: Memory, record: Record) -> None:
    tokens = record.tokens
    counted = {p.attributes["type"]: p.value for p in memory.points("llm_token_usage")}
    expected = {"prompt": tokens.prompt, "completion": tokens.completion} if tokens else {}
    assert counted == expected
    for metric, used, count in (
        ("operation.input_tokens", "usage.input_tokens", tokens.prompt if tokens else 0),
        ("operation.output_tokens", "usage.output_tokens", tokens.completion if tokens else 0),
    ):
        # Once for each call, 0 if unknown.
        assert memory.value(f"gen_ai.client.inference.{metric}") == 1
        assert memory.value(f"gen_ai.client.inference.{used}") == count
    assert [point.value for point in memory.points("llm_cost")] == (
        [_cost(record)] if tokens else []
    )


def _cost(record: Record) -> float | None:
    tokens = record.tokens
    if tokens is None:
        return None
    return PriceTable.load(None).cost(MODEL, tokens.prompt, tokens.completion)


async def answered(spans: Spans) -> None:
    """Wait until the response is recorded; after the time limit, later checks report the rest."""
    with suppress(TimeoutError):
        await asyncio.wait_for(spans.answered.wait(), 60)
