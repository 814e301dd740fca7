"""A metric exporter that delivers through a `Delivery`; always cumulative."""

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
from .steps import Steps

_KINDS: Final = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)


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
        """Encode each metric, a large one in parts, with its number of points."""
        steps = Steps()
        for resource_metrics in data.resource_metrics:
            for scope_metrics in resource_metrics.scope_metrics:
                group = self._delivery.group(resource_metrics.resource, scope_metrics.scope)
                for metric in scope_metrics.metrics:
                    try:
                        for points in self._parts(metric, steps):
                            encoded = metric_head(metric) + metric_data(metric, points)
                            steps.pause()
                            yield group, encoded, len(points)
                    except Exception as error:
                        # One metric that cannot be encoded must not end all others.
                        self._delivery.sums.statistics.count_not_encodable()
                        self._delivery.warnings.warn(
                            "not-encodable",
                            f"the metric {metric.name!r} cannot be encoded: {error!r}",
                        )

    def _parts(self, metric: Metric, steps: Steps) -> Iterator[list[bytes]]:
        """Encode a metric's points, in parts that fit into a request."""
        points: list[bytes] = []
        size = 0
        for point in encode_points(metric, steps):
            if points and size + len(point) > self._delivery.settings.limits.batch_bytes:
                yield points
                points, size = [], 0
            points.append(point)
            size += len(point)
        if points:
            yield points
