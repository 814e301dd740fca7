"""Whether a quantity stays where it is under a steady load: the pure half of bench.soak."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

PARTS: Final = 5
_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Bound:
    """How much a quantity may have grown and still be called flat: a share of it, or `least`."""

    share: float
    least: float

    def of(self, before: float) -> float:
        """The most that it may have grown from there."""
        return max(self.share * before, self.least)


@dataclass(frozen=True)
class Trend:
    """Medians of the second part of a run and of its last; `hourly`: growth in an hour of it."""

    before: float
    after: float
    hourly: float
    bound: float

    @property
    def is_flat(self) -> bool:
        """What falls is flat, too: nothing is used up."""
        return self.after - self.before <= self.bound


def trend(samples: Sequence[tuple[float, float]], bound: Bound) -> Trend:
    """Of (seconds, value) in the order of time, enough of them that no part is empty.

    The first part is left out: there caches and pools fill. Raises ValueError.
    """
    start, end = samples[0][0], samples[-1][0]
    length = (end - start) / PARTS
    second = [value for time, value in samples if length <= time - start < 2 * length]
    last = [value for time, value in samples if time - start >= (PARTS - 1) * length]
    if not second or not last or not length:
        raise ValueError(f"{len(samples)} samples are too few to see a trend in")
    before, after = median(second), median(last)
    # Between the middles of the two parts.
    hours = (PARTS - 2) * length / _HOUR
    return Trend(before, after, (after - before) / hours, bound.of(before))
