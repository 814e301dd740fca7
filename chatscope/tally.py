"""Record many values of a histogram at once.

The SDK takes some ten microseconds to record a value. A streamed response has thousands of pauses
between its chunks: they are counted by bucket here as they come, for less than a microsecond each,
and the counts are added to the SDK's when the response has ended.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics._internal.aggregation import (
    # Private: the SDK has no public way to add more than one value.
    _ExplicitBucketHistogramAggregation,
)
from opentelemetry.sdk.metrics._internal.measurement import Measurement
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation
from opentelemetry.util.types import Attributes


class Tally:
    """Values of one histogram, counted by bucket."""

    def __init__(self, boundaries: Sequence[float]) -> None:
        self._boundaries = boundaries
        self.counts = [0] * (len(boundaries) + 1)
        # The newest value of each bucket, for its exemplar.
        self.newest = [0.0] * (len(boundaries) + 1)
        self.sum = 0.0
        self.min = inf
        self.max = -inf

    def add(self, value: float) -> None:
        """Count one value."""
        place = bisect_left(self._boundaries, value)
        self.counts[place] += 1
        self.newest[place] = value
        self.sum += value
        # The built-in functions take as long as all of the above.
        if value < self.min:  # noqa: PLR1730
            self.min = value
        if value > self.max:  # noqa: PLR1730
            self.max = value

    def record(self, histogram: Histogram, attributes: Attributes, context: Context) -> None:
        """Add all values to `histogram`, whose view has `TallyingBuckets`."""
        if self.max >= 0:
            histogram.record(TalliedValue(self), attributes, context)


class TalliedValue(float):
    """A tally, in the place of the value that the SDK takes."""

    tally: Tally

    def __new__(cls, tally: Tally) -> "TalliedValue":
        """The largest value stands for all of them where the tally is not looked at."""
        made = super().__new__(cls, tally.max)
        made.tally = tally
        return made


class TallyingBuckets(ExplicitBucketHistogramAggregation):
    """Explicit buckets that accept tallies beside single values."""

    def _create_aggregation(self, *arguments: Any, **options: Any) -> Any:
        made = super()._create_aggregation(*arguments, **options)
        made.__class__ = _Aggregation
        return made


class _Aggregation(_ExplicitBucketHistogramAggregation):
    # The SDK's annotations are those of their first values.
    _value: Any
    _sum: Any

    def aggregate(self, measurement: Measurement, should_sample_exemplar: bool = True) -> None:
        value = measurement.value
        if type(value) is not TalliedValue:
            super().aggregate(measurement, should_sample_exemplar)
            return
        tally = value.tally
        with self._lock:
            if self._value is None:
                self._value = self._get_empty_bucket_counts()
            for count, newest in zip(tally.counts, tally.newest, strict=True):
                self._value[bisect_left(self._boundaries, newest)] += count
            self._sum += tally.sum
            self._min = min(self._min, tally.min)
            self._max = max(self._max, tally.max)
        if should_sample_exemplar:
            for count, newest in zip(tally.counts, tally.newest, strict=True):
                if count:
                    self._reservoir.offer(
                        newest,
                        measurement.time_unix_nano,
                        measurement.attributes,
                        measurement.context,
                    )
