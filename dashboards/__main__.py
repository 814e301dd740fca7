"""Writes each board to where Grafana loads it from: `python -m dashboards`."""

import importlib
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import boards
from dashboards.encoding import encode

FOLDER: Final = Path(__file__).parent.parent / "grafana-provisioning" / "dashboards"


def all_boards() -> dict[str, Dashboard]:
    """Each module of `boards` makes one board, by its uid."""
    made: dict[str, Dashboard] = {}
    for module in sorted(Path(boards.__path__[0]).glob("[!_]*.py")):
        made[module.stem] = importlib.import_module(f"{boards.__name__}.{module.stem}").board()
    return made


def write(folder: Path = FOLDER) -> None:
    for uid, board in all_boards().items():
        (folder / f"{uid}.json").write_text(encode(board), encoding="utf-8")


if __name__ == "__main__":
    write()
