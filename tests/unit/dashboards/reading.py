"""The boards as Grafana gets them: their panels, and every query with who answers it."""

import json
import re
from collections.abc import Iterator
from typing import Any

from dashboards.__main__ import made, uids
from dashboards.encoding import encode

Json = dict[str, Any]

_OPERATORS = {"or", "and", "unless", "bool", "offset", "inf", "nan", "NaN", "Inf"}


def boards() -> dict[str, Json]:
    return {uid: json.loads(encode(made(uid))) for uid in uids()}


def panels(board: Json) -> list[Json]:
    """Without the headings of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Json) -> Iterator[tuple[str, str]]:
    """Each query's datasource and text: those of panels, then those of variables."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield target["datasource"]["uid"], target.get("expr") or target["query"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["datasource"]["uid"], variable["query"]["query"]


def metrics_of(promql: str) -> set[str]:
    """The names in a query that are metrics': not those of labels, functions and operators."""
    # Several at once stand in a matcher: {__name__=~"one|other"}.
    several = re.sub(r'\{__name__=~"([^"]*)"\}', lambda found: found[1].replace("|", " "), promql)
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', several)
    bare = re.sub(r"\{[^}]*\}", "{}", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"(label_values\([^,]*),[^)]*", r"\1", bare)
    words = re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\w|\s*\()", bare)
    return {word for word in words if word not in _OPERATORS}
