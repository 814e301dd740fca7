"""Panels and queries of a dashboard's JSON."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from dashboards.__main__ import made, uids
from dashboards.encoding import encode

Json = dict[str, Any]


@cache
def boards() -> dict[str, Json]:
    return {uid: json.loads(encode(made(uid))) for uid in uids()}


def panels(board: Json) -> list[Json]:
    """Return all panels, including those in collapsed rows, without rows."""
    every = [p for top in board["panels"] for p in (top, *(top.get("panels") or ()))]
    return [panel for panel in every if panel["type"] != "row"]


def queries(board: Json) -> Iterator[tuple[str, str]]:
    """Yield datasource and text of each query: those of panels, then those of variables."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield target["datasource"]["uid"], target.get("expr") or target["query"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["datasource"]["uid"], variable["query"]["query"]
