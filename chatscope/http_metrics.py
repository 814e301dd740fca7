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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, Observation

from chatscope import names
from chatscope.instruments import histogram
from chatscope.observing import observe
from chatscope.tally import Tally

# Attribute sets that are remembered. Routes come from templates, the rest from short lists.
_MAX_SERIES: Final = 2000
_NO_CONTEXT: Final = Context()


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

    `tallied` says that the meter's histograms accept a `Tally`.
    """

    def __init__(self, meter: Meter, *, tallied: bool) -> None:
        self._tallied = tallied
        self._duration = histogram(meter, names.HTTP_REQUEST_DURATION)
        self._request_size = histogram(meter, names.HTTP_REQUEST_BODY_SIZE)
        self._response_size = histogram(meter, names.HTTP_RESPONSE_BODY_SIZE)
        self._series: dict[tuple[Kind, str | None, int | None, str | None], Series] = {}
        self._reset()
        os.register_at_fork(after_in_child=partial(_reset, weakref.ref(self)))
        observe(meter, names.HTTP_ACTIVE_REQUESTS, self._collect)

    def _reset(self) -> None:
        """Begin at zero, also in a forked process: what is pending there is the parent's."""
        # Reentrant: the garbage collector may end an abandoned request at any place.
        self._lock = threading.RLock()
        # By method and scheme.
        self._active: dict[tuple[str, str], int] = {}
        self._pending: dict[Series, tuple[_Values, _Values, _Values]] = {}

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
        if not self._tallied or len(self._pending) >= _MAX_SERIES:
            self._record_now(series, seconds, received, sent, context or _NO_CONTEXT)
            return
        with self._lock:
            values = self._pending.get(series)
            if values is None:
                values = self._pending[series] = (
                    _Values(names.HTTP_REQUEST_DURATION.buckets or ()),
                    _Values(names.HTTP_REQUEST_BODY_SIZE.buckets or ()),
                    _Values(names.HTTP_RESPONSE_BODY_SIZE.buckets or ()),
                )
            values[0].add(seconds, context)
            if received is not None:
                values[1].add(received, context)
            if sent is not None:
                values[2].add(sent, context)

    def _record_now(
        self,
        series: Series,
        seconds: float,
        received: int | None,
        sent: int | None,
        context: Context,
    ) -> None:
        self._duration.record(seconds, series.attributes, context)
        if received is not None:
            self._request_size.record(received, series.attributes, context)
        if sent is not None:
            self._response_size.record(sent, series.attributes, context)

    def _collect(self) -> Iterable[Observation]:
        """Record what is pending, and return the requests that are active."""
        with self._lock:
            pending, self._pending = self._pending, {}
            active = list(self._active.items())
        for series, (duration, request_size, response_size) in pending.items():
            duration.record(self._duration, series.attributes)
            request_size.record(self._request_size, series.attributes)
            response_size.record(self._response_size, series.attributes)
        return [
            Observation(count, {names.HTTP_REQUEST_METHOD: method, names.URL_SCHEME: scheme})
            for (method, scheme), count in active
        ]


class _Values:
    """Values of one histogram and one attribute set since the last collection."""

    __slots__ = ("_boundaries", "_buckets")

    def __init__(self, boundaries: Sequence[float]) -> None:
        self._boundaries = boundaries
        # By bucket, with values that have no sampled span apart: they are no exemplars.
        self._buckets: dict[tuple[int, bool], tuple[Tally, list[Context]]] = {}

    def add(self, value: float, context: Context | None) -> None:
        """Count one value."""
        key = (bisect_left(self._boundaries, value), context is None)
        found = self._buckets.get(key)
        if found is None:
            found = self._buckets[key] = (Tally(self._boundaries), [_NO_CONTEXT])
        found[0].add(value)
        if context is not None:
            found[1][0] = context

    def record(self, into: Histogram, attributes: Mapping[str, str | int]) -> None:
        """Record all values: one measurement for each bucket, with the newest value's context."""
        for tally, [context] in self._buckets.values():
            tally.record(into, attributes, context)


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
    return Series(name, found, {**kind.attributes, **found})
