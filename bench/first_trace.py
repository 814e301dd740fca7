"""Measures the time from a first start to the first chat in all three backends.

For each way of running, with programs and images already built; also the memory of each
component when it is idle.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.configurations import OFFSET
from bench.results import Row
from stack import facts as stack_facts
from stack import firstchat, way
from stack.base import Stack
from stack.docker import DockerStack
from stack.native import NativeStack
from stack.progress import Progress
from stack.screen import MIB
from stack.terminal import Terminal

_IDLE_SECONDS = 20.0
_WAYS: Mapping[str, Callable[[Mapping[str, str]], Stack]] = {
    "native": NativeStack,
    "docker": DockerStack,
}


@dataclass
class Run:
    """One first start: seconds until each step, and bytes of each idle component."""

    started: float = 0.0
    ready: float = 0.0
    found: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def without_grafana(self) -> int:
        """Bytes of all idle components but Grafana."""
        return sum(self.memory.values()) - self.memory.get("grafana", 0)


def main(rounds: int = 3) -> list[Row]:
    """Measure each way of running that is possible here, print medians, and return figures."""
    console, rows = Terminal(), []
    for name in _WAYS:
        choice = _choice(name, console)
        if choice:
            runs = [_run(choice) for _ in range(rounds)]
            console.print(_table(name, runs))
            rows += [
                Row.of("all ready", name, [run.ready for run in runs], "s"),
                Row.of("one chat in three backends", name, [run.found for run in runs], "s"),
                Row.of(
                    "idle without Grafana", name, [run.without_grafana / 1e6 for run in runs], "MB"
                ),
            ]
    return rows


def _choice(name: str, console: Console) -> way.Choice | None:
    if name == "native":
        return way.Choice(name, "")
    try:
        os.environ["RUN"] = name
        return way.choose(stack_facts.load(), Progress(console))
    except way.WayError as error:
        console.print(f"with Docker: not measured, {error}")
        return None
    finally:
        del os.environ["RUN"]


def _run(choice: way.Choice) -> Run:
    run = Run()
    with tempfile.TemporaryDirectory(prefix="chatscope-bench-") as directory:
        environ = {**os.environ, **stack_facts.shifted(OFFSET), "STATE_DIR": directory}
        stack = choice.stack(stack_facts.load(environ))
        begun = time.perf_counter()
        # As in `make up`.
        firstchat.prepare()
        try:
            stack.start()
            run.started = time.perf_counter() - begun
            stack.wait_ready()
            run.ready = time.perf_counter() - begun
            firstchat.prove(stack.facts)
            run.found = time.perf_counter() - begun
            time.sleep(_IDLE_SECONDS)
            states = stack.states(usage=True)
            run.memory = {part.name: states[part.name].memory for part in stack.parts}
        finally:
            stack.dispose()
    return run


def _table(name: str, runs: Sequence[Run]) -> Table:
    title = f"First start, {name}, median of {len(runs)}"
    table = Table("figure", "", title=title, box=None)
    for what, value in (
        ("started, s", [run.started for run in runs]),
        ("all ready, s", [run.ready for run in runs]),
        ("one chat in three backends, s", [run.found for run in runs]),
    ):
        table.add_row(what, f"{median(value):.1f}")
    parts = {part for run in runs for part in run.memory}
    for part in sorted(parts):
        table.add_row(f"{part} idle, MiB", _mib([run.memory[part] for run in runs]))
    table.add_row("all but Grafana idle, MiB", _mib([run.without_grafana for run in runs]))
    return table


def _mib(values: Sequence[int]) -> str:
    return f"{median(values) / MIB:.0f}"


if __name__ == "__main__":
    main()
