"""Dashboard variables, with the same names everywhere, so that links keep their values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from chatscope.names import (
    GEN_AI_REQUEST_MODEL,
    HTTP_REQUEST_DURATION,
    HTTP_ROUTE,
    LLM_RESPONSE_TIME,
    PROCESS_UPTIME,
    WEBSOCKET_MESSAGES,
    prometheus_label,
)
from dashboards.datasources import PROMETHEUS
from dashboards.others import CALL_SECONDS, SERVICE_NAME

# Matches series without the label, too.
EVERYTHING: Final = ".*"


@dataclass(frozen=True)
class Choice:
    """A variable with the values of a label: several can be chosen, or all."""

    name: str
    label: str
    attribute: str
    # Names of the series whose label values are offered.
    series: tuple[str, ...]

    @property
    def matcher(self) -> str:
        """Return the matcher of the chosen values."""
        return f'{prometheus_label(self.attribute)}=~"${self.name}"'

    def build(self) -> dashboard.QueryVariable:
        names = "|".join(self.series)
        source = f'{{__name__=~"{names}"}}' if len(self.series) > 1 else names
        query = f"label_values({source}, {prometheus_label(self.attribute)})"
        return (
            dashboard.QueryVariable(self.name)
            .label(self.label)
            .datasource(PROMETHEUS)
            .query({"query": query, "refId": f"variable-{self.name}", "qryType": 1})
            .definition(query)
            .multi(True)
            .include_all(True)
            .all_value(EVERYTHING)
            .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )


@dataclass(frozen=True)
class Text:
    """A text field; empty means no restriction."""

    name: str
    label: str
    description: str

    def build(self) -> dashboard.TextBoxVariable:
        return (
            dashboard.TextBoxVariable(self.name)
            .label(self.label)
            .description(self.description)
            .default_value("")
            .current(VariableOption(text="", value=""))
        )


@dataclass(frozen=True)
class OneOf:
    """A variable with a few given values; the first one is the default."""

    name: str
    label: str
    description: str
    values: tuple[str, ...]

    def build(self) -> dashboard.CustomVariable:
        return (
            dashboard.CustomVariable(self.name)
            .label(self.label)
            .description(self.description)
            .values(",".join(self.values))
            .options([VariableOption(n == 0, v, v) for n, v in enumerate(self.values)])
            .current(VariableOption(True, self.values[0], self.values[0]))
        )


@dataclass(frozen=True)
class Pattern:
    """A variable with a few named patterns; the first one is the default."""

    name: str
    label: str
    description: str
    values: Mapping[str, str]

    def build(self) -> dashboard.CustomVariable:
        options = [VariableOption(n == 0, *each) for n, each in enumerate(self.values.items())]
        return (
            dashboard.CustomVariable(self.name)
            .label(self.label)
            .description(self.description)
            .values(", ".join(f"{name} : {value}" for name, value in self.values.items()))
            .options(options)
            .current(options[0])
        )


Variable = Choice | Text | OneOf | Pattern

# Model calls of any instrumentation: other applications have no other metric in common.
_CALLS: Final = f"{CALL_SECONDS.prometheus}_count"
SERVICE: Final = Choice("service", "Service", SERVICE_NAME, (PROCESS_UPTIME.prometheus, _CALLS))
MODEL: Final = Choice(
    "model", "Model", GEN_AI_REQUEST_MODEL, (f"{LLM_RESPONSE_TIME.prometheus}_count", _CALLS)
)
# Requests and sockets: a route has one or the other.
ROUTE: Final = Choice(
    "route",
    "Route",
    HTTP_ROUTE,
    (f"{HTTP_REQUEST_DURATION.prometheus}_count", WEBSOCKET_MESSAGES.prometheus),
)

# In seconds: TraceQL needs a unit, which a query adds, and LogQL accepts none.
SLOWER_THAN: Final = OneOf(
    "slower_than",
    "Slower than (s)",
    "Requests and responses that took longer, in seconds.",
    ("1", "0.1", "2", "5", "10"),
)
COST_ABOVE: Final = OneOf(
    "cost_above",
    "Cost above ($)",
    "Responses that cost more, in US dollars.",
    ("0.0001", "0", "0.001", "0.01", "0.1", "1"),
)
TRACE: Final = Text("trace", "Trace id", "Lines of this trace only.")
CONVERSATION: Final = Text(
    "conversation", "Conversation", "Lines of this conversation or connection only, by its id."
)
USER: Final = Text("user", "User", "Responses to this user only, by the ID.")
LEVEL: Final = Pattern(
    "level",
    "Level",
    "Lines of this level only.",
    {
        "All": EVERYTHING,
        "Warnings and errors": "WARN.*|ERROR|CRITICAL|FATAL.*",
        "Errors": "ERROR|CRITICAL|FATAL.*",
    },
)
OUTCOME: Final = Pattern(
    "outcome",
    "Outcome",
    "Responses that ended so only.",
    {"All": EVERYTHING, "Completed": "completed", "Failed": "failed", "Cancelled": "cancelled"},
)
TEXT: Final = Text("text", "Text", "Lines that contain this, as it is written.")

VARIABLES: Final[tuple[Variable, ...]] = (
    SERVICE,
    MODEL,
    ROUTE,
    SLOWER_THAN,
    COST_ABOVE,
    TRACE,
    CONVERSATION,
    USER,
    LEVEL,
    OUTCOME,
    TEXT,
)
"""All variables in display order."""
