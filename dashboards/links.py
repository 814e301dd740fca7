"""The boards there are, and the links between them: time range and choices go along."""

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
}

# The alerts that a board marks, by their area, where it is not the board's own name.
AREAS: Final = {
    HOME: ".*",
    LLM_DETAIL: LLM,
    CONVERSATIONS: LLM,
    USERS: LLM,
    RUNTIME: SERVICE,
}


def path(uid: str) -> str:
    """A board's address in Grafana."""
    return f"/d/{uid}"


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
    """From a board to each other one."""
    return [to_board(other) for other in TITLES if other != uid]
