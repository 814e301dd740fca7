"""Queries in the documentation, with their backends."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chatscope.names import METRICS, Kind
from stack.facts import ROOT

_DOCS: Final = ROOT / "docs"
PAGES: Final = (ROOT / "README.md", _DOCS / "telemetry.md", _DOCS / "exploring.md")
RUNBOOKS: Final = tuple(
    page for page in sorted((_DOCS / "runbooks").glob("*.md")) if page.name != "README.md"
)
_STORES: Final = {"promql": "prometheus", "logql": "loki", "traceql": "tempo"}
_STARTS: Final = ("{", "sum ", "histogram_quantile", "otel_sdk_", "3600 ")
# The series of a histogram have suffixes.
_HISTOGRAMS: Final = {metric.prometheus for metric in METRICS if metric.kind is Kind.HISTOGRAM}


@dataclass(frozen=True)
class Recipe:
    """A query and its backend."""

    store: str
    query: str


def in_tables(page: Path) -> list[Recipe]:
    """Return the queries in the tables of a page."""
    cells = re.findall(r"^\|.*\|$", page.read_text(), re.MULTILINE)
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    queries = [
        text.replace("\\|", "|")
        for text in quoted
        if text.startswith(_STARTS) and text not in _HISTOGRAMS
    ]
    return [Recipe(_store(query), query) for query in queries]


def in_blocks(page: Path) -> list[Recipe]:
    """Return the queries in a page's code blocks of a query language."""
    blocks = re.findall(r"^```(\w+ql)\n(.*?)\n```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Recipe(_STORES[language], query) for language, query in blocks]


def _store(query: str) -> str:
    if query.startswith("{service_name") or "_over_time({" in query:
        return "loki"
    return "tempo" if query.startswith("{") else "prometheus"
