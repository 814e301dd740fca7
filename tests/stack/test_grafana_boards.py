"""The dashboards in a Grafana: all are loaded unchanged, and their queries work."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from stack.local_http import local_client
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.boards import Board, Panel, Query, datasource_uids, files, read_boards
from tests.stack.filling import Choice, Window, at_first, fill, times
from tests.stack.grafana import grafana_url

_BOARDS = read_boards()
_FOLDER = "Chatscope"
# Added by Grafana: the ID in its database, and the version.
_OWN = {"id", "version"}
_SECONDS = 900
# Added by Grafana for the backends that have them.
_ITS_OWN = {
    name: Choice(raw=f"${name}")
    for name in ("__interval", "__interval_ms", "__rate_interval", "__range", "__range_s", "__auto")
}


@pytest.fixture(scope="module")
def visitor(stack: Stack) -> Iterator[httpx2.Client]:
    """Return a client without a login."""
    with local_client(grafana_url(stack), timeout=2 * PATIENCE_SECONDS) as client:
        yield client


# Not only the readable ones: a broken dashboard is missing in Grafana, too.
@pytest.mark.parametrize("uid", [path.stem for path in files()])
def test_dashboard_equals_its_file(visitor: httpx2.Client, uid: str) -> None:
    def as_the_file_says() -> bool:
        answer = visitor.get(f"/api/dashboards/uid/{uid}")
        assert answer.is_success, f"board {uid!r}: {answer.text}"
        found = answer.json()
        assert (found["meta"]["folderTitle"], found["meta"]["provisioned"]) == (_FOLDER, True)
        board = {key: value for key, value in found["dashboard"].items() if key not in _OWN}
        assert board == {k: v for k, v in _BOARDS[uid].raw.items() if k not in _OWN}
        return True

    # It polls for changed files.
    poll_until(as_the_file_says, f"board {uid!r}", PATIENCE_SECONDS, 1.0)


def test_no_other_dashboard_is_provisioned(visitor: httpx2.Client) -> None:
    found = visitor.get("/api/search", params={"type": "dash-db", "tag": "chatscope"})
    assert {board["uid"] for board in found.raise_for_status().json()} == set(_BOARDS)


@pytest.mark.parametrize("uid", sorted(datasource_uids() - {"alertmanager"}))
def test_datasource_is_healthy(visitor: httpx2.Client, uid: str) -> None:
    answer = visitor.get(f"/api/datasources/uid/{uid}/health")
    assert answer.json()["status"] == "OK", answer.text


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_queries_of_every_panel_go_through(visitor: httpx2.Client, board: Board) -> None:
    problems = [
        f"panel {panel.title!r}: {problem}"
        for panel in board.panels
        if panel.queries
        for problem in _problems(visitor, board, panel)
    ]
    assert not problems, "\n".join(problems)


def _problems(visitor: httpx2.Client, board: Board, panel: Panel) -> list[str]:
    queries = [_query(board, query, number) for number, query in enumerate(panel.queries)]
    asked = {"queries": queries, "from": f"now-{_SECONDS}s", "to": "now"}
    answer = visitor.post("/api/ds/query", json=asked)
    results = answer.json().get("results")
    if not results:
        return [f"{answer.status_code} {answer.text}: {queries}"]
    return [
        f"query {query['refId']}: {error}: {query}"
        for query in queries
        if (error := results[query["refId"]].get("error"))
    ]


def _query(board: Board, query: Query, number: int) -> dict[str, Any]:
    """Return the request of the page, with variables and resolution filled in."""
    chosen = {variable.name: at_first(variable) for variable in board.variables}
    own = times(Window(0, _SECONDS)) if query.datasource == "tempo" else _ITS_OWN
    texts = {
        key: fill(str(query.raw[key]), query.datasource, {**own, **chosen})
        for key in ("expr", "query")
        if query.raw.get(key)
    }
    return {
        **query.raw,
        **texts,
        "refId": query.ref or str(number),
        "datasource": {"uid": query.datasource},
        "intervalMs": 15_000,
        "maxDataPoints": 1000,
    }
