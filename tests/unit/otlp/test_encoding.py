"""The encoder's messages equal the official encoder's, on generated spans, logs and metrics."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LogRecordLimits, ReadWriteLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from chatscope.otlp.batch import Groups, encode_group, encode_request
from chatscope.otlp.log_records import encode_log_record
from chatscope.otlp.metrics import encode_points, metric_data, metric_head
from chatscope.otlp.redacting import process, redact_with
from chatscope.otlp.spans import encode_span
from chatscope.otlp.steps import Steps


@pytest.fixture(autouse=True)
def _without_redaction() -> Iterator[None]:
    """Generated texts may look like an e-mail address or a token."""
    before = process.redaction
    redact_with(None)
    yield
    redact_with(before)


_TEXTS = st.text(max_size=20)
_KEYS = st.text(min_size=1, max_size=12)
_INTS = st.integers(-(2**63), 2**63 - 1)
_PLAIN = st.one_of(_TEXTS, _INTS, st.booleans(), st.floats(allow_nan=False), st.binary(max_size=9))
_VALUES = st.recursive(
    st.one_of(_PLAIN, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=6,
)
_ATTRIBUTES: st.SearchStrategy[Mapping[str, Any]] = st.dictionaries(_KEYS, _VALUES, max_size=5)
_TIMES = st.integers(1, 2**63)
_STATES = st.sampled_from([TraceState(), TraceState([("a", "1"), ("vendor@x", "=2")])])
_CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    _STATES,
)
_RESOURCES = st.builds(
    Resource,
    st.dictionaries(_KEYS, st.one_of(_TEXTS, _INTS), max_size=3),
    st.sampled_from(["", "https://example.org/schema"]),
)
_SCOPES = st.builds(
    InstrumentationScope,
    _KEYS,
    st.one_of(st.none(), _TEXTS),
    st.sampled_from([None, "https://example.org/scope"]),
    st.dictionaries(_KEYS, _TEXTS, max_size=2),
)
_STATUSES = st.one_of(
    st.builds(Status, st.sampled_from([StatusCode.UNSET, StatusCode.OK])),
    st.builds(Status, st.just(StatusCode.ERROR), st.one_of(st.none(), _TEXTS)),
)


class _Ids(IdGenerator):
    """Gives every span the same IDs, from the generated data."""

    def __init__(self, number: int) -> None:
        self._number = number

    def generate_span_id(self) -> int:
        return self._number

    def generate_trace_id(self) -> int:
        return self._number << 64 | 1


@st.composite
def _spans(draw: st.DrawFn) -> ReadableSpan:
    limits = SpanLimits(
        max_span_attributes=draw(st.integers(0, 6)),
        max_events=draw(st.integers(0, 2)),
        max_links=draw(st.integers(0, 2)),
        max_event_attributes=2,
        max_link_attributes=2,
        max_attribute_length=draw(st.sampled_from([5, 128])),
    )
    provider = TracerProvider(
        resource=draw(_RESOURCES),
        span_limits=limits,
        id_generator=_Ids(draw(st.integers(1, 2**64 - 1))),
        shutdown_on_exit=False,
    )
    scope = draw(_SCOPES)
    tracer = provider.get_tracer(
        scope.name, scope.version or "", scope.schema_url, scope.attributes
    )
    parent = draw(st.one_of(st.none(), _CONTEXTS))
    links = draw(st.lists(st.builds(Link, _CONTEXTS, _ATTRIBUTES), max_size=3))
    span: Any = tracer.start_span(
        draw(_TEXTS),
        context=set_span_in_context(NonRecordingSpan(parent)) if parent else None,
        kind=draw(st.sampled_from(SpanKind)),
        attributes=draw(_ATTRIBUTES),
        links=links,
        start_time=draw(_TIMES),
    )
    for name in draw(st.lists(_TEXTS, max_size=3)):
        span.add_event(name, draw(_ATTRIBUTES), draw(_TIMES))
    span.set_status(draw(_STATUSES))
    span.end(draw(_TIMES))
    ended: ReadableSpan = span._readable_span()
    return ended


@given(st.lists(_spans(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_spans_equal_the_official_encoding(spans: list[ReadableSpan]) -> None:
    groups = Groups({})
    items = [
        (groups.get(span.resource, span.instrumentation_scope), encode_span(span)) for span in spans
    ]

    sent = ExportTraceServiceRequest.FromString(encode_request(items))

    expected = encode_spans(spans)
    # The official encoder leaves the trace state of links out; the protocol has a field for it.
    assert _without_link_states(sent) == expected
    states = [link.context.trace_state.to_header() for span in spans for link in span.links]
    found = [
        link.trace_state
        for resource in ExportTraceServiceRequest.FromString(encode_request(items)).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        for link in span.links
    ]
    assert sorted(found) == sorted(states)


def _without_link_states(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                for link in span.links:
                    link.ClearField("trace_state")
    return request


@st.composite
def _log_records(draw: st.DrawFn) -> ReadWriteLogRecord:
    context = draw(st.one_of(st.none(), _CONTEXTS))
    record = LogRecord(
        timestamp=draw(st.one_of(st.none(), _TIMES)),
        observed_timestamp=draw(_TIMES),
        context=set_span_in_context(NonRecordingSpan(context)) if context else None,
        severity_number=draw(st.one_of(st.none(), st.sampled_from(SeverityNumber))),
        severity_text=draw(st.one_of(st.none(), _TEXTS)),
        body=draw(_VALUES),
        attributes=draw(_ATTRIBUTES),
        event_name=draw(st.one_of(st.none(), _TEXTS)),
    )
    return ReadWriteLogRecord(
        record,
        draw(_RESOURCES),
        draw(st.one_of(st.none(), _SCOPES)),
        LogRecordLimits(max_log_record_attributes=128),
    )


@given(_log_records())
@settings(deadline=None, max_examples=60)
def test_log_records_equal_the_official_encoding(record: ReadWriteLogRecord) -> None:
    group = encode_group(record.resource, record.instrumentation_scope)

    request = encode_request([(group, encode_log_record(record))])

    assert ExportLogsServiceRequest.FromString(request) == encode_logs([record])  # type: ignore[list-item]


_NUMBERS = st.one_of(_INTS, st.floats(allow_nan=False))
_EXEMPLARS = st.lists(
    st.one_of(
        st.builds(Exemplar, _ATTRIBUTES, _NUMBERS, _TIMES, st.none(), st.none()),
        st.builds(
            Exemplar,
            _ATTRIBUTES,
            _NUMBERS,
            _TIMES,
            st.integers(1, 2**64 - 1),
            st.integers(1, 2**128 - 1),
        ),
    ),
    max_size=2,
)
_COUNTS = st.integers(0, 2**63)
_FLOATS = st.floats(allow_nan=False)
_NUMBER_POINTS = st.lists(
    st.builds(NumberDataPoint, _ATTRIBUTES, _TIMES, _TIMES, _NUMBERS, _EXEMPLARS), max_size=3
)
# The SDK gives a gauge's points no start.
_GAUGE_POINTS = st.lists(
    st.builds(NumberDataPoint, _ATTRIBUTES, st.none(), _TIMES, _NUMBERS, _EXEMPLARS), max_size=3
)
_HISTOGRAM_POINTS = st.lists(
    st.builds(
        HistogramDataPoint,
        _ATTRIBUTES,
        _TIMES,
        _TIMES,
        _COUNTS,
        _FLOATS,
        st.lists(_COUNTS, max_size=3),
        st.lists(_FLOATS, max_size=2),
        _FLOATS,
        _FLOATS,
        _EXEMPLARS,
    ),
    max_size=3,
)
_BUCKETS = st.builds(Buckets, st.integers(-(2**31), 2**31 - 1), st.lists(_COUNTS, max_size=3))
_EXPONENTIAL_POINTS = st.lists(
    st.builds(
        ExponentialHistogramDataPoint,
        _ATTRIBUTES,
        _TIMES,
        _TIMES,
        _COUNTS,
        _FLOATS,
        st.integers(-10, 20),
        _COUNTS,
        _BUCKETS,
        _BUCKETS,
        st.integers(0, 1),
        _FLOATS,
        _FLOATS,
        _EXEMPLARS,
    ),
    max_size=3,
)
_TEMPORALITIES = st.sampled_from([AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
_DATA = st.one_of(
    st.builds(Gauge, _GAUGE_POINTS),
    st.builds(Sum, _NUMBER_POINTS, _TEMPORALITIES, st.booleans()),
    st.builds(Histogram, _HISTOGRAM_POINTS, _TEMPORALITIES),
    st.builds(ExponentialHistogram, _EXPONENTIAL_POINTS, _TEMPORALITIES),
).filter(lambda data: bool(data.data_points))
_METRICS = st.builds(Metric, _KEYS, _TEXTS, st.sampled_from(["", "s", "{token}"]), _DATA)


@given(st.lists(_METRICS, max_size=3), _RESOURCES, _SCOPES)
@settings(deadline=None, max_examples=60)
def test_metrics_equal_the_official_encoding(
    metrics: list[Metric], resource: Resource, scope: InstrumentationScope
) -> None:
    group = encode_group(resource, scope)
    items = [
        (group, metric_head(metric) + metric_data(metric, encode_points(metric, Steps())))
        for metric in metrics
    ]

    sent = ExportMetricsServiceRequest.FromString(encode_request(items))

    scopes = [ScopeMetrics(scope, metrics, scope.schema_url or "")]
    resources = [ResourceMetrics(resource, scopes, resource.schema_url)]
    expected = encode_metrics(MetricsData(resources))
    if metrics:
        assert sent == expected
    else:
        assert not sent.resource_metrics
