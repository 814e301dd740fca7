"""Checks whether a quantity stays constant under a steady load: the pure part of bench.soak."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

PARTS: Final = 5
_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Bound:
    """Accepted growth of a quantity that counts as flat: a share of it, or at least `least`."""

    share: float
    least: float

    def of(self, before: float) -> float:
        """Return the accepted growth from a value."""
        return max(self.share * before, self.least)


@dataclass(frozen=True)
class Trend:
    """Medians of the second and the last fifth of a run; `hourly`: growth per hour."""

    before: float
    after: float
    hourly: float
    bound: float

    @property
    def is_flat(self) -> bool:
        """Whether it did not grow beyond the bound; a decrease is flat, too."""
        return self.after - self.before <= self.bound


def trend(samples: Sequence[tuple[float, float]], bound: Bound) -> Trend:
    """Return the trend of (seconds, value) pairs, ordered by time, with no empty fifth.

    The first fifth is ignored, because caches and pools fill. Raises ValueError.
    """
    start, end = samples[0][0], samples[-1][0]
    length = (end - start) / PARTS
    second = [value for time, value in samples if length <= time - start < 2 * length]
    last = [value for time, value in samples if time - start >= (PARTS - 1) * length]
    if not second or not last or not length:
        raise ValueError(f"{len(samples)} samples are too few for a trend")
    before, after = median(second), median(last)
    # Between the midpoints of the two fifths.
    hours = (PARTS - 2) * length / _HOUR
    return Trend(before, after, (after - before) / hours, bound.of(before))
