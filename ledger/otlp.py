"""OTLP requests built by hand, as any sender may send them, and the Collector's responses."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from dashboards.others import SERVICE_NAME

_NS: Final = 1_000_000_000
_SERVICE: Final = "/opentelemetry.proto.collector.{}/Export"
_METHODS: Final[Mapping[Any, str]] = {
    ExportTraceServiceRequest: _SERVICE.format("trace.v1.TraceService"),
    ExportLogsServiceRequest: _SERVICE.format("logs.v1.LogsService"),
    ExportMetricsServiceRequest: _SERVICE.format("metrics.v1.MetricsService"),
}
# The limit of our Collector's receiver.
_LARGEST: Final = 16 * 1024 * 1024
_ANSWER_SECONDS: Final = 30.0

Attributes = Mapping[str, str | int]
Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest

_NONE: Final[Attributes] = {}


class Sender:
    """One connection to a Collector, for any number of threads."""

    def __init__(self, channel: grpc.Channel, headers: tuple[tuple[str, str], ...]) -> None:
        self._channel = channel
        self._headers = headers

    def send(self, request: Request, replacements: Mapping[bytes, bytes] | None = None) -> None:
        """Send a request. Raises grpc.RpcError if it is rejected.

        `replacements`: bytes that replace others of the same length, to send requests that
        protobuf would not encode. Raises ValueError if the lengths differ.
        """
        data = request.SerializeToString()
        for original, replacement in (replacements or {}).items():
            if len(original) != len(replacement):
                raise ValueError(f"{original!r} and {replacement!r} must have the same length.")
            data = data.replace(original, replacement)
        self._channel.unary_unary(_METHODS[type(request)])(
            data, timeout=_ANSWER_SECONDS, metadata=self._headers
        )

    def begin(self, request: Request) -> Any:
        """Send without waiting: return a future, which waits for a connection if there is none."""
        call: Any = self._channel.unary_unary(_METHODS[type(request)])
        data = request.SerializeToString()
        return call.future(
            data, timeout=_ANSWER_SECONDS, metadata=self._headers, wait_for_ready=True
        )


@contextmanager
def sender(endpoint: str, headers: Mapping[str, str]) -> Iterator[Sender]:
    """Connect to `http://host:port`, `host:port` or `unix:path`."""
    options = [("grpc.max_send_message_length", 2 * _LARGEST)]
    with grpc.insecure_channel(endpoint.rpartition("//")[2], options=options) as channel:
        yield Sender(channel, tuple(headers.items()))


def lines(service: str, *records: LogRecord) -> ExportLogsServiceRequest:
    """Return one batch of log records of a service."""
    group = ResourceLogs(resource=_resource(service), scope_logs=[ScopeLogs(log_records=records)])
    return ExportLogsServiceRequest(resource_logs=[group])


def line(body: str, attributes: Attributes = _NONE, *, ahead: float = 0.0) -> LogRecord:
    """Return one log record, `ahead` seconds in the future."""
    now = time.time_ns() + int(ahead * _NS)
    return LogRecord(
        time_unix_nano=now,
        observed_time_unix_nano=now,
        severity_text="INFO",
        body=AnyValue(string_value=body),
        attributes=_pairs(attributes),
    )


def spans(service: str, *found: Span) -> ExportTraceServiceRequest:
    """Return one batch of spans of a service."""
    group = ResourceSpans(resource=_resource(service), scope_spans=[ScopeSpans(spans=found)])
    return ExportTraceServiceRequest(resource_spans=[group])


def span(trace_id: bytes, name: str, attributes: Attributes = _NONE, *, ahead: float = 0.0) -> Span:
    """Return a trace of one span of a millisecond, `ahead` seconds in the future."""
    now = time.time_ns() + int(ahead * _NS)
    return Span(
        trace_id=trace_id,
        span_id=trace_id[:8],
        name=name,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=now - 1_000_000,
        end_time_unix_nano=now,
        attributes=_pairs(attributes),
    )


def sums(service: str, name: str, *points: NumberDataPoint) -> ExportMetricsServiceRequest:
    """Return one counter of a service."""
    counter = Sum(
        data_points=points,
        is_monotonic=True,
        aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
    )
    metrics = [Metric(name=name, sum=counter)]
    group = ResourceMetrics(
        resource=_resource(service), scope_metrics=[ScopeMetrics(metrics=metrics)]
    )
    return ExportMetricsServiceRequest(resource_metrics=[group])


def point(value: int, attributes: Attributes = _NONE, *, ahead: float = 0.0) -> NumberDataPoint:
    """Return a counter's value, `ahead` seconds in the future."""
    now = time.time_ns() + int(ahead * _NS)
    return NumberDataPoint(
        time_unix_nano=now,
        start_time_unix_nano=now - _NS,
        as_int=value,
        attributes=_pairs(attributes),
    )


def _resource(service: str) -> Resource:
    return Resource(attributes=_pairs({SERVICE_NAME: service}))


def _pairs(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: str | int) -> AnyValue:
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
