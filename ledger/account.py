"""The items of a run, the items found in the backends, and the difference."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_NS = 1_000_000_000


@dataclass(frozen=True)
class Found:
    """An item in a backend; it is damaged if it has no number or is not intact."""

    number: int | None
    intact: bool


class Observations:
    """The items of one signal found so far.

    `first`: by number, when it was first seen, in seconds since the epoch; `times`: how often it is
    stored; `damaged`: numbers of damaged items; `unnumbered`: the number of items without a number.
    """

    def __init__(self) -> None:
        self.first: dict[int, float] = {}
        self.times: dict[int, int] = {}
        self.damaged: set[int] = set()
        self.unnumbered = 0

    def add(self, found: Iterable[Found], now: float) -> None:
        """Add the result of one search; an item of several searches is not a duplicate."""
        seen = Counter[int]()
        unnumbered = 0
        for item in found:
            if item.number is None:
                unnumbered += 1
                continue
            seen[item.number] += 1
            if not item.intact:
                self.damaged.add(item.number)
        for number, times in seen.items():
            self.first.setdefault(number, now)
            self.times[number] = max(times, self.times.get(number, 0))
        self.unnumbered = max(unnumbered, self.unnumbered)


@dataclass
class RunRecord:
    """One run: its items by number with their creation time in nanoseconds, and the found items.

    `uncertain`: announced by a process that was killed, perhaps before it created them.
    """

    run: str
    created: dict[int, int] = field(default_factory=dict)
    uncertain: set[int] = field(default_factory=set)
    spans: Observations = field(default_factory=Observations)
    logs: Observations = field(default_factory=Observations)

    def certain(self) -> set[int]:
        """Return the numbers of items that must be found."""
        return set(dict(self.created)) - self.uncertain


@dataclass(frozen=True, kw_only=True)
class Account:
    """Number of items of one signal that were sent and found, and the difference.

    `latest`: seconds until the last one was found, if known.
    """

    sent: int
    found: int
    lost: int = 0
    duplicates: int = 0
    late: int = 0
    corrupted: int = 0
    latest: float | None = None
    lost_numbers: tuple[int, ...] = ()

    @property
    def difference(self) -> int:
        """The number of errors; late items are no errors."""
        return self.lost + self.duplicates + self.corrupted


@dataclass(frozen=True)
class Accounts:
    """The accounts of one run; `gap`: longest time without a sample of its counter, in seconds."""

    run: str
    spans: Account
    logs: Account
    increments: Account
    gap: float

    @property
    def all(self) -> dict[str, Account]:
        """The accounts by displayed name."""
        return {"spans": self.spans, "log lines": self.logs, "increments": self.increments}

    @property
    def lost(self) -> int:
        return sum(account.lost for account in self.all.values())

    @property
    def duplicates(self) -> int:
        return sum(account.duplicates for account in self.all.values())

    @property
    def corrupted(self) -> int:
        return sum(account.corrupted for account in self.all.values())

    @property
    def difference(self) -> int:
        """The number of errors."""
        return sum(account.difference for account in self.all.values())


def account_of_items(
    run_record: RunRecord, observations: Observations, late_after: float
) -> Account:
    """Return the account of a signal whose items are found one by one."""
    known = run_record.created.keys() & observations.first.keys()
    lost = run_record.certain() - observations.first.keys()
    waits = [observations.first[number] - run_record.created[number] / _NS for number in known]
    # A number that was never created is the result of damage.
    unknown = observations.first.keys() - run_record.created.keys()
    return Account(
        sent=len(run_record.certain() | known),
        found=len(known),
        lost=len(lost),
        duplicates=sum(observations.times[number] - 1 for number in known),
        late=sum(wait > late_after for wait in waits),
        corrupted=len(observations.damaged | unknown) + observations.unnumbered,
        latest=max(waits, default=None),
        lost_numbers=tuple(sorted(lost)),
    )


def account_of_counter(
    run_record: RunRecord, series: Iterable[Sequence[tuple[float, float]]]
) -> Account:
    """Return the account of a counter, from a series of (time, value) per process.

    A counter that falls is corrupted.
    """
    series = [points for points in series if points]
    found = round(sum(max(value for _, value in points) for points in series))
    certain = len(run_record.certain())
    return Account(
        sent=min(max(certain, found), len(run_record.created)),
        found=found,
        lost=max(0, certain - found),
        duplicates=max(0, found - len(run_record.created)),
        corrupted=sum(
            later < earlier for points in series for (_, earlier), (_, later) in pairwise(points)
        ),
    )


def longest_gap(series: Iterable[Sequence[tuple[float, float]]]) -> float:
    """Return the longest gap in seconds, over all series of a run as if they were one."""
    times = sorted(time for points in series for time, _ in points)
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def is_complete(run_record: RunRecord) -> bool:
    """Return whether each span and log line has been found."""
    certain = run_record.certain()
    return certain <= run_record.spans.first.keys() and certain <= run_record.logs.first.keys()


def missing(created: Mapping[int, int], observations: Observations) -> set[int]:
    """Return the numbers of items that have not been found yet."""
    return created.keys() - observations.first.keys()
