"""Histograms that accept many values at once, for thousands of values in one response.

The SDK needs about ten microseconds to record one value. A streamed response has thousands of
pauses between its chunks, so a `Tally` counts them by bucket, in less than a microsecond each, and
its counts are merged into a `TalliedHistogram` when the response has ended. `TalliedHistograms`
adds the points to the metrics that a reader has collected, by the SDK's public data classes.
"""

import os
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import ExemplarFilter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Metric as CollectedMetric
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chatscope.exemplars import KeptBucketExemplars
from chatscope.names import Metric

# The limit and the attribute are the SDK's: further sets of attributes share one point.
_MAX_POINTS: Final = 2000
_OVERFLOW: Final = {"otel.metric.overflow": True}


class Tally:
    """Values counted by bucket, for one point of a `TalliedHistogram`."""

    def __init__(self, histogram: "TalliedHistogram") -> None:
        self._histogram = histogram
        self._boundaries = histogram.boundaries
        self.counts = [0] * (len(self._boundaries) + 1)
        # The newest value of each bucket, for its exemplar.
        self.newest = [0.0] * (len(self._boundaries) + 1)
        self.sum = 0.0
        self.min = inf
        self.max = -inf

    def add(self, value: float) -> None:
        """Count one value."""
        self.add_at(bisect_left(self._boundaries, value), value)

    def add_at(self, place: int, value: float) -> None:
        """Count one value, in the bucket that it belongs to."""
        self.counts[place] += 1
        self.newest[place] = value
        self.sum += value
        # The built-in functions take as long as all of the above.
        if value < self.min:  # noqa: PLR1730
            self.min = value
        if value > self.max:  # noqa: PLR1730
            self.max = value

    def record(self, attributes: Mapping[str, str | int], context: Context) -> None:
        """Merge all values into the histogram's point of these attributes."""
        if self.max >= self.min:
            self._histogram.merge(self, attributes, context)


class TalliedHistogram:
    """One histogram, cumulative since its first value."""

    def __init__(self, metric: Metric, exemplar_filter: ExemplarFilter) -> None:
        self.metric = metric
        self.boundaries = metric.buckets or ()
        self._filter = exemplar_filter
        self._points: dict[Any, _Point] = {}
        self._lock = threading.Lock()

    def tally(self) -> Tally:
        """Return an empty tally for this histogram."""
        return Tally(self)

    def merge(self, tally: Tally, attributes: Mapping[str, str | int], context: Context) -> None:
        """Add the values of a tally."""
        now = time.time_ns()
        key: Any = frozenset(attributes.items())
        sampled = self._filter.should_sample(tally.max, now, attributes, context)
        with self._lock:
            point = self._points.get(key) or self._new_point(key, dict(attributes), now)
            point.add(tally)
            if sampled:
                point.sample(tally, now, attributes, context)

    def collect(self) -> CollectedMetric | None:
        """Return the points; None before the first value."""
        now = time.time_ns()
        with self._lock:
            points = [point.collect(now) for point in self._points.values()]
        if not points:
            return None
        data = HistogramData(points, AggregationTemporality.CUMULATIVE)
        return CollectedMetric(self.metric.name, self.metric.description, self.metric.unit, data)

    def clear(self) -> None:
        """Forget all values."""
        self._points = {}
        # A new one: after a fork, another thread may have held it.
        self._lock = threading.Lock()

    def _new_point(self, key: Any, attributes: dict[str, Any], now: int) -> "_Point":
        if len(self._points) >= _MAX_POINTS:
            key, attributes = frozenset(_OVERFLOW.items()), dict(_OVERFLOW)
        return self._points.setdefault(key, _Point(attributes, self.boundaries, now))


class _Point:
    """The values with one set of attributes."""

    def __init__(
        self, attributes: dict[str, Any], boundaries: tuple[float, ...], started: int
    ) -> None:
        self._attributes = attributes
        self._boundaries = boundaries
        self._started = started
        self._counts = [0] * (len(boundaries) + 1)
        self._sum = 0.0
        self._min = inf
        self._max = -inf
        self._exemplars = KeptBucketExemplars(boundaries)

    def add(self, tally: Tally) -> None:
        self._counts = [old + new for old, new in zip(self._counts, tally.counts, strict=True)]
        self._sum += tally.sum
        self._min = min(self._min, tally.min)
        self._max = max(self._max, tally.max)

    def sample(self, tally: Tally, now: int, attributes: Mapping[str, Any], at: Context) -> None:
        """Offer the newest value of each bucket as its exemplar."""
        for count, newest in zip(tally.counts, tally.newest, strict=True):
            if count:
                self._exemplars.offer(newest, now, attributes, at)

    def collect(self, now: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=self._attributes,
            start_time_unix_nano=self._started,
            time_unix_nano=now,
            count=sum(self._counts),
            sum=self._sum,
            bucket_counts=tuple(self._counts),
            explicit_bounds=self._boundaries,
            min=self._min,
            max=self._max,
            exemplars=self._exemplars.collect(self._attributes),
        )


class TalliedHistograms:
    """The tallied histograms of one meter provider."""

    def __init__(
        self, scope: InstrumentationScope, exemplar_filter: ExemplarFilter | None = None
    ) -> None:
        """Add the histograms to what the meter of `scope` has made."""
        self._scope = scope
        self._filter = exemplar_filter or TraceBasedExemplarFilter()
        self._histograms: dict[str, TalliedHistogram] = {}
        if hasattr(os, "register_at_fork"):
            # A forked process has sums of its own.
            os.register_at_fork(after_in_child=partial(_clear, weakref.ref(self)))

    def histogram(self, metric: Metric) -> TalliedHistogram:
        """Return the histogram of that name; the same one for all callers."""
        found = self._histograms.get(metric.name)
        return found or self._histograms.setdefault(
            metric.name, TalliedHistogram(metric, self._filter)
        )

    def clear(self) -> None:
        """Forget all values."""
        for histogram in list(self._histograms.values()):
            histogram.clear()

    def added_to(self, data: MetricsData) -> MetricsData:
        """Return collected metrics with the points of all histograms in addition."""
        # A copy: another thread may add a histogram meanwhile.
        collected = [histogram.collect() for histogram in list(self._histograms.values())]
        own = [metric for metric in collected if metric is not None]
        if not own or not data.resource_metrics:
            return data
        first, *others = data.resource_metrics
        scopes = list(first.scope_metrics)
        for index, each in enumerate(scopes):
            if each.scope == self._scope:
                scopes[index] = replace(each, metrics=[*each.metrics, *own])
                break
        else:
            scopes.append(ScopeMetrics(self._scope, own, self._scope.schema_url or ""))
        return replace(data, resource_metrics=[replace(first, scope_metrics=scopes), *others])


def _clear(reference: "weakref.ref[TalliedHistograms]") -> None:
    # Fork handlers last as long as the process, and must not keep the histograms alive.
    histograms = reference()
    if histograms is not None:
        histograms.clear()
