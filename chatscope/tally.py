"""Instruments that record at less cost than the SDK's, and accept many values at once.

The SDK needs some fifteen microseconds to record one value, and a response has fourteen. A tallied
instrument takes a quarter of that: it offers exemplars only when metrics are collected, the newest
one of each bucket. A streamed response has thousands of pauses between its chunks besides: a
`Tally` counts them by bucket, in less than a microsecond each, and its counts are merged into a
`TalliedHistogram` when the response has ended. `Tallies` adds the points to the metrics that a
reader has collected, by the SDK's public data classes.
"""

import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final, Generic, TypeVar

from opentelemetry.context import Context, get_current
from opentelemetry.sdk.metrics import ExemplarFilter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Metric as CollectedMetric
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chatscope.exemplars import KeptBucketExemplars, KeptLastExemplar
from chatscope.names import Metric
from chatscope.otlp.values import convert, copied, number

# The limit and the attribute are the SDK's: further sets of attributes share one point.
_MAX_POINTS: Final = 2000
_OVERFLOW: Final = {"otel.metric.overflow": True}
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
Attributes = Mapping[str, Any]


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

    def record(self, attributes: Attributes, context: Context) -> None:
        """Merge all values into the histogram's point of these attributes."""
        if self.max >= self.min:
            self._histogram.merge(self, attributes, context)


_Point = TypeVar("_Point", "_Buckets", "_Total")


class _Tallied(ABC, Generic[_Point]):
    """An instrument: a point for each set of attributes, cumulative since its first value."""

    def __init__(
        self, metric: Metric, exemplar_filter: ExemplarFilter, *, falls: bool = False
    ) -> None:
        """With `falls`, negative values are accepted."""
        self.metric = metric
        self._filter = exemplar_filter
        self._falls = falls
        self.clear()

    def clear(self) -> None:
        """Forget all values."""
        self._points: dict[Any, _Point] = {}
        # By the attributes as they were given, in their order: to find most points at once.
        self._known: dict[tuple[Any, ...], _Point] = {}
        # A new one: after a fork, another thread may have held it. Reentrant, because the garbage
        # collector may end an abandoned operation at any place.
        self._lock = threading.RLock()

    def collect(self) -> CollectedMetric | None:
        """Return the points; None before the first value."""
        now = time.time_ns()
        with self._lock:
            data = self._data(now) if self._points else None
        if data is None:
            return None
        return CollectedMetric(self.metric.name, self.metric.description, self.metric.unit, data)

    def _add(self, amount: float, attributes: Attributes | None, context: Context | None) -> None:
        value, now = number(amount), time.time_ns()
        if value < 0 and not self._falls:
            return
        at = get_current() if context is None else context
        sampled = self._filter.should_sample(value, now, attributes, at)
        with self._lock:
            self._point(attributes, now).add(value, now, at if sampled else None)

    def _point(self, attributes: Attributes | None, now: int) -> _Point:
        """Return the point of these attributes, made if there is none."""
        given: Any = None
        if type(attributes) is dict:
            given = tuple(attributes.items())
            try:
                known = self._known.get(given)
            except Exception:  # a value has no hash
                given = known = None
            if known is not None:
                return known
        shown = copied(attributes) if type(attributes) is dict else None
        found = self._point_of(shown, attributes, now)
        # Other values may change, or be large objects that would be kept alive.
        if given is not None and shown is not None:
            if len(self._known) >= _MAX_POINTS:
                self._known.clear()
            self._known[given] = found
        return found

    def _point_of(
        self, shown: dict[str, Any] | None, attributes: Attributes | None, now: int
    ) -> _Point:
        if shown is None:
            shown = dict(convert(attributes)) if attributes else {}
        key: Any = frozenset(shown.items()) if _is_flat(shown) else repr(shown)
        found = self._points.get(key)
        if found is not None:
            return found
        if len(self._points) >= _MAX_POINTS:
            key, shown = frozenset(_OVERFLOW.items()), dict(_OVERFLOW)
        return self._points.setdefault(key, self._made(shown, now))

    @abstractmethod
    def _made(self, attributes: dict[str, Any], now: int) -> _Point:
        """Return a point without values."""

    @abstractmethod
    def _data(self, now: int) -> HistogramData | Sum:
        """Return all points."""


class TalliedHistogram(_Tallied["_Buckets"]):
    """One histogram."""

    def __init__(self, metric: Metric, exemplar_filter: ExemplarFilter) -> None:
        super().__init__(metric, exemplar_filter)
        self.boundaries = metric.buckets or ()

    def tally(self) -> Tally:
        """Return an empty tally for this histogram."""
        return Tally(self)

    def record(
        self,
        amount: float,
        attributes: Attributes | None = None,
        context: Context | None = None,
    ) -> None:
        """Add one value, as the SDK's histogram does: one below zero is ignored."""
        self._add(amount, attributes, context)

    def merge(self, tally: Tally, attributes: Attributes, context: Context) -> None:
        """Add the values of a tally."""
        now = time.time_ns()
        sampled = self._filter.should_sample(tally.max, now, attributes, context)
        with self._lock:
            self._point(attributes, now).merge(tally, now, context if sampled else None)

    def _made(self, attributes: dict[str, Any], now: int) -> "_Buckets":
        return _Buckets(attributes, self.boundaries, now)

    def _data(self, now: int) -> HistogramData:
        return HistogramData([each.collect(now) for each in self._points.values()], _CUMULATIVE)


class TalliedSum(_Tallied["_Total"]):
    """One counter; with `falls`, an up-down counter."""

    def add(
        self,
        amount: float,
        attributes: Attributes | None = None,
        context: Context | None = None,
    ) -> None:
        """Add to the sum, as the SDK's counters do: one that never falls ignores negative ones."""
        self._add(amount, attributes, context)

    def _made(self, attributes: dict[str, Any], now: int) -> "_Total":
        return _Total(attributes, now)

    def _data(self, now: int) -> Sum:
        points = [each.collect(now) for each in self._points.values()]
        return Sum(points, _CUMULATIVE, is_monotonic=not self._falls)


class _Buckets:
    """The values of a histogram with one set of attributes."""

    def __init__(
        self, attributes: dict[str, Any], boundaries: tuple[float, ...], started: int
    ) -> None:
        self._attributes = attributes
        self._boundaries = boundaries
        self._started = started
        self._counts = [0] * (len(boundaries) + 1)
        self._sum: float = 0.0
        self._min = inf
        self._max = -inf
        self._exemplars = KeptBucketExemplars(boundaries)
        # By bucket: the newest sampled value since the last collection, its time and context.
        self._newest: dict[int, tuple[float, int, Context]] = {}

    def add(self, value: float, now: int, context: Context | None) -> None:
        place = bisect_left(self._boundaries, value)
        self._counts[place] += 1
        self._sum += value
        self._min = min(self._min, value)
        self._max = max(self._max, value)
        if context is not None:
            self._newest[place] = (value, now, context)

    def merge(self, tally: Tally, now: int, context: Context | None) -> None:
        self._counts = [old + new for old, new in zip(self._counts, tally.counts, strict=True)]
        self._sum += tally.sum
        self._min = min(self._min, tally.min)
        self._max = max(self._max, tally.max)
        if context is not None:
            for place, count in enumerate(tally.counts):
                if count:
                    self._newest[place] = (tally.newest[place], now, context)

    def collect(self, now: int) -> HistogramDataPoint:
        for value, at, context in self._newest.values():
            self._exemplars.offer(value, at, self._attributes, context)
        self._newest = {}
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


class _Total:
    """The sum of a counter with one set of attributes."""

    def __init__(self, attributes: dict[str, Any], started: int) -> None:
        self._attributes = attributes
        self._started = started
        self._sum: float = 0
        self._exemplars = KeptLastExemplar()
        self._newest: tuple[float, int, Context] | None = None

    def add(self, value: float, now: int, context: Context | None) -> None:
        self._sum += value
        if context is not None:
            self._newest = (value, now, context)

    def collect(self, now: int) -> NumberDataPoint:
        if self._newest is not None:
            value, at, context = self._newest
            self._exemplars.offer(value, at, self._attributes, context)
            self._newest = None
        return NumberDataPoint(
            attributes=self._attributes,
            start_time_unix_nano=self._started,
            time_unix_nano=now,
            value=self._sum,
            exemplars=self._exemplars.collect(self._attributes),
        )


def _is_flat(attributes: Mapping[str, Any]) -> bool:
    """Whether all values can be part of a key: those of plain attributes can."""
    return not any(type(each) is dict or type(each) is tuple for each in attributes.values())


class Tallies:
    """The tallied instruments of one meter provider."""

    def __init__(
        self, scope: InstrumentationScope, exemplar_filter: ExemplarFilter | None = None
    ) -> None:
        """Add the instruments to what the meter of `scope` has made."""
        self._scope = scope
        self._filter = exemplar_filter or TraceBasedExemplarFilter()
        self._histograms: dict[str, TalliedHistogram] = {}
        self._sums: dict[str, TalliedSum] = {}
        if hasattr(os, "register_at_fork"):
            # A forked process has sums of its own.
            os.register_at_fork(after_in_child=partial(_clear, weakref.ref(self)))

    def histogram(self, metric: Metric) -> TalliedHistogram:
        """Return the histogram of that name; the same one for all callers."""
        found = self._histograms.get(metric.name)
        return found or self._histograms.setdefault(
            metric.name, TalliedHistogram(metric, self._filter)
        )

    def sum(self, metric: Metric, *, falls: bool = False) -> TalliedSum:
        """Return the counter of that name, with `falls` an up-down counter."""
        found = self._sums.get(metric.name)
        return found or self._sums.setdefault(
            metric.name, TalliedSum(metric, self._filter, falls=falls)
        )

    def clear(self) -> None:
        """Forget all values."""
        for each in self._all():
            each.clear()

    def collect(self) -> list[CollectedMetric]:
        """Return the metrics that have a value."""
        return [metric for each in self._all() if (metric := each.collect()) is not None]

    def _all(self) -> list[TalliedHistogram | TalliedSum]:
        # Copies: another thread may add an instrument meanwhile.
        return [*list(self._histograms.values()), *list(self._sums.values())]

    def added_to(self, data: MetricsData) -> MetricsData:
        """Return collected metrics with the points of all instruments in addition."""
        own = self.collect()
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


def _clear(reference: "weakref.ref[Tallies]") -> None:
    # Fork handlers last as long as the process, and must not keep the instruments alive.
    tallies = reference()
    if tallies is not None:
        tallies.clear()
