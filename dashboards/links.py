"""The boards there are, and the links between them: time range and choices go along."""

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

# In the order in which a person looks.
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

# The alerts that a board marks, by their area, where it is not the board's own name.
AREAS: Final = {LLM_DETAIL: LLM, CONVERSATIONS: LLM, USERS: LLM, RUNTIME: SERVICE}


# All boards have it.
TAG: Final = "chatscope"
# Beside each other above the panels; there is room for no more in one line.
_DIRECT: Final = (HOME, SERVICE, LLM, LOGS)


def path(uid: str) -> str:
    """A board's address in Grafana."""
    return f"/d/{uid}"


def number(title: str) -> int:
    """A panel's ID, which stands in links to it: the same wherever the panel stands."""
    return zlib.crc32(title.encode()) % 1_000_000_000 + 1


def to_panel(uid: str, panel: str) -> str:
    """The address of one panel of a board, by its ID."""
    return f"{path(uid)}?viewPanel=panel-{panel}"


class _Above(models.DashboardLink):
    """A link above the panels, where one sees it.

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
    """A board's own link, or a panel's, to a board."""
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
    """From a board to the most used ones, and to all others in a menu."""
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
