"""Every text of a span, a log record and a metric point is redacted where it becomes bytes."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import Exemplar, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, TraceState

from chatscope.otlp import processors, redact_with
from chatscope.otlp.batch import encode_group
from chatscope.otlp.log_records import encode_log_record, encode_plain, plain_attributes
from chatscope.otlp.metrics import encode_points, metric_head
from chatscope.otlp.redacting import process
from chatscope.otlp.spans import encode_span
from chatscope.otlp.steps import Steps
from chatscope.redaction import Redactor

_SECRET = "sk-" + "canary0123456789abcdef"
_MARK = b"<redacted api key>"
_CARD = 4_111_111_111_111_111


@pytest.fixture(autouse=True)
def redaction() -> Iterator[None]:
    before = process.redaction
    redact_with(Redactor(values=["blue whale"]))
    yield
    redact_with(before)


def _context(state: TraceState | None = None) -> SpanContext:
    return SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)


def _span(**fields: Any) -> ReadableSpan:
    whole = {"name": "n", "context": _context(), "parent": None, "start_time": 1, "end_time": 2}
    return ReadableSpan(**{**whole, **fields})


_STATE = TraceState([("vendor", _SECRET)])
_SPANS = {
    "name": _span(name=f"chat {_SECRET}"),
    "trace state": _span(context=_context(_STATE)),
    "attribute": _span(attributes={"a": f"key {_SECRET}."}),
    "key": _span(attributes={_SECRET: "a"}),
    "list": _span(attributes={"a": ("x", _SECRET)}),
    "map": _span(attributes={"a": {"b": [{"c": _SECRET}]}}),
    "key in a map": _span(attributes={"a": {_SECRET: 1}}),
    "bytes": _span(attributes={"a": _SECRET.encode()}),
    "long text": _span(attributes={"a": "word " * 20_000 + _SECRET + " word" * 20_000}),
    "event": _span(events=[Event(f"e {_SECRET}")]),
    "event attribute": _span(events=[Event("e", {"exception.message": _SECRET})]),
    "link attribute": _span(links=[Link(_context(), {"a": _SECRET})]),
    "link state": _span(links=[Link(_context(_STATE))]),
    "status": _span(status=Status(StatusCode.ERROR, f"failed: {_SECRET}")),
}


@pytest.mark.parametrize("place", _SPANS)
def test_no_text_of_a_span_has_a_secret(place: str) -> None:
    data = encode_span(_SPANS[place])
    assert _SECRET.encode() not in data
    assert _MARK in data
    SpanMessage.FromString(data)


@pytest.mark.parametrize("place", sorted(_SPANS.keys() - {"bytes", "link state"}))
def test_official_encoder_that_stands_in_is_redacted_too(place: str) -> None:
    data = processors._official_span(_SPANS[place])
    assert _SECRET.encode() not in data
    assert _MARK in data
    assert len(encode_spans([_SPANS[place]]).resource_spans) == 1


def test_secrets_by_name_numbers_and_configured_values_are_replaced() -> None:
    given: Mapping[str, Any] = {
        "authorization": "plain words",
        "headers": {"x-api-key": ["plain", "words"]},
        "card": _CARD,
        "cards": [_CARD],
        "text": "a blue whale",
        "user.id": "jane@example.com",
    }
    message = SpanMessage.FromString(encode_span(_span(attributes=given)))
    found = {each.key: each.value for each in message.attributes}
    assert found["authorization"].string_value == "<redacted value>"
    assert found["headers"].kvlist_value.values[0].value.string_value == "<redacted value>"
    assert found["card"].string_value == "<redacted card number>"
    assert found["cards"].array_value.values[0].string_value == "<redacted card number>"
    assert found["text"].string_value == "a <redacted secret>"
    assert found["user.id"].string_value == "jane@example.com"


def _log(**fields: Any) -> bytes:
    record = LogRecord(**{"timestamp": 1, "observed_timestamp": 1, "body": "b", **fields})
    return encode_log_record(ReadableLogRecord(record, Resource({}), InstrumentationScope("s")))


@pytest.mark.parametrize(
    "fields",
    [
        {"body": f"key {_SECRET}"},
        {"body": {"a": [_SECRET]}},
        {"attributes": {"a": _SECRET}},
        {"attributes": {_SECRET: 1}},
        {"severity_text": _SECRET},
        {"event_name": _SECRET},
    ],
    ids=str,
)
def test_no_text_of_a_log_record_has_a_secret(fields: Mapping[str, Any]) -> None:
    data = _log(**fields)
    assert _SECRET.encode() not in data
    assert _MARK in data


def test_record_that_is_encoded_at_once_has_no_secret() -> None:
    encoded = plain_attributes({"a": _SECRET})
    assert encoded is not None
    severity = (SeverityNumber.INFO, "INFO")
    data = encode_plain((1, 1), severity, f"b {_SECRET}", encoded, _context(), _SECRET)
    assert _SECRET.encode() not in data
    assert data.count(_MARK) == 3


def test_no_label_description_or_exemplar_has_a_secret() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c", description=_SECRET).add(1, {"a": _SECRET})
    data: Any = reader.get_metrics_data()
    metric = data.resource_metrics[0].scope_metrics[0].metrics[0]
    exemplar = Exemplar({"b": _SECRET}, 1, 1, 1, 1)
    object.__setattr__(metric.data.data_points[0], "exemplars", [exemplar])
    encoded = metric_head(metric) + b"".join(encode_points(metric, Steps()))
    assert _SECRET.encode() not in encoded
    assert encoded.count(_MARK) == 3


def test_no_resource_or_scope_has_a_secret() -> None:
    scope = InstrumentationScope(_SECRET, _SECRET, _SECRET, {"a": _SECRET})
    group = encode_group(Resource({"a": _SECRET}, _SECRET), scope)
    encoded = group.resource + group.resource_end + group.scope + group.scope_end
    assert _SECRET.encode() not in encoded
    assert encoded.count(_MARK) == 6


def test_block_across_pieces_of_a_long_text_is_replaced_whole() -> None:
    lines = "MIIE" * 16 + "\n"
    block = "-----BEGIN PRIVATE " + "KEY-----\n" + lines * 400 + "-----END PRIVATE " + "KEY-----"
    data = encode_span(_span(attributes={"a": "word\n" * 3_000 + block + "\nword" * 3_000}))
    assert b"MIIE" not in data
    assert data.count(b"<redacted private key>") == 1
    assert data.count(b"word") == 6_000


def test_change_of_the_redaction_changes_what_was_encoded_before() -> None:
    span = _span(name=f"n {_SECRET}", attributes={"a": _SECRET})
    assert _SECRET.encode() not in encode_span(span)
    redact_with(None)
    assert encode_span(span).count(_SECRET.encode()) == 2
