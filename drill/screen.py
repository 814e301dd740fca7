"""What a person sees: a line for each case while it goes, and a table in the end."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from drill.course import Course
from stack.progress import elapsed


class Screen:
    """Shows courses: on a terminal as they are now, else a line for each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._courses: list[Course] = []
        self._said: dict[str, str] = {}

    @contextmanager
    def round(self) -> Iterator[None]:
        """What is shown inside gives way to the table of the next."""
        self._courses = []
        if not self._live:
            yield
            return
        with Live(get_renderable=self._now, console=self._console, transient=True):
            yield

    def show(self, courses: list[Course]) -> None:
        """Hears how they go."""
        self._courses = courses
        if self._live:
            return
        for course in courses:
            step = _step(course)
            if self._said.get(course.case.name) != step:
                self._said[course.case.name] = step
                self._console.print(f"{course.case.name}: {step}", markup=False, soft_wrap=True)

    def _now(self) -> RenderableType:
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for course in self._courses:
            since = "" if course.over else elapsed(time.time() - course.since)
            table.add_row(course.case.name, since, _step(course))
        return table


def _step(course: Course) -> str:
    if course.over:
        return "over"
    names = ", ".join(each.partition(" ")[0] for each in course.awaited)
    if course.mended is None:
        return f"waits for {names}" if names else "stays broken for a while"
    return f"mended, ends: {names}"


def show_result(console: Console, courses: Iterable[Course]) -> None:
    """Case, alerts, after how long they came and ended; then what was wrong."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("case", no_wrap=True)
    table.add_column("alerts", no_wrap=True)
    table.add_column("fired after", justify="right")
    table.add_column("resolved after", justify="right")
    courses = list(courses)
    for course in courses:
        names = sorted({each.partition(" ")[0] for each in course.kinds})
        style = "red" if course.faults else "green"
        times = (_seconds(course.fired_after), _seconds(course.resolved_after))
        table.add_row(f"[{style}]{course.case.name}[/]", "\n".join(names) or "none", *times)
    console.print(table)
    for course in courses:
        for fault in course.faults:
            console.print(f"{course.case.name}: {fault}", style="red", markup=False, soft_wrap=True)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else elapsed(seconds)
