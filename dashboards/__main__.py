"""Writes the dashboards that Grafana loads: `python -m dashboards [uid …]`, default all."""

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
    """Return the UIDs: the names of the modules in `boards`, with hyphens."""
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
