"""What `chatscope doctor` has found: each check's result, and the fix of each fault."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from chatscope.cli.screen import safe


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"  # works, but maybe not as intended
    SKIPPED = "skipped"  # there is nothing to check, or an earlier fault prevents it
    FAULT = "fault"


_STATE_COLUMNS: Final = 7
_CHECK_COLUMNS: Final = 18
_STYLES: Final = {State.OK: "green", State.WARNING: "yellow", State.FAULT: "bold red"}


@dataclass(frozen=True)
class Finding:
    """The result of one check; a fault has its fix."""

    check: str
    state: State
    text: str
    fix: str = ""


def as_object(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for JSON."""
    return {"ok": not faults(findings), "checks": [asdict(finding) for finding in findings]}


def faults(findings: Sequence[Finding]) -> int:
    """Return the number of faults."""
    return sum(finding.state is State.FAULT for finding in findings)


def show(console: Console, finding: Finding) -> None:
    """Print the line of a check, with the fix below a fault."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True, width=_STATE_COLUMNS)
    row.add_column(no_wrap=True, width=_CHECK_COLUMNS)
    row.add_column(overflow="fold")
    style = _STYLES.get(finding.state, "dim")
    row.add_row(safe(finding.state, style), safe(finding.check), safe(finding.text))
    if finding.fix:
        row.add_row("", "", safe(f"Fix: {finding.fix}", "bold"))
    console.print(row)


def show_sum(console: Console, findings: Sequence[Finding]) -> None:
    """Print how many faults there are."""
    count = faults(findings)
    found = "no faults" if not count else "1 fault" if count == 1 else f"{count} faults"
    console.print(f"\n{len(findings)} checks, {found}.")
