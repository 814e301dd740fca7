"""What a run made, what was found of it, and the difference."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_NS = 1_000_000_000


@dataclass(frozen=True)
class Found:
    """One item in a store; without a number, or not intact, it was spoilt on the way."""

    number: int | None
    intact: bool


class Sightings:
    """What was found of one signal so far.

    `first`: by number, when it was first seen, in seconds since the epoch; `times`: how often it is
    there; `spoilt`: what is not as it was made, and how many had no number.
    """

    def __init__(self) -> None:
        self.first: dict[int, float] = {}
        self.times: dict[int, int] = {}
        self.spoilt: set[int] = set()
        self.strays = 0

    def note(self, found: Iterable[Found], now: float) -> None:
        """What one look found; one that was seen before is seen again, not found twice."""
        seen = Counter[int]()
        strays = 0
        for one in found:
            if one.number is None:
                strays += 1
                continue
            seen[one.number] += 1
            if not one.intact:
                self.spoilt.add(one.number)
        for number, times in seen.items():
            self.first.setdefault(number, now)
            self.times[number] = max(times, self.times.get(number, 0))
        self.strays = max(strays, self.strays)


@dataclass
class Book:
    """One run: what it made, by number, when, in nanoseconds; and what of it was found so far.

    `doubtful`: told of by a process that was killed, which may not have come to make it.
    """

    run: str
    created: dict[int, int] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)
    spans: Sightings = field(default_factory=Sightings)
    logs: Sightings = field(default_factory=Sightings)

    def certain(self) -> set[int]:
        """What must be found."""
        return set(dict(self.created)) - self.doubtful


@dataclass(frozen=True, kw_only=True)
class Account:
    """One signal: how much was sent and found, and the difference.

    `latest`: seconds after which the last one was found, where that is known.
    """

    sent: int
    found: int
    lost: int = 0
    twice: int = 0
    late: int = 0
    corrupted: int = 0
    latest: float | None = None
    lost_numbers: tuple[int, ...] = ()

    @property
    def difference(self) -> int:
        """All that must be 0; what is late is only late."""
        return self.lost + self.twice + self.corrupted


@dataclass(frozen=True)
class Accounts:
    """Those of one run; `gap`: the longest time without a sample of its counter, in seconds."""

    run: str
    spans: Account
    logs: Account
    increments: Account
    gap: float

    @property
    def all(self) -> dict[str, Account]:
        """By what a person calls them."""
        return {"spans": self.spans, "log lines": self.logs, "increments": self.increments}

    @property
    def lost(self) -> int:
        return sum(account.lost for account in self.all.values())

    @property
    def twice(self) -> int:
        return sum(account.twice for account in self.all.values())

    @property
    def corrupted(self) -> int:
        return sum(account.corrupted for account in self.all.values())

    @property
    def difference(self) -> int:
        """All that must be 0."""
        return sum(account.difference for account in self.all.values())


def settle_items(book: Book, sightings: Sightings, late_after: float) -> Account:
    """Of a signal whose items are found one by one."""
    known = book.created.keys() & sightings.first.keys()
    lost = book.certain() - sightings.first.keys()
    waits = [sightings.first[number] - book.created[number] / _NS for number in known]
    # One that nobody made is none of ours: something spoilt its number.
    unknown = sightings.first.keys() - book.created.keys()
    return Account(
        sent=len(book.certain() | known),
        found=len(known),
        lost=len(lost),
        twice=sum(sightings.times[number] - 1 for number in known),
        late=sum(wait > late_after for wait in waits),
        corrupted=len(sightings.spoilt | unknown) + sightings.strays,
        latest=max(waits, default=None),
        lost_numbers=tuple(sorted(lost)),
    )


def settle_sums(book: Book, series: Iterable[Sequence[tuple[float, float]]]) -> Account:
    """Of a counter: a series of (time, value) for each process that made items.

    A counter that falls was spoilt.
    """
    series = [points for points in series if points]
    found = round(sum(max(value for _, value in points) for points in series))
    certain = len(book.certain())
    return Account(
        sent=min(max(certain, found), len(book.created)),
        found=found,
        lost=max(0, certain - found),
        twice=max(0, found - len(book.created)),
        corrupted=sum(
            later < earlier for points in series for (_, earlier), (_, later) in pairwise(points)
        ),
    )


def longest_gap(series: Iterable[Sequence[tuple[float, float]]]) -> float:
    """Seconds, over all the series of a run as if they were one."""
    times = sorted(time for points in series for time, _ in points)
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def is_complete(book: Book) -> bool:
    """Whether each span and log line has been found."""
    certain = book.certain()
    return certain <= book.spans.first.keys() and certain <= book.logs.first.keys()


def missing(created: Mapping[int, int], sightings: Sightings) -> set[int]:
    """What is yet to be found."""
    return created.keys() - sightings.first.keys()
