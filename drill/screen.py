"""Output of the drill: a line for each running case, and a table of the results."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from drill.runs import CaseRun
from stack.progress import elapsed


class Screen:
    """Shows runs: as a live table on a terminal, otherwise a line for each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._runs: list[CaseRun] = []
        self._printed: dict[str, str] = {}

    @contextmanager
    def round(self) -> Iterator[None]:
        """Show the runs of one round; remove the live table afterwards."""
        self._runs = []
        if not self._live:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, transient=True):
            yield

    def show(self, runs: list[CaseRun]) -> None:
        """Show the current state of the runs."""
        self._runs = runs
        if self._live:
            return
        for each in runs:
            name, step = each.case.name, _step(each)
            if self._printed.get(name) != step:
                self._printed[name] = step
                self._console.print(f"{name}: {step}", markup=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for each in self._runs:
            since = "" if each.done else elapsed(time.time() - each.since)
            table.add_row(each.case.name, since, _step(each))
        return table


def _step(run: CaseRun) -> str:
    if run.done:
        return "done"
    names = ", ".join(each.partition(" ")[0] for each in run.pending)
    if run.repaired is None:
        return f"waiting for {names}" if names else "watching for unexpected alerts"
    return f"repaired; waiting for the end of {names}"


def show_result(console: Console, runs: Iterable[CaseRun]) -> None:
    """Print cases, alerts, and the times until they arrived and ended; then the problems."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("case", no_wrap=True)
    table.add_column("alerts", no_wrap=True)
    table.add_column("fired after", justify="right")
    table.add_column("resolved after", justify="right")
    runs = list(runs)
    for each in runs:
        names = sorted({kind.partition(" ")[0] for kind in each.kinds})
        style = "red" if each.problems else "green"
        times = (_seconds(each.fired_after), _seconds(each.resolved_after))
        table.add_row(f"[{style}]{each.case.name}[/]", "\n".join(names) or "none", *times)
    console.print(table)
    for each in runs:
        for problem in each.problems:
            console.print(f"{each.case.name}: {problem}", style="red", markup=False, soft_wrap=True)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else elapsed(seconds)
