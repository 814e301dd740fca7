"""Splits an encoded OTLP request: a receiver that refuses all of it may accept a part."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# The smallest is one of 64 items, which is a batch.
_SIZES: Final = 6


@dataclass(frozen=True)
class Part:
    """An encoded request and its number of items."""

    body: bytes
    items: int


@dataclass(frozen=True)
class Shape:
    """Where the items of a signal's requests are."""

    request: Any
    resources: str
    scopes: str
    items: str

    def split(self, body: bytes, turn: int) -> tuple[Part, Part] | None:
        """Return a part of a request and the rest of it; None of one item, or of no request.

        With growing `turn`: the first and the last half, the first and the last quarter, and so
        on. A metric is not split; the items of its part are its points.
        """
        try:
            total = sum(len(items) for items in self._groups(self.request.FromString(body)))
        except Exception:
            return None
        if total < 2:
            return None
        size, last = divmod(turn, 2)
        size = max(1, total >> 1 + size % _SIZES)
        if last:
            return self._part(body, total - size, total), self._part(body, 0, total - size)
        return self._part(body, 0, size), self._part(body, size, total)

    def _groups(self, message: Any) -> Iterator[Any]:
        for resource in getattr(message, self.resources):
            for scope in getattr(resource, self.scopes):
                yield getattr(scope, self.items)

    def _part(self, body: bytes, first: int, end: int) -> Part:
        message = self.request.FromString(body)
        start = 0
        for items in self._groups(message):
            size = len(items)
            del items[max(0, end - start) :]
            del items[: max(0, first - start)]
            start += size
        self._remove_empty(message)
        count = sum(_points(item) for items in self._groups(message) for item in items)
        return Part(message.SerializeToString(), count)

    def _remove_empty(self, message: Any) -> None:
        resources = getattr(message, self.resources)
        for resource in resources:
            scopes = getattr(resource, self.scopes)
            kept = [scope for scope in scopes if getattr(scope, self.items)]
            del scopes[:]
            scopes.extend(kept)
        kept = [resource for resource in resources if getattr(resource, self.scopes)]
        del resources[:]
        resources.extend(kept)


SHAPES: Final = {
    "spans": Shape(ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "log records": Shape(ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "metrics": Shape(ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}


def _points(item: Any) -> int:
    kind = item.WhichOneof("data") if "data" in item.DESCRIPTOR.oneofs_by_name else None
    return len(getattr(item, kind).data_points) if kind else 1
