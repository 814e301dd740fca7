"""A metric exporter that delivers through a `Delivery`; always cumulative."""

import time
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import Aggregation

from .batch import Group, encode_request
from .delivery import Delivery
from .metrics import encode_points, metric_data, metric_head

_KINDS: Final = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)
# How long points are encoded before other threads get the interpreter.
_STEP: Final = 0.0005  # s


class OtlpMetricExporter(MetricExporter):
    """Exports for the SDK's periodic reader."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        interval: float = 60.0,
        preferred_aggregation: dict[type, Aggregation] | None = None,
    ) -> None:
        """Export through `delivery`; `interval` is the reader's, in seconds."""
        super().__init__(
            dict.fromkeys(_KINDS, AggregationTemporality.CUMULATIVE), preferred_aggregation
        )
        self._delivery = delivery
        self._interval = interval

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """Send all points, or keep them until the next export."""
        accepted = self._delivery.sums.export(self._requests(metrics_data), self._interval)
        return MetricExportResult.SUCCESS if accepted else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: no export waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Do nothing: `Delivery.shutdown` stops the delivery."""

    def _requests(self, data: MetricsData) -> list[tuple[bytes, int]]:
        """Encode the data as requests of a bounded size, with their numbers of points."""
        requests: list[tuple[bytes, int]] = []
        items: list[tuple[Group, bytes]] = []
        size = points = 0
        for group, metric, count in self._metrics(data):
            if items and size + len(metric) > self._delivery.settings.limits.batch_bytes:
                requests.append((encode_request(items), points))
                items, size, points = [], 0, 0
            items.append((group, metric))
            size += len(metric)
            points += count
        if items:
            requests.append((encode_request(items), points))
        return requests

    def _metrics(self, data: MetricsData) -> Iterator[tuple[Group, bytes, int]]:
        clock = _Steps()
        for resource_metrics in data.resource_metrics:
            for scope_metrics in resource_metrics.scope_metrics:
                group = self._delivery.group(resource_metrics.resource, scope_metrics.scope)
                for metric in scope_metrics.metrics:
                    try:
                        points = _points(metric, clock)
                        encoded = metric_head(metric) + metric_data(metric, points)
                    except Exception as error:
                        # One metric that cannot be encoded must not end all others.
                        self._delivery.sums.statistics.count_not_encodable()
                        self._delivery.warnings.warn(
                            "not-encodable",
                            f"the metric {metric.name!r} cannot be encoded: {error!r}",
                        )
                    else:
                        if points:
                            yield group, encoded, len(points)


def _points(metric: Metric, clock: "_Steps") -> list[bytes]:
    points = []
    for point in encode_points(metric):
        points.append(point)
        clock.pause()
    return points


class _Steps:
    """Lets other threads have the interpreter after each short step."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + _STEP

    def pause(self) -> None:
        """Sleep for an instant when a step is over."""
        if time.perf_counter() > self._end:
            time.sleep(0)
            self._end = time.perf_counter() + _STEP
