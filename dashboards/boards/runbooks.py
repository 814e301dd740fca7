"""Runbooks: each page of docs/runbooks in a panel, the target of links from alerts."""

import re
from typing import Final

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import links
from dashboards.alert_panels import RUNBOOKS, summaries
from dashboards.board import Row, assemble
from dashboards.panels import words

_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def board() -> Dashboard:
    pages = [_page(alert, summary) for alert, summary in summaries().items()]
    return assemble(
        links.RUNBOOKS,
        "What each alert means and what to do about it.",
        [Row("Runbooks", pages, height=14, widths=(24,) * len(pages))],
        refresh="",
    )


def _page(alert: str, summary: str) -> text.Panel:
    page = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    # The page's title is the panel's title.
    body = page.split("\n", 1)[1].strip()
    return words(alert, f"{summary}.", _LINK.sub(_link, body) + "\n")


def _link(found: re.Match[str]) -> str:
    """Return a link to another page's panel; links outside the folder are removed."""
    name, address = found.groups()
    if address.removesuffix(".md") in summaries():
        panel = str(links.number(address.removesuffix(".md")))
        return f"[{name}]({links.to_panel(links.RUNBOOKS, panel)})"
    return name if not address.startswith("http") else found[0]
