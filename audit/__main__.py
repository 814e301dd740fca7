"""Checks requirements files and Go components for known vulnerabilities: `python -m audit`.

Exit code 0: all are checked, and nothing is known but what is accepted. 1: something is known.
2: something could not be checked, or only with an old database. 3: both.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from audit import modules, packages
from audit.report import FOUND, INCOMPLETE, Result, read_accepted, report

ROOT: Final = Path(__file__).parents[1]
MAX_AGE: Final = "AUDIT_MAX_AGE_DAYS"
MAX_AGE_DAYS: Final = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m audit", description=__doc__)
    parser.add_argument("only", nargs="*", help="requirements.txt or tempo, for example")
    try:
        age = max_age(os.environ)
        chosen = choose(parser.parse_args().only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return INCOMPLETE
    made = report(_check(*chosen), read_accepted(), datetime.now(UTC), age)
    print("\n".join(made.lines))
    if made.code & INCOMPLETE:
        print(
            "The audit is incomplete: docs/versions.md#audit describes how to provide a database."
        )
    if made.code & FOUND:
        print("What is known, and the mitigation of each: docs/versions.md")
    return made.code


def max_age(environ: Mapping[str, str]) -> float:
    """The age in days at which a database is old. Raises ValueError."""
    text = environ.get(MAX_AGE, "") or str(MAX_AGE_DAYS)
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not days >= 0:
        raise ValueError(f'{MAX_AGE} must be a number of days >= 0 (got "{text}")')
    return days


def choose(names: list[str]) -> tuple[list[Path], list[str]]:
    """The requirements files and the components; all without names. Raises ValueError."""
    pinned = [*ROOT.glob("requirements*.txt"), *ROOT.glob("bench/competitors/*.txt")]
    files = {file.name: file for file in sorted(pinned)}
    programs = [binary.name for binary in modules.components()]
    if unknown := [name for name in names if name not in (*files, *programs)]:
        known = ", ".join((*files, *programs))
        raise ValueError(f"{unknown[0]} is unknown; known are {known}")
    wanted = names or [*files, *programs]
    return [files[name] for name in wanted if name in files], [
        name for name in wanted if name in programs
    ]


def _check(files: list[Path], programs: list[str]) -> Iterator[Result]:
    yield from packages.check(files, os.environ)
    named = [binary for binary in modules.components() if binary.name in programs]
    if named:
        yield from modules.check(named, os.environ)


if __name__ == "__main__":
    sys.exit(main())
