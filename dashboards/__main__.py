"""Writes boards to where Grafana loads them from: `python -m dashboards [uid …]`, or all."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import boards
from dashboards.encoding import encode

FOLDER: Final = Path(__file__).parent.parent / "grafana-provisioning" / "dashboards"


def uids() -> list[str]:
    """Each module of `boards` makes the board whose uid is its name, with hyphens."""
    return sorted(
        module.stem.replace("_", "-") for module in Path(boards.__path__[0]).glob("[!_]*.py")
    )


def made(uid: str) -> Dashboard:
    module = uid.replace("-", "_")
    board: Dashboard = importlib.import_module(f"{boards.__name__}.{module}").board()
    return board


def write(wanted: Sequence[str], folder: Path = FOLDER) -> None:
    for uid in wanted:
        (folder / f"{uid}.json").write_text(encode(made(uid)), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or uids())
