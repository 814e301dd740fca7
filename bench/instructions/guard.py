"""The text of a failed guard: each changed count, and the commit that changed the most."""

from pathlib import Path
from typing import Final

from bench.instructions import figures, history
from bench.instructions.counting import CountingError, count
from bench.instructions.figures import Figures

COMMAND: Final = "python -m bench.instructions"
_SEARCH_SECONDS: Final = 900.0


def explain(committed: Figures, found: Figures) -> str | None:
    """Return the increased counts, and the commit that changed the largest; None if none did."""
    changes = [each for each in figures.changes(committed, found) if each.share > 0]
    if not changes:
        return None
    lines = [f"{len(changes)} counts are more than {figures.ROOM:.0%} above their figures:"]
    lines += map(str, changes)
    if packages := figures.changed_packages(committed, found):
        lines.append(f"Packages changed: {', '.join(packages)}.")
    largest = next((each.name for each in changes if each.before), None)
    if largest:
        lines.append(_cause(largest))
    lines.append(f"{COMMAND} --find NAME names the commit of another one.")
    lines.append(f"{COMMAND} --write makes the new counts the figures: a change that is wanted.")
    return "\n".join(lines)


def note(committed: Figures, found: Figures) -> str | None:
    """Return the counts that are lower than their figures, which should be written; else None."""
    changes = [each for each in figures.changes(committed, found) if each.share < 0]
    if not changes:
        return None
    return f"{'; '.join(map(str, changes))}. {COMMAND} --write keeps what was gained."


def commit_of(name: str, *, seconds: float = 3600.0) -> str:
    """Return the commit since which a count is outside of the room, as text.

    Raises HistoryError, also for a workload without a figure, and CountingError.
    """
    before = figures.load().instructions.get(name)
    if before is None:
        raise history.HistoryError(f"{name} has no committed figure")

    def is_outside(tree: Path) -> bool:
        return figures.is_outside(before, count([name], tree)[name])

    return history.find(is_outside, seconds=seconds)


def _cause(name: str) -> str:
    try:
        return f"{name} was changed by {commit_of(name, seconds=_SEARCH_SECONDS)}."
    except (history.HistoryError, CountingError) as error:
        return f"The commit that changed {name} is not known: {error}."
