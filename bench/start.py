"""Time from exec to ready: each component with its own defaults and with our configuration.

In each round the four components start together, as in `make up`, once in each configuration
(bench/configurations.py). Then a whole first start is measured for each way of running: see
bench/first_trace.py.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from statistics import median

from rich.table import Table

from bench import first_trace
from bench.configurations import (
    BACKENDS,
    Configuration,
    fresh_stack,
    ours,
    own_defaults,
    running,
)
from bench.results import Recorder, Row
from stack.native import NativeStack
from stack.terminal import Terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table of medians, in seconds."""
    console = Terminal()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = sys.argv[1:] if arguments is None else arguments
    rounds = parser.parse_args(given).rounds
    recorder = Recorder("start", given)
    theirs, mine = [], []
    for number in range(1, rounds + 1):
        console.print(f"round {number} of {rounds}")
        theirs.append(_round(own_defaults))
        mine.append(_round(ours))
    console.print(_table(theirs, mine))
    rows = [
        Row.of(name, variant, [value(seconds) for seconds in found], "s")
        for variant, found in (("own defaults", theirs), ("ours", mine))
        for name, value in _figures()
    ]
    # Before the second part, which can fail where the first one did not.
    recorder.write(rows, rounds)
    recorder.write([*rows, *first_trace.main(rounds)], rounds)
    return 0


def _figures() -> list[tuple[str, Callable[[Mapping[str, float]], float]]]:
    """Return the name of each figure of a round, and how it is computed."""
    names = [part.name for part in BACKENDS]
    return [
        *((name, itemgetter(name)) for name in names),
        ("all four", lambda seconds: max(seconds.values())),
    ]


def _round(make: Callable[[NativeStack], Configuration]) -> dict[str, float]:
    """Return each component's seconds until ready, started together on fresh directories."""
    with fresh_stack() as stack, running(stack, make(stack)) as found:
        return {name: component.seconds for name, component in found.items()}


def _table(theirs: Sequence[Mapping[str, float]], found: Sequence[Mapping[str, float]]) -> Table:
    table = Table(
        "component",
        *("own defaults", "ours", "ratio"),
        title=f"Seconds from exec to ready, median of {len(found)}",
        box=None,
    )
    for name, value in _figures():
        default, mine = median(map(value, theirs)), median(map(value, found))
        table.add_row(name, f"{default:.2f}", f"{mine:.2f}", f"{default / mine:.1f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
