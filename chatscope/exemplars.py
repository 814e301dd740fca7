"""Exemplars that are exported repeatedly, so that a scrape once a minute finds them as well.

The SDK returns each exemplar once, at the next collection: with an export each second, the
Collector's scrape endpoint would lose it after a second. Prometheus drops the repeated
exemplars of remote write as duplicates.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    Exemplar,
    ExemplarReservoir,
    SimpleFixedSizeExemplarReservoir,
)
from opentelemetry.util.types import Attributes

# The longest usual scrape interval.
_KEEP_NS: Final = 60_000_000_000


class _Kept:
    """The newest exemplar at each index, until it is too old."""

    def __init__(self) -> None:
        self._by_place: dict[int, Exemplar] = {}

    def renewed(self, fresh: Mapping[int, Exemplar]) -> list[Exemplar]:
        """Return the exemplars with `fresh` ones added or replaced, without the old ones."""
        oldest = time.time_ns() - _KEEP_NS
        kept = {**self._by_place, **fresh}
        self._by_place = {
            place: exemplar for place, exemplar in kept.items() if exemplar.time_unix_nano > oldest
        }
        return list(self._by_place.values())


class KeptBucketExemplars(AlignedHistogramBucketExemplarReservoir):
    """One exemplar for each bucket of a histogram."""

    def __init__(self, boundaries: Sequence[float], **options: Any) -> None:
        super().__init__(boundaries, **options)
        self._bounds = boundaries
        self._kept = _Kept()

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:
        """Return the current exemplars."""
        fresh = {self._bucket(found.value): found for found in super().collect(point_attributes)}
        return self._kept.renewed(fresh)

    def _bucket(self, value: float) -> int:
        return bisect_left(self._bounds, value)


class KeptLastExemplar(SimpleFixedSizeExemplarReservoir):
    """One exemplar for a counter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kept = _Kept()

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:
        """Return the current exemplar."""
        return self._kept.renewed(dict(enumerate(super().collect(point_attributes))))


def kept_exemplars(aggregation: type[Any]) -> type[ExemplarReservoir]:
    """The reservoir for an aggregation; a View's `exemplar_reservoir_factory`."""
    histogram = "ExplicitBucketHistogram" in aggregation.__name__
    return KeptBucketExemplars if histogram else KeptLastExemplar
