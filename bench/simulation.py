"""A simulation of a backend under a load of a day, with outages, to check bench/capacity.py.

Each second, responses arrive at random (Poisson) at a rate that follows the time of day; a queue
holds the items that the backend has not handled yet; while it is down, all of them.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_DAY_SECONDS: Final = 86_400


@dataclass(frozen=True)
class Outage:
    """Seconds of the day in which the backend does nothing."""

    begin: int
    end: int


@dataclass(frozen=True)
class Day:
    """What was seen: items in total and in the longest queue, and the seconds after the last
    outage until the queue was as short as before."""

    items: int
    longest_queue: float
    catch_up_seconds: int
    busiest_hour: float  # items a second


def rate_at(second: int, mean: float, peak: float) -> float:
    """Return the rate at a second of the day: `mean` on average, `peak` times that at most.

    A cosine raised to a power that gives both: quiet nights and one busy time.
    """
    power = _power(peak)
    height: float = ((1 + math.cos(2 * math.pi * second / _DAY_SECONDS)) / 2) ** power
    return mean * peak * height


def _power(peak: float) -> float:
    """Return the power for which the mean is 1 / peak: found by bisection."""
    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        # The mean of ((1 + cos) / 2) ** p is Γ(p + 1/2) / (√π Γ(p + 1)).
        mean = math.exp(math.lgamma(middle + 0.5) - math.lgamma(middle + 1)) / math.sqrt(math.pi)
        low, high = (middle, high) if mean > 1 / peak else (low, middle)
    return (low + high) / 2


def simulate(
    mean: float,
    peak: float,
    items: float,
    capacity: float,
    outages: Sequence[Outage] = (),
    *,
    seed: int = 1,
) -> Day:
    """Run one day of `mean` responses a second, with so many items each, at a backend that can do
    `capacity` items a second."""
    chance = random.Random(seed)  # noqa: S311
    queue = longest = 0.0
    total = caught_up = 0
    last_end = max((outage.end for outage in outages), default=0)
    hours = [0] * 24
    for second in range(_DAY_SECONDS):
        arrived = _poisson(chance, rate_at(second, mean, peak) * items)
        total += arrived
        hours[second // 3600] += arrived
        queue += arrived
        if not any(outage.begin <= second < outage.end for outage in outages):
            queue = max(0.0, queue - capacity)
        longest = max(longest, queue)
        if second >= last_end and not caught_up and queue <= 0:
            caught_up = second - last_end + 1
    return Day(total, longest, caught_up, max(hours) / 3600)


def _poisson(chance: random.Random, expected: float) -> int:
    # Large numbers are as good as normal.
    if expected > 50:
        return max(0, round(chance.gauss(expected, math.sqrt(expected))))
    limit, product, count = math.exp(-expected), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
