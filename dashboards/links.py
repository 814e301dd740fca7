"""The list of dashboards, and links between them that keep time range and variables."""

import zlib
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

HOME: Final = "home"
SERVICE: Final = "service"
LLM: Final = "llm"
LLM_DETAIL: Final = "llm-detail"
CONVERSATIONS: Final = "chatscope-conversations"
USERS: Final = "chatscope-users"
LOGS: Final = "logs"
RUNTIME: Final = "runtime"
PIPELINE: Final = "pipeline"
OBJECTIVES: Final = "objectives"
RUNBOOKS: Final = "runbooks"

# In display order.
TITLES: Final = {
    HOME: "Home",
    SERVICE: "Service",
    LLM: "LLM",
    LLM_DETAIL: "LLM detail",
    CONVERSATIONS: "Conversations",
    USERS: "Users",
    OBJECTIVES: "Objectives",
    LOGS: "Logs",
    RUNTIME: "Runtime",
    PIPELINE: "Pipeline",
    RUNBOOKS: "Runbooks",
}

# Area of the alerts that a dashboard shows, if it is not the dashboard's own name.
AREAS: Final = {LLM_DETAIL: LLM, CONVERSATIONS: LLM, USERS: LLM, RUNTIME: SERVICE}


# A tag of all dashboards.
TAG: Final = "chatscope"
# Shown side by side above the panels; more do not fit in one line.
_DIRECT: Final = (HOME, SERVICE, LLM, LOGS)


def path(uid: str) -> str:
    """Return a dashboard's path in Grafana."""
    return f"/d/{uid}"


def number(title: str) -> int:
    """Return a panel's ID for links: the same wherever the panel is placed."""
    return zlib.crc32(title.encode()) % 1_000_000_000 + 1


def to_panel(uid: str, panel: str) -> str:
    """Return the path of one panel of a dashboard, by its ID."""
    return f"{path(uid)}?viewPanel=panel-{panel}"


class _Above(models.DashboardLink):
    """A link that is visible above the panels.

    Grafana shows there only links without a placement; the library would put it into a menu.
    """

    def to_json(self) -> dict[str, object]:
        payload = super().to_json()
        del payload["placement"]
        return payload


class _Link(dashboard.DashboardLink):
    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._internal = _Above(title=title)


def to_board(uid: str, title: str = "") -> dashboard.DashboardLink:
    """Return a link of a dashboard, or of a panel, to a dashboard."""
    return (
        _Link(title or TITLES[uid])
        .type(models.DashboardLinkType.LINK)
        .url(path(uid))
        .icon("dashboard")
        .tooltip("")
        .keep_time(True)
        .include_vars(True)
    )


def neighbours(uid: str) -> list[dashboard.DashboardLink]:
    """Return links to the most used dashboards, and a menu of all others."""
    every = (
        _Link("All dashboards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .icon("external link")
        .tooltip("")
        .keep_time(True)
        .include_vars(True)
    )
    return [*(to_board(other) for other in _DIRECT if other != uid), every]
