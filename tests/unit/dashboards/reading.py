"""The boards as Grafana gets them: their panels, and every query with who answers it."""

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
    """All but the headings of rows, with those in folded rows."""
    every = [p for top in board["panels"] for p in (top, *(top.get("panels") or ()))]
    return [panel for panel in every if panel["type"] != "row"]


def queries(board: Json) -> Iterator[tuple[str, str]]:
    """Each query's datasource and text: those of panels, then those of variables."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield target["datasource"]["uid"], target.get("expr") or target["query"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["datasource"]["uid"], variable["query"]["query"]
