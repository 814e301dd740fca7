"""Results of benchmarks, kept in `.chatscope/bench/NAME.json` for `python -m bench.performance`."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from stack.facts import ROOT

DIRECTORY: Final = ROOT / ".chatscope" / "bench"


class Row(BaseModel):
    """One figure: the median of the rounds, and their range in the same unit."""

    model_config = ConfigDict(frozen=True)

    row: str
    variant: str
    value: float
    unit: str
    spread: float

    @classmethod
    def of(cls, row: str, variant: str, values: Sequence[float], unit: str) -> Self:
        """Return the row of the values of all rounds. Raises StatisticsError if there are none."""
        middle, spread = median(values), max(values) - min(values)
        return cls(row=row, variant=variant, value=middle, unit=unit, spread=spread)


class Result(BaseModel):
    """What a benchmark measured, where, when and how."""

    model_config = ConfigDict(frozen=True)

    command: str
    date: datetime
    rows: tuple[Row, ...]
    rounds: int | None = None
    python: str | None = None
    cores: int | None = None
    # Load average of the last minute, before and after.
    load: tuple[float, float] | None = None
    commit: str | None = None
    # Reasons of variants that could not be measured.
    missing: Mapping[str, str] = {}

    def find(self, row: str, variant: str) -> Row | None:
        """Return the figure of a variant, None if it was not measured."""
        return next((one for one in self.rows if (one.row, one.variant) == (row, variant)), None)


class Recorder:
    """Writes the result of one run of `python -m bench.NAME`; made before it measures."""

    def __init__(self, name: str, arguments: Sequence[str], directory: Path | None = None) -> None:
        self._name = name
        self._command = " ".join(("python", "-m", f"bench.{name}", *arguments))
        self._path = (directory or DIRECTORY) / f"{name}.json"
        self._load = os.getloadavg()[0]

    def write(
        self,
        rows: Sequence[Row],
        rounds: int | None = None,
        missing: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the file, replacing an earlier result; return its path."""
        result = Result(
            command=self._command,
            date=datetime.now(UTC).replace(microsecond=0),
            rows=tuple(rows),
            rounds=rounds,
            python=platform.python_version(),
            cores=os.cpu_count(),
            load=(round(self._load, 1), round(os.getloadavg()[0], 1)),
            commit=_commit(),
            missing=missing or {},
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(result.model_dump_json(indent=2) + "\n")
        return self._path


def load(name: str, directory: Path = DIRECTORY) -> Result | None:
    """Return the last result of a benchmark, None if there is none. Raises ValidationError."""
    path = directory / f"{name}.json"
    return Result.model_validate_json(path.read_text()) if path.exists() else None


def _commit() -> str | None:
    """Return the commit of the checkout, with a plus where files have been changed since."""
    command = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
