"""CPU of each component of the scaled stack for each 1,000 spans, log records and samples.

    python -m bench.scaled
    python -m bench.scaled --seconds 60 --write

Each signal is sent alone, to one agent, at the usual rate of `bench.backends`. CPU of the idle
component is subtracted. Components of the same kind are added up. Blocks and chunks reach the
object storage later, which is not included. `--write` puts the table into docs/scaling.md.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.backends import (
    ALL,
    SIGNALS,
    USUAL_RATE,
    WARM_UP_SECONDS,
    Load,
    loads,
    measure,
    used_cpu,
    warm_up,
)
from bench.capacity import PAGE, with_section
from bench.configurations import Running
from bench.own import STACK_ERRORS, own_stack
from bench.results import Recorder, Row
from ledger import otlp
from stack.progress import Progress
from stack.secrets import telemetry_headers
from stack.terminal import Terminal

BEGIN: Final = "<!-- made by python -m bench.scaled --write -->"
# The process, and its row in the table.
_PARTS: Final[Mapping[str, str]] = {
    "collector": "agent",
    "gateway-1": "gateways",
    "gateway-2": "gateways",
    "kafka": "Kafka",
    "writer-1": "writers",
    "writer-2": "writers",
    "loki-write": "Loki, write",
    "tempo": "Tempo",
    "receive-1": "Thanos, receivers",
    "receive-2": "Thanos, receivers",
}
# Of these a signal has nothing, but they may be writing what was sent before it.
_ONLY: Final[Mapping[str, str]] = {"Loki, write": "log records", "Tempo": "spans"}

# CPU in ms for each 1,000 items, by signal and row.
_Costs = dict[str, dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it if it is asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaled", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default 20)")
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    console, recorder = Terminal(), Recorder("scaled", given)
    os.environ["TOPOLOGY"] = "scaled"
    try:
        costs = _measured(Progress(console), options.seconds)
    except STACK_ERRORS as error:
        console.print(str(error))
        return 1
    recorder.write(
        [
            Row.of(f"{signal}, {USUAL_RATE:,}/s", part, [cost], "ms per 1,000")
            for signal, rows in costs.items()
            for part, cost in rows.items()
        ]
    )
    console.print(table(costs))
    if options.write:
        PAGE.write_text(with_section(PAGE.read_text(), table(costs), BEGIN))
    return 0


def table(costs: _Costs) -> str:
    """Return the costs as a table in Markdown."""
    rows = list(dict.fromkeys([*_PARTS.values(), ALL]))
    lines = [f"| CPU in ms for 1,000 | {' | '.join(SIGNALS)} |", "|---|" + "---|" * len(SIGNALS)]
    for row in rows:
        cells = (f"{costs[signal][row]:.0f}" if row in costs[signal] else "" for signal in SIGNALS)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured(progress: Progress, seconds: float) -> _Costs:
    with (
        tempfile.TemporaryDirectory(prefix="chatscope-") as directory,
        own_stack(Path(directory) / "stack", progress) as stack,
        otlp.sender(stack.facts["OTLP_URL"], telemetry_headers(stack.facts)) as sender,
    ):
        states = stack.states()
        components = {name: Running(states[name].pid, 0.0) for name in _PARTS}
        chosen = [each for each in loads() if each.rate == USUAL_RATE and each.is_usual]
        with progress.activity("Warming up"):
            warm_up(sender, chosen)
            with used_cpu(components) as used:
                time.sleep(WARM_UP_SECONDS)
        idle = {name: cpu / WARM_UP_SECONDS for name, cpu in used.items()}
        costs: _Costs = {}
        for load in chosen:
            with progress.activity(f"Sending {load.name}"):
                found = measure(sender, load, components, idle, seconds, tuple(_PARTS)).cpu
            costs[load.signal] = _by_row(load, found)
        return costs


def _by_row(load: Load, found: Mapping[str, float]) -> dict[str, float]:
    rows: dict[str, float] = {}
    for name, row in _PARTS.items():
        if _ONLY.get(row, load.signal) == load.signal:
            rows[row] = rows.get(row, 0.0) + found[name]
    return {**rows, ALL: sum(rows.values())}


if __name__ == "__main__":
    sys.exit(main())
