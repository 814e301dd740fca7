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


def show(console: Console, findings: Sequence[Finding]) -> None:
    """Print a line for each check, with the fix below a fault."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    for _ in ("state", "check"):
        rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for finding in findings:
        style = _STYLES.get(finding.state, "dim")
        rows.add_row(safe(finding.state, style), safe(finding.check), safe(finding.text))
        if finding.fix:
            rows.add_row("", "", safe(f"Fix: {finding.fix}", "bold"))
    console.print(rows)
    count = faults(findings)
    found = "no faults" if not count else "1 fault" if count == 1 else f"{count} faults"
    console.print(f"\n{len(findings)} checks, {found}.")
