"""The committed figures, what they hold for, and how counts differ from them."""

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from stack.facts import ROOT

FILE: Final = Path(__file__).with_name("figures.json")
# Accepted difference to the committed figure, above and below.
ROOM: Final = 0.05
# The workload that uses nothing of ours, and the largest difference between two runs of it.
REFERENCE: Final = "python"
_REFERENCE_ROOM: Final = 0.01


@dataclass(frozen=True)
class Figures:
    """Instructions of one repetition by workload, with the interpreter and the packages."""

    python: str
    machine: str
    packages: Mapping[str, str]
    instructions: Mapping[str, int]


@dataclass(frozen=True)
class Change:
    """A count outside of the room around the committed figure; `before` is None without one."""

    name: str
    before: int | None
    after: int

    @property
    def share(self) -> float:
        """The difference as a share of the committed figure."""
        return self.after / self.before - 1 if self.before else float("inf")

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name}: {self.after:,} instructions; there is no committed figure"
        direction = "more" if self.share > 0 else "fewer"
        return (
            f"{self.name}: {self.after:,} instructions, {abs(self.share):.1%} {direction} than"
            f" the committed {self.before:,}"
        )


def is_outside(before: int, after: int) -> bool:
    """Whether a count is outside of the room around a figure."""
    return abs(after - before) > ROOM * before


def load(path: Path = FILE) -> Figures:
    """Return the committed figures."""
    return Figures(**json.loads(path.read_text()))


def save(figures: Figures, path: Path = FILE) -> None:
    """Write the figures."""
    path.write_text(f"{json.dumps(asdict(figures), indent=2)}\n")


def here(instructions: Mapping[str, int]) -> Figures:
    """Return counts with the interpreter and the packages of this process."""
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    installed = {name: version for name in pinned if (version := _version(name))}
    return Figures(platform.python_version(), platform.machine(), installed, dict(instructions))


def why_not_comparable(committed: Figures, found: Figures) -> str | None:
    """Return why counts say nothing about our code; None if they do.

    Other versions of packages do not prevent a comparison: a commit that pins them changes the
    cost of a request as any other does.
    """
    ours = f"Python {committed.python} on {committed.machine}"
    theirs = f"Python {found.python} on {found.machine}"
    if ours != theirs:
        return f"the figures are those of {ours}; this is {theirs}"
    before, after = committed.instructions[REFERENCE], found.instructions[REFERENCE]
    if abs(after / before - 1) > _REFERENCE_ROOM:
        return (
            f"another build of {ours}: code that is not ours takes {after:,} instructions in place"
            f" of {before:,}"
        )
    return None


def changes(committed: Figures, found: Figures) -> list[Change]:
    """Return the counts outside of the room, the largest difference first."""
    all_of_them = (
        Change(name, committed.instructions.get(name), after)
        for name, after in found.instructions.items()
    )
    outside = [
        each for each in all_of_them if not each.before or is_outside(each.before, each.after)
    ]
    return sorted(outside, key=lambda each: -abs(each.share))


def changed_packages(committed: Figures, found: Figures) -> list[str]:
    """Return the packages whose versions differ, as `name 1.0 → 1.1`."""
    before, after = committed.packages, found.packages
    return [
        f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
