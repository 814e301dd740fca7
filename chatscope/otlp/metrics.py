"""Metric points in OTLP wire format.

Source: opentelemetry/proto/metrics/v1/metrics.proto
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import inf
from struct import pack
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    Metric,
    Sum,
)

from .anyvalue import attributes, utf8
from .redacting import forget_with
from .steps import Steps
from .values import MAX_INT, MIN_INT
from .wire import I64, LEN, VARINT, double, fixed64, sfixed64, sint32, sized, tag, varint

_POINT: Final = tag(1, LEN)
_TEMPORALITY: Final = tag(2, VARINT)
_MONOTONIC: Final = tag(3, VARINT) + b"\x01"
_GAUGE: Final = tag(5, LEN)
_SUM: Final = tag(7, LEN)
_HISTOGRAM: Final = tag(9, LEN)
_EXPONENTIAL: Final = tag(10, LEN)

_START: Final = tag(2, I64)
_TIME: Final = tag(3, I64)
_AS_DOUBLE: Final = tag(4, I64)
_AS_INT: Final = tag(6, I64)
_COUNT: Final = tag(4, I64)
_TOTAL: Final = tag(5, I64)
_BUCKET_COUNTS: Final = tag(6, LEN)
_BOUNDS: Final = tag(7, LEN)
_SCALE: Final = tag(6, VARINT)
_ZERO_COUNT: Final = tag(7, I64)
_POSITIVE: Final = tag(8, LEN)
_NEGATIVE: Final = tag(9, LEN)
_FLAGS: Final = tag(10, VARINT)

_NUMBER_ATTRIBUTE: Final = tag(7, LEN)
_NUMBER_EXEMPLAR: Final = tag(5, LEN)
_HISTOGRAM_ATTRIBUTE: Final = tag(9, LEN)
_HISTOGRAM_EXEMPLAR: Final = tag(8, LEN)
_HISTOGRAM_MIN: Final = tag(11, I64)
_HISTOGRAM_MAX: Final = tag(12, I64)
_EXPONENTIAL_ATTRIBUTE: Final = tag(1, LEN)
_EXPONENTIAL_EXEMPLAR: Final = tag(11, LEN)
_EXPONENTIAL_MIN: Final = tag(12, I64)
_EXPONENTIAL_MAX: Final = tag(13, I64)

_EXEMPLAR_TIME: Final = tag(2, I64)
_EXEMPLAR_DOUBLE: Final = tag(3, I64)
_EXEMPLAR_INT: Final = tag(6, I64)
_EXEMPLAR_SPAN: Final = tag(4, LEN) + b"\x08"
_EXEMPLAR_TRACE: Final = tag(5, LEN) + b"\x10"
_EXEMPLAR_ATTRIBUTE: Final = tag(7, LEN)


class UnknownMetric(TypeError):
    """A kind of metric that this version does not know."""


def metric_head(metric: Metric) -> bytes:
    """Encode a metric's name, description and unit."""
    return _head(metric.name, metric.description or "", metric.unit or "")


@lru_cache(maxsize=1024)
def _head(name: str, description: str, unit: str) -> bytes:
    fields = ((1, name), (2, description), (3, unit))
    return b"".join(tag(number, LEN) + sized(utf8(text)) for number, text in fields if text)


forget_with(_head.cache_clear)


def metric_data(metric: Metric, points: Iterable[bytes]) -> bytes:
    """Encode the field with a metric's kind, its temporality and points of `encode_points`.

    Raises UnknownMetric.
    """
    data: Any = metric.data
    if isinstance(data, Gauge):
        return _GAUGE + sized(b"".join(points))
    end = _TEMPORALITY + varint(int(data.aggregation_temporality))
    if isinstance(data, Sum):
        end += _MONOTONIC if data.is_monotonic else b""
        return _SUM + sized(b"".join((*points, end)))
    if isinstance(data, Histogram):
        return _HISTOGRAM + sized(b"".join((*points, end)))
    if isinstance(data, ExponentialHistogram):
        return _EXPONENTIAL + sized(b"".join((*points, end)))
    raise UnknownMetric(type(data).__name__)


def encode_points(metric: Metric, steps: Steps) -> Iterator[bytes]:
    """Encode a metric's points one by one, each as a field of its kind.

    Raises UnknownMetric.
    """
    data: Any = metric.data
    if isinstance(data, Gauge | Sum):
        encode = _number_point
    elif isinstance(data, Histogram):
        encode = _histogram_point
    elif isinstance(data, ExponentialHistogram):
        encode = _exponential_point
    else:
        raise UnknownMetric(type(data).__name__)
    for point in data.data_points:
        yield _POINT + sized(encode(point, steps))
        steps.pause()


def _number_point(point: Any, steps: Steps) -> bytes:
    parts = _times(point)
    parts += _number(point.value, _AS_INT, _AS_DOUBLE)
    parts += _exemplars(_NUMBER_EXEMPLAR, point.exemplars, steps)
    parts += attributes(_NUMBER_ATTRIBUTE, point.attributes, steps)
    return b"".join(parts)


def _histogram_point(point: Any, steps: Steps) -> bytes:
    counts, bounds = point.bucket_counts, point.explicit_bounds
    parts = _times(point)
    if point.count:
        parts += (_COUNT, fixed64(point.count))
    parts += (_TOTAL, double(_float(point.sum)))
    if counts:
        parts += (_BUCKET_COUNTS, sized(pack(f"<{len(counts)}Q", *counts)))
    if bounds:
        parts += (_BOUNDS, sized(pack(f"<{len(bounds)}d", *bounds)))
    parts += _exemplars(_HISTOGRAM_EXEMPLAR, point.exemplars, steps)
    parts += attributes(_HISTOGRAM_ATTRIBUTE, point.attributes, steps)
    parts += (_HISTOGRAM_MIN, double(_float(point.min)), _HISTOGRAM_MAX, double(_float(point.max)))
    return b"".join(parts)


def _exponential_point(point: Any, steps: Steps) -> bytes:
    parts = attributes(_EXPONENTIAL_ATTRIBUTE, point.attributes, steps)
    parts += _times(point)
    if point.count:
        parts += (_COUNT, fixed64(point.count))
    parts += (_TOTAL, double(_float(point.sum)))
    if point.scale:
        parts += (_SCALE, sint32(point.scale))
    if point.zero_count:
        parts += (_ZERO_COUNT, fixed64(point.zero_count))
    for field, buckets in ((_POSITIVE, point.positive), (_NEGATIVE, point.negative)):
        if buckets.bucket_counts:
            parts += (field, sized(_buckets(buckets.offset, buckets.bucket_counts)))
    if point.flags:
        parts += (_FLAGS, varint(point.flags))
    parts += _exemplars(_EXPONENTIAL_EXEMPLAR, point.exemplars, steps)
    parts += (
        _EXPONENTIAL_MIN,
        double(_float(point.min)),
        _EXPONENTIAL_MAX,
        double(_float(point.max)),
    )
    return b"".join(parts)


def _buckets(offset: int, counts: Sequence[int]) -> bytes:
    head = tag(1, VARINT) + sint32(offset) if offset else b""
    return head + tag(2, LEN) + sized(b"".join(map(varint, counts)))


def _times(point: Any) -> list[bytes]:
    parts = []
    start = getattr(point, "start_time_unix_nano", None)
    if start:
        parts += [_START, fixed64(start)]
    return [*parts, _TIME, fixed64(point.time_unix_nano)]


def _exemplars(field: bytes, exemplars: Iterable[Any], steps: Steps) -> list[bytes]:
    parts = []
    for exemplar in exemplars or ():
        parts += [field, sized(_exemplar(exemplar, steps))]
        steps.pause()
    return parts


def _exemplar(exemplar: Any, steps: Steps) -> bytes:
    parts = [_EXEMPLAR_TIME, fixed64(exemplar.time_unix_nano)]
    parts += _number(exemplar.value, _EXEMPLAR_INT, _EXEMPLAR_DOUBLE)
    if exemplar.span_id is not None and exemplar.trace_id is not None:
        parts += (
            _EXEMPLAR_SPAN,
            exemplar.span_id.to_bytes(8, "big"),
            _EXEMPLAR_TRACE,
            exemplar.trace_id.to_bytes(16, "big"),
        )
    parts += attributes(_EXEMPLAR_ATTRIBUTE, exemplar.filtered_attributes, steps)
    return b"".join(parts)


def _number(value: Any, as_int: bytes, as_double: bytes) -> tuple[bytes, bytes]:
    """Encode a point's value: as a float where a sum has outgrown 64 bits."""
    if isinstance(value, int):
        exact = int.__pos__(value)
        if MIN_INT <= exact <= MAX_INT:
            return as_int, sfixed64(exact)
    return as_double, double(_float(value))


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf
