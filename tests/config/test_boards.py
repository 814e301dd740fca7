"""Dashboard errors that Grafana hides: it starts with a broken one, and shows dead links."""

import json
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.__main__ import uids
from dashboards.encoding import encode
from tests.each import for_each
from tests.stack.boards import (
    WITHOUT_QUERIES,
    Board,
    datasource_uids,
    files,
    leads_nowhere,
    read_board,
    read_boards,
)

_UIDS = set(uids())
_BOARDS = read_boards()


def _board(uid: str) -> Board:
    return _BOARDS[uid]


def test_dashboards_exist() -> None:
    assert {path.stem for path in files()} == _UIDS


@for_each({path.stem: path for path in files()})
def test_file_is_a_dashboard_with_its_name_as_uid(path: Path) -> None:
    board = read_board(path)
    assert board.uid == path.stem
    assert board.title
    assert "chatscope" in board.tags


@for_each(_BOARDS)
def test_each_panel_asks_datasources_that_are_provisioned(board: Board) -> None:
    asked = {
        (panel.title, uid)
        for panel in board.panels
        for query in panel.queries
        # The panel's datasource overrides that of its query, so both must be the same.
        for uid in (query.datasource, (query.raw.get("datasource") or {}).get("uid"))
        if uid not in (None, "__expr__")
    }
    asked |= {(v.name, v.datasource) for v in board.variables if v.kind == "query"}
    assert {(of, uid) for of, uid in asked if uid not in datasource_uids()} == set()


@for_each(_BOARDS)
def test_panel_is_found_by_its_title(board: Board) -> None:
    titles = [panel.title for panel in board.panels if panel.kind not in ("row", "text")]
    assert "" not in titles
    assert len(titles) == len(set(titles))


@for_each(_BOARDS)
def test_each_panel_asks_something(board: Board) -> None:
    silent = [panel.title for panel in board.panels if not panel.queries]
    assert silent == [panel.title for panel in board.panels if panel.kind in WITHOUT_QUERIES]


@for_each(_BOARDS)
def test_each_link_leads_to_a_dashboard_or_a_query(board: Board) -> None:
    uids = datasource_uids()
    dead = [
        f"{link.of!r}: {link.url or link.datasource}: {why}"
        for link in board.all_links()
        if (why := leads_nowhere(link, _BOARDS.values(), uids))
    ]
    assert dead == []


@for_each(_BOARDS)
def test_each_dashboard_links_to_others(board: Board) -> None:
    assert list(board.all_links())


@for_each(_BOARDS)
def test_grafanas_schema_knows_each_key(board: Board) -> None:
    assert _as_the_schema_reads(board.raw) == board.raw


@pytest.mark.parametrize("kind", ["timeseries", "stat", "table", "heatmap", "logs"])
@pytest.mark.parametrize("of", [(), ("options",), ("targets", 0)], ids=str)
def test_a_key_that_no_schema_knows_is_seen(kind: str, of: tuple[str | int, ...]) -> None:
    uid = "llm-detail" if kind == "heatmap" else "logs"
    raw = json.loads(json.dumps(_BOARDS[uid].raw))
    place: Any = next(panel for panel in raw["panels"] if panel["type"] == kind)
    for step in of:
        place = place[step]
    place["no_such_key"] = 1
    assert _as_the_schema_reads(raw) != raw


def _as_the_schema_reads(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a dashboard after parsing it with the types generated from Grafana's schemas."""
    register_default_plugins()
    found: dict[str, Any] = json.loads(encode(Dashboard.from_json(raw)))
    for link in found["links"]:
        # Added by these types if it is missing, which is intended (dashboards/links.py).
        del link["placement"]
    return found
