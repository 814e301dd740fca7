"""HTTP server metrics, added up between two collections.

The SDK takes about ten microseconds to record one value, three times a request. So the values of a
request are counted by bucket here, and recorded together when metrics are collected: then the
callback of an observable instrument runs. The newest sampled value of each bucket keeps its context
for the exemplar.
"""

import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, Observation

from chatscope import names
from chatscope.instruments import histogram
from chatscope.observing import observe
from chatscope.otlp.values import plain
from chatscope.tally import TalliedHistogram, Tallies, Tally

# Attribute sets that are remembered. Routes come from templates, the rest from short lists.
_MAX_SERIES: Final = 2000
_NO_CONTEXT: Final = Context()
_METRICS: Final = (
    names.HTTP_REQUEST_DURATION,
    names.HTTP_REQUEST_BODY_SIZE,
    names.HTTP_RESPONSE_BODY_SIZE,
)


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """Requests with equal attributes: what is set on their spans, and the metrics' attributes."""

    span_name: str
    span_attributes: Mapping[str, str | int]
    attributes: Mapping[str, str | int]


@dataclass(frozen=True, eq=False, slots=True)
class Kind:
    """Requests with equal method, scheme and protocol version."""

    span_name: str  # of requests that no route matches
    active: tuple[str, str]
    attributes: Mapping[str, str | int]


class HttpMetrics:
    """The HTTP server metrics of one meter.

    With `tallies` the values are added up between two collections; without, where the readers of
    the meter do not add tallies, each is recorded as it comes.
    """

    def __init__(self, meter: Meter, tallies: Tallies | None) -> None:
        self._tallied = None if tallies is None else tuple(map(tallies.histogram, _METRICS))
        self._direct = () if tallies else tuple(histogram(meter, metric) for metric in _METRICS)
        self._series: dict[tuple[Kind, str | None, int | None, str | None], Series] = {}
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_reset, weakref.ref(self)))
        observe(meter, names.HTTP_ACTIVE_REQUESTS, self._collect)

    def _reset(self) -> None:
        """Begin at zero, also in a forked process: what is pending there is the parent's."""
        # Reentrant: the garbage collector may end an abandoned request at any place.
        self._lock = threading.RLock()
        # By method and scheme.
        self._active: dict[tuple[str, str], int] = {}
        self._pending: dict[Series, tuple[_Values, ...]] = {}

    def start(self, kind: Kind) -> None:
        """Count a request that begins."""
        with self._lock:
            self._active[kind.active] = self._active.get(kind.active, 0) + 1

    def stop(self, kind: Kind) -> None:
        """Count a request that has ended."""
        with self._lock:
            # None in a process that was forked during the request.
            if self._active.get(kind.active):
                self._active[kind.active] -= 1

    def series(
        self, kind: Kind, route: str | None, status: int | None, error_type: str | None
    ) -> Series:
        """Return the series of an ended request."""
        key = (kind, route, status, error_type)
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= _MAX_SERIES:
                self._series.clear()
            found = self._series[key] = _series(kind, route, status, error_type)
        return found

    def record(
        self,
        series: Series,
        seconds: float,
        received: int | None,
        sent: int | None,
        context: Context | None,
    ) -> None:
        """Record a request: its duration and the bytes of both bodies, None where unknown.

        `context` is that of its span; None when the span is not sampled.
        """
        found = (seconds, received, sent)
        if self._tallied is None:
            for direct, value in zip(self._direct, found, strict=True):
                if value is not None:
                    direct.record(value, series.attributes, context or _NO_CONTEXT)
            return
        if len(self._pending) >= _MAX_SERIES:
            self._merge()
        with self._lock:
            values = self._pending.get(series)
            if values is None:
                values = self._pending[series] = tuple(map(_Values, self._tallied))
            for each, value in zip(values, found, strict=True):
                if value is not None:
                    each.add(value, context)

    def _merge(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for series, values in pending.items():
            for each in values:
                each.record(series.attributes)

    def _collect(self) -> Iterable[Observation]:
        """Record what is pending, and return the requests that are active.

        The reader adds the tallies after the instruments' callbacks.
        """
        self._merge()
        with self._lock:
            active = list(self._active.items())
        return [
            Observation(count, {names.HTTP_REQUEST_METHOD: method, names.URL_SCHEME: scheme})
            for (method, scheme), count in active
        ]


class _Values:
    """Values of one histogram and one attribute set since the last collection."""

    __slots__ = ("_boundaries", "_contexts", "_histogram", "_tallies")

    def __init__(self, histogram: TalliedHistogram) -> None:
        self._histogram = histogram
        self._boundaries = histogram.boundaries
        # By bucket; then those of values that have no sampled span, which are no exemplars.
        self._tallies: list[Tally | None] = [None] * (2 * len(self._boundaries) + 2)
        self._contexts = [_NO_CONTEXT] * (len(self._boundaries) + 1)

    def add(self, value: float, context: Context | None) -> None:
        """Count one value."""
        place = index = bisect_left(self._boundaries, value)
        if context is None:
            index += len(self._contexts)
        else:
            self._contexts[place] = context
        tally = self._tallies[index]
        if tally is None:
            tally = self._tallies[index] = self._histogram.tally()
        tally.add_at(place, value)

    def record(self, attributes: Mapping[str, str | int]) -> None:
        """Record all values: one measurement for each bucket, with the newest value's context."""
        for index, tally in enumerate(self._tallies):
            if tally is not None:
                sampled = index < len(self._contexts)
                context = self._contexts[index] if sampled else _NO_CONTEXT
                tally.record(attributes, context)


def _reset(reference: "weakref.ref[HttpMetrics]") -> None:
    metrics = reference()
    if metrics is not None:
        metrics._reset()


def _series(kind: Kind, route: str | None, status: int | None, error_type: str | None) -> Series:
    found: dict[str, str | int] = {}
    if route is not None:
        found[names.HTTP_ROUTE] = route
    if status is not None:
        found[names.HTTP_RESPONSE_STATUS_CODE] = status
    if error_type is not None:
        found[names.ERROR_TYPE] = error_type
    name = kind.span_name if route is None else f"{kind.span_name} {route}"
    return Series(name, plain(found), {**kind.attributes, **found})
