"""Startup of the service, and its memory at rest.

    python -m bench.startup

Each round starts `python -m app` anew, with telemetry that is exported to a receiver which accepts
everything: seconds from the start of the process to the first response of `/readyz`, the CPU until
then, and the memory of the process five seconds later. Resident memory includes the pages of
libraries that other processes share; private memory does not. Medians of the rounds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

from rich.table import Table

from bench.otlp import receiver
from bench.results import Recorder, Row
from bench.service import cpu_seconds, running
from stack.terminal import Terminal

_SETTLE_SECONDS: Final = 5.0
_MIB: Final = 2**20
_UNITS: Final = {
    "until ready": "s",
    "CPU until ready": "s",
    "resident memory at rest": "MiB",
    "private memory at rest": "MiB",
    "CPU at rest": "ms/s",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.startup", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    recorder = Recorder("startup", sys.argv[1:] if arguments is None else arguments)
    exports, endpoint = receiver()
    rounds = [_measure(endpoint) for _ in range(given.rounds)]
    exports.stop(0)
    rows = [_row(name, [each[name] for each in rounds]) for name in _UNITS]
    table = Table(title=f"Service, median of {given.rounds} starts", box=None)
    for heading in ("", "median", "range", "unit"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for row in rows:
        table.add_row(row.row, f"{row.value:.2f}", f"{row.spread:.2f}", row.unit)
    Terminal().print(table)
    recorder.write(rows, given.rounds)
    return 0


def _measure(endpoint: str) -> dict[str, float]:
    with running({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as service:
        time.sleep(_SETTLE_SECONDS / 2)
        before = cpu_seconds(service.process)
        time.sleep(_SETTLE_SECONDS / 2)
        spent = cpu_seconds(service.process) - before
        memory = service.process.memory_full_info()
    figures = (
        service.ready_seconds,
        service.ready_cpu_seconds,
        memory.rss / _MIB,
        memory.uss / _MIB,
        spent / (_SETTLE_SECONDS / 2) * 1e3,
    )
    return dict(zip(_UNITS, figures, strict=True))


def _row(name: str, values: Sequence[float]) -> Row:
    return Row.of(name, "chatscope", values, _UNITS[name])


if __name__ == "__main__":
    raise SystemExit(main())
