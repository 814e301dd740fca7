"""One span, one log record and one metric, sent over OTLP, and looked for in the backends."""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from chatscope.cli.loki import Loki, selector
from chatscope.cli.prometheus import Prometheus
from chatscope.cli.tempo import Tempo
from chatscope.cli.times import SECOND
from chatscope.otlp.client import FAILED, Outcome, Result, connect
from chatscope.otlp.settings import EndpointSettings, Signal

# Its service: each run has the same one, so that it makes one series of Prometheus.
SERVICE: Final = "chatscope-doctor"
_NAME: Final = "chatscope.doctor"
_METRIC: Final = "chatscope.doctor.time"
_SERIES: Final = f'chatscope_doctor_time_seconds{{service_name="{SERVICE}"}}'
_TEXT: Final = "chatscope doctor"
_AROUND: Final = 60 * SECOND


class Probe:
    """The items of one run, which are known by the trace ID, and by the time of sending."""

    def __init__(self) -> None:
        self.trace_id = secrets.token_hex(16)
        self._span_id = secrets.token_bytes(8)
        self._now = time.time_ns()
        # Prometheus has floating-point numbers: microseconds are exact.
        self._seconds = self._now // 1_000 / 1e6
        attributes = {"service.name": SERVICE, "service.instance.id": "doctor"}
        self._resource = Resource(
            attributes=[
                KeyValue(key=name, value=AnyValue(string_value=value))
                for name, value in attributes.items()
            ]
        )

    def send(self, endpoint: EndpointSettings) -> Result:
        """Send the item of a signal, and return what the receiver responded."""
        body = self._requests()[endpoint.signal]().SerializeToString()
        client = connect(endpoint)
        try:
            result = client.send(body).result(endpoint.timeout + 1)
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, FAILED, "no result")
        finally:
            client.close()
        return result

    def in_tempo(self, tempo: Tempo) -> bool:
        """Return whether the span is there. Raise CommandError."""
        return bool(tempo.trace(self.trace_id))

    def in_loki(self, loki: Loki) -> bool:
        """Return whether the log record is there. Raise CommandError."""
        query = f'{selector([SERVICE])} | trace_id="{self.trace_id}"'
        return bool(loki.newest(query, self._now - _AROUND, self._now + _AROUND, 1))

    def in_prometheus(self, prometheus: Prometheus) -> bool:
        """Return whether the value of the metric is there. Raise CommandError."""
        return any(sample.value == self._seconds for sample in prometheus.query(_SERIES))

    def _requests(self) -> Mapping[Signal, Callable[[], Any]]:
        return {Signal.TRACES: self._spans, Signal.LOGS: self._logs, Signal.METRICS: self._metrics}

    def _spans(self) -> ExportTraceServiceRequest:
        span = Span(
            trace_id=bytes.fromhex(self.trace_id),
            span_id=self._span_id,
            name=_TEXT,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=self._now,
            end_time_unix_nano=self._now + 1_000_000,
        )
        scoped = ScopeSpans(scope=InstrumentationScope(name=_NAME), spans=[span])
        spans = ResourceSpans(resource=self._resource, scope_spans=[scoped])
        return ExportTraceServiceRequest(resource_spans=[spans])

    def _logs(self) -> ExportLogsServiceRequest:
        record = LogRecord(
            time_unix_nano=self._now,
            observed_time_unix_nano=self._now,
            severity_text="INFO",
            severity_number=9,  # type: ignore[arg-type]
            body=AnyValue(string_value=_TEXT),
            trace_id=bytes.fromhex(self.trace_id),
            span_id=self._span_id,
        )
        scoped = ScopeLogs(scope=InstrumentationScope(name=_NAME), log_records=[record])
        logs = ResourceLogs(resource=self._resource, scope_logs=[scoped])
        return ExportLogsServiceRequest(resource_logs=[logs])

    def _metrics(self) -> ExportMetricsServiceRequest:
        point = NumberDataPoint(time_unix_nano=self._now, as_double=self._seconds)
        metric = Metric(
            name=_METRIC,
            unit="s",
            description="When `chatscope doctor` last ran, in seconds since 1970.",
            gauge=Gauge(data_points=[point]),
        )
        scoped = ScopeMetrics(scope=InstrumentationScope(name=_NAME), metrics=[metric])
        metrics = ResourceMetrics(resource=self._resource, scope_metrics=[scoped])
        return ExportMetricsServiceRequest(resource_metrics=[metrics])
