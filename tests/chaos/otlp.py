"""Telemetry as any sender may send it: items put together by hand, and what the Collector said."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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

_NS = 1_000_000_000
_SERVICE = "/opentelemetry.proto.collector.{}/Export"
_METHODS: dict[Any, str] = {
    ExportTraceServiceRequest: _SERVICE.format("trace.v1.TraceService"),
    ExportLogsServiceRequest: _SERVICE.format("logs.v1.LogsService"),
    ExportMetricsServiceRequest: _SERVICE.format("metrics.v1.MetricsService"),
}
# As our own Collector's receiver has it.
_LARGEST = 16 * 1024 * 1024

Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest


class Sender:
    """One connection to a Collector."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def send(self, request: Request, wrong: Mapping[bytes, bytes] | None = None) -> None:
        """Raises grpc.RpcError for a refusal. `wrong`: bytes in the place of others of the same
        length, which protobuf would not take."""
        data = request.SerializeToString()
        for right, instead in (wrong or {}).items():
            assert len(right) == len(instead)
            data = data.replace(right, instead)
        self._channel.unary_unary(_METHODS[type(request)])(data, timeout=30.0)


@contextmanager
def sender(endpoint: str) -> Iterator[Sender]:
    """To `http://host:port`."""
    options = [("grpc.max_send_message_length", 2 * _LARGEST)]
    with grpc.insecure_channel(endpoint.partition("//")[2], options=options) as channel:
        yield Sender(channel)


def lines(service: str, *records: LogRecord) -> ExportLogsServiceRequest:
    """One batch of a service."""
    group = ResourceLogs(resource=_resource(service), scope_logs=[ScopeLogs(log_records=records)])
    return ExportLogsServiceRequest(resource_logs=[group])


def line(body: str, ahead: float = 0.0, **attributes: str) -> LogRecord:
    """One log record, `ahead` seconds in the future."""
    now = time.time_ns() + int(ahead * _NS)
    return LogRecord(
        time_unix_nano=now,
        observed_time_unix_nano=now,
        severity_text="INFO",
        body=AnyValue(string_value=body),
        attributes=_pairs(attributes),
    )


def spans(service: str, *found: Span) -> ExportTraceServiceRequest:
    """One batch of a service."""
    group = ResourceSpans(resource=_resource(service), scope_spans=[ScopeSpans(spans=found)])
    return ExportTraceServiceRequest(resource_spans=[group])


def span(trace_id: bytes, name: str, ahead: float = 0.0, **attributes: str) -> Span:
    """A trace of one span, that took a millisecond, `ahead` seconds in the future."""
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
    """One counter of a service."""
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


def point(value: int, ahead: float = 0.0, **attributes: str) -> NumberDataPoint:
    """A counter's value, `ahead` seconds in the future."""
    now = time.time_ns() + int(ahead * _NS)
    return NumberDataPoint(
        time_unix_nano=now,
        start_time_unix_nano=now - _NS,
        as_int=value,
        attributes=_pairs(attributes),
    )


def _resource(service: str) -> Resource:
    return Resource(attributes=_pairs({"service.name": service}))


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()
    ]
