"""Instructions of a request, a chunk, a span and a log record, beside the committed figures.

    python -m bench.instructions
    python -m bench.instructions --write
    python -m bench.instructions --find chunk

Instructions are counted by valgrind, in one process with all its threads, so that neither the
speed of the machine nor its load changes them (bench/instructions/workloads.py). `--write` makes
the counts the committed figures, `--find` names the commit since which a count is outside of the
room around its figure. The exit code is 1 if a count is outside, and 2 if it cannot be counted.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from rich.table import Table

from bench.instructions import figures, guard, history
from bench.instructions.counting import CountingError, count
from bench.instructions.workloads import WORKLOADS
from stack.facts import ROOT
from stack.terminal import Terminal

_OUTSIDE: Final = 1
_FAILED: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and print a table; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=guard.COMMAND,
        description=__doc__.partition("\n")[0],
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--write", action="store_true", help="make the counts the committed figures"
    )
    chosen.add_argument("--find", choices=WORKLOADS, help="name the commit that changed a count")
    given = parser.parse_args(arguments)
    console = Terminal()
    try:
        if given.find:
            console.print(f"{given.find}: {guard.commit_of(given.find)}")
            return 0
        found = figures.here(count())
    except (CountingError, history.HistoryError) as error:
        console.print(str(error))
        return _FAILED
    if given.write:
        figures.save(found)
        console.print(f"{figures.FILE.relative_to(ROOT)} is written.")
        return 0
    committed = figures.load()
    console.print(_table(committed.instructions, found.instructions))
    if why := figures.why_not_comparable(committed, found):
        console.print(f"Not comparable: {why}.")
        return _FAILED
    if packages := figures.changed_packages(committed, found):
        console.print(f"Other packages than those of the figures: {', '.join(packages)}.")
    return _OUTSIDE if figures.changes(committed, found) else 0


def _table(committed: Mapping[str, int], found: Mapping[str, int]) -> Table:
    table = Table(title="Instructions")
    table.add_column("workload")
    for column in ("committed", "counted", "difference"):
        table.add_column(column, justify="right")
    for name, after in found.items():
        before = committed.get(name)
        difference = f"{after / before - 1:+.1%}" if before else ""
        table.add_row(name, f"{before:,}" if before else "", f"{after:,}", difference)
    return table


if __name__ == "__main__":
    sys.exit(main())
