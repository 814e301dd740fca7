"""A fake Collector in this process: an OTLP/gRPC receiver that can reject, hang or delay."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with its resource."""

    resource: Mapping[str, Any]
    attributes: Mapping[str, Any]
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace_id(self) -> str:
        """Return 32 hex digits."""
        return self.span.trace_id.hex()


@dataclass(frozen=True)
class ReceivedLog:
    """One log record, with its resource."""

    resource: Mapping[str, Any]
    attributes: Mapping[str, Any]
    record: LogRecord

    @property
    def body(self) -> str:
        return self.record.body.string_value

    @property
    def trace_id(self) -> str:
        """Return 32 hex digits; empty without a trace."""
        return self.record.trace_id.hex()


@dataclass(frozen=True)
class ReceivedPoint:
    """One point of one export: a number's value, or a histogram's count and sum."""

    resource: Mapping[str, Any]
    name: str
    attributes: Mapping[str, Any]
    value: float
    sum: float | None = None


class Receiver:
    """`with Receiver() as receiver:` listens on a free port until the end of the block.

    `refuse_with(status)` rejects each export, `hang()` never responds, `delay()` responds after
    `accept()`, which ends all three. Exports that were rejected or left without a response are only
    counted in `attempts`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []
        self._logs: list[ReceivedLog] = []
        self._points: list[ReceivedPoint] = []
        self._exports: list[bytes] = []
        self._attempts = 0
        self._status: grpc.StatusCode | None = None
        self._free = threading.Event()
        self._free.set()
        self._late = False
        self._server = grpc.server(ThreadPoolExecutor(8))
        register: Any  # generated without types
        for register, servicer in (
            (trace_service_pb2_grpc.add_TraceServiceServicer_to_server, _Traces(self)),
            (logs_service_pb2_grpc.add_LogsServiceServicer_to_server, _Logs(self)),
            (metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server, _Metrics(self)),
        ):
            register(servicer, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._free.set()
        self._server.stop(grace=0).wait()

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Return all spans so far, in order of arrival."""
        with self._lock:
            return list(self._spans)

    @property
    def log_records(self) -> list[ReceivedLog]:
        """Return all log records so far, in order of arrival."""
        with self._lock:
            return list(self._logs)

    @property
    def metric_points(self) -> list[ReceivedPoint]:
        """Return all points so far: cumulative ones are repeated in each export."""
        with self._lock:
            return list(self._points)

    @property
    def exports(self) -> list[bytes]:
        """Return the bytes of all accepted exports, of any signal."""
        with self._lock:
            return list(self._exports)

    @property
    def attempts(self) -> int:
        """Return the number of attempted exports, of any signal."""
        with self._lock:
            return self._attempts

    def last(self, name: str, **attributes: object) -> dict[str, float]:
        """Return, per `service.instance.id`, the sum of the newest points of a metric with these
        attributes (dots written as `__`): the value that a backend would show."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        newest: dict[tuple[str, frozenset[tuple[str, Any]]], float] = {}
        for point in self.metric_points:
            if point.name == name and wanted.items() <= point.attributes.items():
                instance = str(point.resource["service.instance.id"])
                newest[instance, frozenset(point.attributes.items())] = point.value
        sums: dict[str, float] = {}
        for (instance, _), value in newest.items():
            sums[instance] = sums.get(instance, 0.0) + value
        return sums

    def refuse_with(self, status: grpc.StatusCode) -> None:
        """Reject each export with `status` from now on."""
        self._status = status

    def hang(self) -> None:
        """Send no response from now on."""
        self._free.clear()

    def delay(self) -> None:
        """Accept each export, but respond only after `accept()`."""
        self._late = True
        self._free.clear()

    def accept(self) -> None:
        """Accept exports again, and release those that hang."""
        self._status = None
        self._free.set()

    def _admit(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._attempts += 1
        hung = not self._free.is_set()
        self._free.wait()
        if hung and not self._late:
            context.abort(grpc.StatusCode.CANCELLED, "it hung")
        if status := self._status:
            context.abort(status, "refused by the test")


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receiver._admit(context)
        found = [
            ReceivedSpan(_plain(group.resource.attributes), _plain(span.attributes), span)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._receiver._lock:
            self._receiver._spans += found
            self._receiver._exports.append(request.SerializeToString())
        return trace_service_pb2.ExportTraceServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receiver._admit(context)
        found = [
            ReceivedLog(_plain(group.resource.attributes), _plain(record.attributes), record)
            for group in request.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        ]
        with self._receiver._lock:
            self._receiver._logs += found
            self._receiver._exports.append(request.SerializeToString())
        return logs_service_pb2.ExportLogsServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receiver._admit(context)
        found = [
            point
            for group in request.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
            for point in _points(_plain(group.resource.attributes), metric)
        ]
        with self._receiver._lock:
            self._receiver._points += found
            self._receiver._exports.append(request.SerializeToString())
        return metrics_service_pb2.ExportMetricsServiceResponse()


def _points(resource: Mapping[str, Any], metric: Metric) -> Iterator[ReceivedPoint]:
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        kind = number.WhichOneof("value")
        value = float(getattr(number, kind)) if kind else 0.0
        yield ReceivedPoint(resource, metric.name, _plain(number.attributes), value)
    for point in metric.histogram.data_points:
        attributes = _plain(point.attributes)
        yield ReceivedPoint(resource, metric.name, attributes, float(point.count), point.sum)


def _plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return _plain(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
