"""Queries and links of the dashboards, from the JSON that Grafana loads."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from stack.facts import ROOT, load

FOLDER = ROOT / "grafana-provisioning" / "dashboards"
_DATASOURCES = ROOT / "grafana-provisioning" / "datasources"
# At the end of the description of a panel that is empty while healthy, and under any load that a
# test can generate.
_MAY_BE_EMPTY = re.compile(r"(Normally empty|Empty unless [^.]+)\.$")
# Panels without results of a backend.
WITHOUT_QUERIES = {"alertlist", "dashlist", "row", "text"}
# In a link to a dashboard: the area of an alert; each area has a dashboard of its name.
AREA = "${__data.fields.Board}"
_IN_TEXT = re.compile(r"\]\(([^)\s]+)|href=[\"']([^\"']+)")


@dataclass(frozen=True)
class Query:
    """One target of a panel, or one annotation of a dashboard, as in the JSON."""

    ref: str
    datasource: str
    raw: dict[str, Any]

    @property
    def text(self) -> str:
        """The query in its backend's language."""
        return str(self.raw.get("expr") or self.raw.get("query") or "")


@dataclass(frozen=True)
class Link:
    """A link and its panel; `datasource` is that of a query that it opens."""

    of: str
    url: str = ""
    datasource: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One panel; `interval` is its minimum $__interval.

    Its `datasource`, if it has one, is used regardless of those of its queries.
    """

    board: str
    title: str
    kind: str
    description: str
    datasource: str
    interval: str
    queries: tuple[Query, ...]
    links: tuple[Link, ...]
    # In a collapsed row.
    folded: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Whether its description says so."""
        return bool(_MAY_BE_EMPTY.search(self.description.rstrip()))


@dataclass(frozen=True)
class Variable:
    """A variable of a dashboard; `regex` selects from the query's results."""

    board: str
    name: str
    kind: str
    datasource: str
    query: Any
    regex: str
    multi: bool
    include_all: bool
    all_value: str
    current: str


@dataclass(frozen=True)
class Board:
    """One dashboard, as described by its JSON."""

    uid: str
    title: str
    tags: tuple[str, ...]
    raw: dict[str, Any]
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Query, ...]
    links: tuple[Link, ...]

    def all_links(self) -> Iterator[Link]:
        """Yield its own links, and those of its panels."""
        yield from self.links
        for panel in self.panels:
            yield from panel.links


def files(folder: Path = FOLDER) -> list[Path]:
    """Return the files of dashboards."""
    return sorted(folder.glob("*.json"))


def read_board(path: Path) -> Board:
    """Return the dashboard of a file. Raises the exceptions of parsing."""
    raw = json.loads(path.read_text())
    uid = raw["uid"]
    return Board(
        uid=uid,
        title=raw["title"],
        tags=tuple(raw.get("tags") or ()),
        raw=raw,
        panels=tuple(_panel(uid, panel, folded) for panel, folded in _flat(raw["panels"])),
        variables=tuple(_variable(uid, v) for v in raw.get("templating", {}).get("list") or ()),
        annotations=tuple(_annotations(raw.get("annotations", {}).get("list") or ())),
        links=tuple(_link("the board", link) for link in raw.get("links") or ()),
    )


def read_boards(folder: Path = FOLDER) -> dict[str, Board]:
    """Return all dashboards by UID, without invalid files, which another test reports."""
    found = {}
    for path in files(folder):
        try:
            board = read_board(path)
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        found[board.uid] = board
    return found


def datasource_uids() -> set[str]:
    """Return the provisioned UIDs."""
    return {
        source["uid"]
        for path in _DATASOURCES.glob("*.yaml")
        for source in yaml.safe_load(path.read_text()).get("datasources") or ()
    }


def leads_nowhere(link: Link, boards: Iterable[Board], datasources: set[str]) -> str:
    """Return the reason why a link is broken; empty for a valid one."""
    boards = list(boards)
    if link.datasource:
        return "" if link.datasource in datasources else f"no datasource {link.datasource!r}"
    if link.tags:
        tagged = [board for board in boards if set(link.tags) <= set(board.tags)]
        return "" if len(tagged) > 1 else f"no other board has the tags {list(link.tags)}"
    parts = urlsplit(link.url)
    kind, *rest = parts.path.strip("/").split("/")
    if parts.scheme or parts.netloc:
        # The chat page at its default address.
        return "" if link.url.rstrip("/") == load({})["APP_URL"] else "it leads to another site"
    if kind == "d" and rest:
        return (
            "" if rest[0] in {AREA, *(board.uid for board in boards)} else f"no board {rest[0]!r}"
        )
    if kind == "explore":
        named = set(re.findall(r'"(?:datasource|uid)":"([^"]+)"', unquote(parts.query)))
        wrong = named - datasources
        return "" if named and not wrong else f"no datasource of {sorted(named)}"
    return "neither a board nor a query"


def _flat(panels: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each panel, and whether it is inside a collapsed row."""
    for panel in panels:
        yield panel, False
        yield from ((inner, True) for inner in panel.get("panels") or [])


def _panel(board: str, raw: dict[str, Any], folded: bool) -> Panel:
    title = raw.get("title") or ""
    return Panel(
        board=board,
        title=title,
        kind=raw["type"],
        description=raw.get("description") or "",
        datasource=_one_datasource(raw),
        interval=raw.get("interval") or "",
        queries=tuple(_query(target, raw) for target in raw.get("targets") or ()),
        links=tuple(_panel_links(title or f"panel {raw.get('id')}", raw)),
        folded=folded,
    )


def _query(target: dict[str, Any], panel: dict[str, Any]) -> Query:
    uid = _uid(target) if _uid(target) == "__expr__" else _one_datasource(panel) or _uid(target)
    return Query(target.get("refId") or "", uid, target)


def _one_datasource(panel: dict[str, Any]) -> str:
    uid = _uid(panel)
    return "" if uid == "-- Mixed --" else uid


def _uid(raw: dict[str, Any]) -> str:
    datasource = raw.get("datasource") or {}
    return str(datasource.get("uid") or "") if isinstance(datasource, dict) else str(datasource)


def _panel_links(of: str, raw: dict[str, Any]) -> Iterator[Link]:
    field = raw.get("fieldConfig") or {}
    lists = [raw.get("links"), (field.get("defaults") or {}).get("links")]
    lists += [
        entry.get("value")
        for override in field.get("overrides") or ()
        for entry in override.get("properties") or ()
        if entry.get("id") == "links"
    ]
    for links in filter(None, lists):
        yield from (_link(of, link) for link in links)
    options = raw.get("options") or {}
    if raw["type"] == "text":
        for found in _IN_TEXT.findall(str(options.get("content") or "")):
            yield Link(of, "".join(found))
    if raw["type"] == "dashlist":
        yield Link(of, tags=tuple(options.get("tags") or ("no tags",)))


def _link(of: str, raw: dict[str, Any]) -> Link:
    if inside := raw.get("internal"):
        return Link(of, datasource=str(inside.get("datasourceUid") or "none named"))
    if raw.get("type") == "dashboards":
        return Link(of, tags=tuple(raw.get("tags") or ("no tags",)))
    return Link(of, raw.get("url") or "")


def _variable(board: str, raw: dict[str, Any]) -> Variable:
    current = (raw.get("current") or {}).get("value") or ""
    return Variable(
        board=board,
        name=raw["name"],
        kind=raw["type"],
        datasource=_uid(raw),
        query=raw.get("query"),
        regex=raw.get("regex") or "",
        multi=bool(raw.get("multi")),
        include_all=bool(raw.get("includeAll")),
        all_value=raw.get("allValue") or "",
        current=current if isinstance(current, str) else ",".join(current),
    )


def _annotations(raw: Iterable[dict[str, Any]]) -> Iterator[Query]:
    for annotation in raw:
        if not annotation.get("builtIn"):
            inside = annotation.get("target") or {}
            yield Query(annotation.get("name") or "", _uid(annotation), {**annotation, **inside})
