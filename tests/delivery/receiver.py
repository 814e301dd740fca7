"""An OTLP/gRPC receiver on a real socket; a function decides the response to each request."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACES: Final = "traces"
LOGS: Final = "logs"
METRICS: Final = "metrics"
_SIGNALS: Final = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": TRACES,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": LOGS,
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": METRICS,
}


@dataclass(frozen=True)
class Request:
    """One export request: its size, and the names of its spans, records (bodies) or metrics."""

    signal: str
    names: tuple[str, ...]
    size: int
    message: Any = field(repr=False)

    def has(self, prefix: str) -> bool:
        """Return whether a name starts with `prefix`."""
        return any(name.startswith(prefix) for name in self.names)


@dataclass(frozen=True)
class Answer:
    """A response, and its delay."""

    status: grpc.StatusCode = grpc.StatusCode.OK
    response: bytes = b""
    seconds: float = 0.0


ACCEPT: Final = Answer()
Decide = Callable[[Request], Answer]


def refuse(status: grpc.StatusCode, *signals: str) -> Decide:
    """Reject each request that has items, of all signals or only of the named ones.

    A Collector with a full queue still responds OK to a request without items.
    """

    def decide(request: Request) -> Answer:
        refused = request.names and request.signal in (signals or _SIGNALS.values())
        return Answer(status) if refused else ACCEPT

    return decide


class ScriptedReceiver:
    """Records all requests with their responses, in the order of the responses."""

    def __init__(self) -> None:
        self.decide: Decide = lambda request: ACCEPT
        self.port = 0
        self._lock = threading.Lock()
        self._answered: list[tuple[Request, Answer]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def listening(self, grace: float = 0.0) -> Iterator[None]:
        """Listen on a free port, later on the same one.

        At the end it sends GOAWAY, and aborts calls that take longer than `grace`.
        """
        server = grpc.server(ThreadPoolExecutor(16))
        server.add_generic_rpc_handlers([_Handler(self._answer)])
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        try:
            yield
        finally:
            server.stop(grace).wait()

    @property
    def answered(self) -> list[tuple[Request, Answer]]:
        with self._lock:
            return list(self._answered)

    def accepted(self, signal: str) -> list[str]:
        """Return the names of all items of accepted requests, in order."""
        return [
            name
            for request, answer in self.answered
            if request.signal == signal and answer.status is grpc.StatusCode.OK
            for name in request.names
        ]

    def refused(self, prefix: str = "") -> int:
        """Return the number of rejected requests with an item whose name starts with `prefix`."""
        return sum(
            answer.status is not grpc.StatusCode.OK and request.has(prefix)
            for request, answer in self.answered
        )

    def sums(self, metric: str, **attributes: str) -> dict[str, int]:
        """Return the newest values of a metric, by instance.

        A point counts if it has the attributes (dots written as `__`), and with `error__type=""`
        if it has none of that name.
        """
        values: dict[str, int] = {}
        for request, answer in self.answered:
            if request.signal == METRICS and answer.status is grpc.StatusCode.OK:
                values |= _values(request.message, metric, attributes)
        return values

    def _answer(self, signal: str, body: bytes) -> Answer:
        request = _parse(signal, body)
        answer = self.decide(request)
        if answer.seconds:
            time.sleep(answer.seconds)
        with self._lock:
            self._answered.append((request, answer))
        return answer


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, answer: Callable[[str, bytes], Answer]) -> None:
        self._answer = answer

    def service(self, handler_call_details: Any) -> Any:
        signal = _SIGNALS[handler_call_details.method]

        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            answer = self._answer(signal, body)
            if answer.status is not grpc.StatusCode.OK:
                context.abort(answer.status, "refused by the test")
            return answer.response

        return grpc.unary_unary_rpc_method_handler(export)


def _parse(signal: str, body: bytes) -> Request:
    message: Any
    if signal == TRACES:
        message = ExportTraceServiceRequest.FromString(body)
        groups = [scope.spans for each in message.resource_spans for scope in each.scope_spans]
        names = [span.name for group in groups for span in group]
    elif signal == LOGS:
        message = ExportLogsServiceRequest.FromString(body)
        records = [s.log_records for each in message.resource_logs for s in each.scope_logs]
        names = [record.body.string_value for group in records for record in group]
    else:
        message = ExportMetricsServiceRequest.FromString(body)
        names = [metric.name for _, metric in _metrics(message)]
    return Request(signal, tuple(names), len(body), message)


def _metrics(message: Any) -> Iterator[tuple[str, Any]]:
    for group in message.resource_metrics:
        resource = {each.key: each.value.string_value for each in group.resource.attributes}
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield resource["service.instance.id"], metric


def _values(message: Any, name: str, attributes: dict[str, str]) -> dict[str, int]:
    values: Counter[str] = Counter()
    for instance, metric in _metrics(message):
        for point in metric.sum.data_points if metric.name == name else ():
            has = {each.key: each.value.string_value for each in point.attributes}
            wanted = {key.replace("__", "."): value for key, value in attributes.items()}
            if all(has.get(key, "") == value for key, value in wanted.items()):
                values[instance] += point.as_int
    return dict(values)
