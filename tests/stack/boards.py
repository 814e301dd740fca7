"""What each board of Grafana asks and where it leads, read from the JSON that Grafana loads."""

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
# At the end of a panel's description: while all is well, and under any load that a test can make,
# it shows nothing.
_MAY_BE_EMPTY = re.compile(r"(Normally empty|Empty unless [^.]+)\.$")
# Panels that show no answer of a store.
WITHOUT_QUERIES = {"alertlist", "dashlist", "row", "text"}
# In a link to a board: the area of an alert, each of which has a board of its name.
AREA = "${__data.fields.Board}"
_IN_TEXT = re.compile(r"\]\(([^)\s]+)|href=[\"']([^\"']+)")


@dataclass(frozen=True)
class Query:
    """One target of a panel, or one of a board's annotations, as it stands in the JSON."""

    ref: str
    datasource: str
    raw: dict[str, Any]

    @property
    def text(self) -> str:
        """In its store's language."""
        return str(self.raw.get("expr") or self.raw.get("query") or "")


@dataclass(frozen=True)
class Link:
    """A link, and of which panel it is; `datasource` is that of a query that it opens."""

    of: str
    url: str = ""
    datasource: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One panel; `interval` is the least $__interval that it wants.

    Its `datasource`, where it names one, is asked whatever its queries name.
    """

    board: str
    title: str
    kind: str
    description: str
    datasource: str
    interval: str
    queries: tuple[Query, ...]
    links: tuple[Link, ...]
    # In a row that is closed until somebody opens it.
    folded: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Whether it says so of itself."""
        return bool(_MAY_BE_EMPTY.search(self.description.rstrip()))


@dataclass(frozen=True)
class Variable:
    """What a person may choose at the top of a board; `regex` picks from what the query found."""

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
    """One board, by its own word."""

    uid: str
    title: str
    tags: tuple[str, ...]
    raw: dict[str, Any]
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Query, ...]
    links: tuple[Link, ...]

    def all_links(self) -> Iterator[Link]:
        """Its own, and those of its panels."""
        yield from self.links
        for panel in self.panels:
            yield from panel.links


def files(folder: Path = FOLDER) -> list[Path]:
    """The files that are to be boards."""
    return sorted(folder.glob("*.json"))


def read_board(path: Path) -> Board:
    """The board of a file. Raises what its reading raises for what is none."""
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
    """All boards by their uid, but for files that are none: somebody else must miss those."""
    found = {}
    for path in files(folder):
        try:
            board = read_board(path)
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        found[board.uid] = board
    return found


def datasource_uids() -> set[str]:
    """The uids that are provisioned."""
    return {
        source["uid"]
        for path in _DATASOURCES.glob("*.yaml")
        for source in yaml.safe_load(path.read_text()).get("datasources") or ()
    }


def leads_nowhere(link: Link, boards: Iterable[Board], datasources: set[str]) -> str:
    """Why a link leads nowhere; empty for a good one."""
    boards = list(boards)
    if link.datasource:
        return "" if link.datasource in datasources else f"no datasource {link.datasource!r}"
    if link.tags:
        tagged = [board for board in boards if set(link.tags) <= set(board.tags)]
        return "" if len(tagged) > 1 else f"no other board has the tags {list(link.tags)}"
    parts = urlsplit(link.url)
    kind, *rest = parts.path.strip("/").split("/")
    if parts.scheme or parts.netloc:
        # Where people chat, unless it was told to listen elsewhere.
        return "" if link.url.rstrip("/") == load({})["APP_URL"] else "it leads away from here"
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
    """Each panel, and whether it is inside a folded row."""
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
