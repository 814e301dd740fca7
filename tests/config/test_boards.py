"""What Grafana would hide of a board: it starts without a broken one, and draws dead links."""

from pathlib import Path

import pytest

from tests.stack.boards import (
    WITHOUT_QUERIES,
    Board,
    datasource_uids,
    files,
    leads_nowhere,
    read_board,
    read_boards,
)

_UIDS = {"home", "service", "llm", "objectives", "logs", "runtime", "pipeline"}
_BOARDS = read_boards()


def _board(uid: str) -> Board:
    return _BOARDS[uid]


def test_boards_are_there() -> None:
    assert {path.stem for path in files()} == _UIDS


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_file_is_a_board_under_its_name(path: Path) -> None:
    board = read_board(path)
    assert board.uid == path.stem
    assert board.title
    assert "chatscope" in board.tags


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_each_panel_asks_datasources_that_are_provisioned(board: Board) -> None:
    asked = {
        (panel.title, uid)
        for panel in board.panels
        for query in panel.queries
        # What a query names is not asked where its panel names one, but is meant to be the same.
        for uid in (query.datasource, (query.raw.get("datasource") or {}).get("uid"))
        if uid not in (None, "__expr__")
    }
    asked |= {(v.name, v.datasource) for v in board.variables if v.kind == "query"}
    assert {(of, uid) for of, uid in asked if uid not in datasource_uids()} == set()


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_panel_is_found_by_its_title(board: Board) -> None:
    titles = [panel.title for panel in board.panels if panel.kind not in ("row", "text")]
    assert "" not in titles
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_each_panel_asks_something(board: Board) -> None:
    silent = [panel.title for panel in board.panels if not panel.queries]
    assert silent == [panel.title for panel in board.panels if panel.kind in WITHOUT_QUERIES]


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_each_link_leads_to_a_board_or_a_query(board: Board) -> None:
    uids = datasource_uids()
    dead = [
        f"{link.of!r}: {link.url or link.datasource}: {why}"
        for link in board.all_links()
        if (why := leads_nowhere(link, _BOARDS.values(), uids))
    ]
    assert dead == []


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_each_board_leads_to_others(board: Board) -> None:
    assert list(board.all_links())
