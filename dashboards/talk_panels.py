"""Tables of conversations, and of usage by users, teams and keys."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import common, loki, table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    USER_ID,
    prometheus_label,
)
from dashboards import links, responses
from dashboards.datasources import LOKI
from dashboards.panels import MISSING, ROW_TIME, without_nulls
from dashboards.queries import differs, equals, keep
from dashboards.variables import CONVERSATION, USER, Text

# Loki's maximum is 5,000 lines (max_entries_limit_per_query).
_MAX_RECORDS: Final = 2_000
_MAX_ROWS: Final = 100
# "Conversation" is the name of a link of the datasource.
CONVERSATION_ID: Final = "Conversation ID"
_FAILED: Final = "failed"
# The label whose value is the heading of a number.
_FIGURE: Final = "figure"
_UNITS: Final = {
    "Cost": "currencyUSD",
    "Responses": "short",
    "Turns": "short",
    "Tokens": "short",
    "Errors": "short",
}
_NUMBER_WIDTH: Final = 95


def link(title: str, uid: str, field: Text) -> DynamicConfigValue:
    """Return a cell's link to a dashboard, with the cell's value in one of its variables."""
    url = (
        f"{links.path(uid)}?${{__url_time_range}}&${{service:queryparam}}"
        f"&var-{field.name}=${{__value.raw:percentencode}}"
    )
    return DynamicConfigValue("links", [{"title": title, "url": url}])


def conversations(title: str, description: str) -> table.Panel:
    """Return a table of the newest conversations; a click on an ID shows it below."""
    numbers = {
        "cost": f".{prometheus_label(ANSWER_COST)}",
        "input": f".{prometheus_label(GEN_AI_USAGE_INPUT_TOKENS)}",
        "output": f".{prometheus_label(GEN_AI_USAGE_OUTPUT_TOKENS)}",
    }
    defaults = [f'{name}=`{{{{ {value} | default "0" }}}}`' for name, value in numbers.items()]
    tokens = "tokens=`{{ add (int .input) (int .output) }}`"
    outcome = f".{prometheus_label(ANSWER_OUTCOME)}"
    failed = f'failed=`{{{{ if eq {outcome} "{_FAILED}" }}}}1{{{{ else }}}}0{{{{ end }}}}`'
    labels = {
        prometheus_label(GEN_AI_CONVERSATION_ID): CONVERSATION_ID,
        prometheus_label(USER_ID): "User",
        prometheus_label(GEN_AI_REQUEST_MODEL): "Model",
        "cost": "Cost",
        "tokens": "Tokens",
        "failed": "Errors",
    }
    query = responses.records(
        keep(differs(GEN_AI_CONVERSATION_ID)),
        *responses.chosen(),
        f"| label_format {', '.join([*defaults, failed])}",
        f"| label_format {tokens}",
        f"| keep {', '.join(labels)}",
    )
    calculations = {
        CONVERSATION_ID: {"operation": "groupby", "aggregations": []},
        "Time": _aggregated("max", "count"),
        "User": _aggregated("lastNotNull"),
        "Model": _aggregated("lastNotNull"),
        "Cost": _aggregated("sum"),
        "Tokens": _aggregated("sum"),
        "Errors": _aggregated("sum"),
    }
    names = {
        "Time (max)": "Last response",
        CONVERSATION_ID: CONVERSATION_ID,
        "User (lastNotNull)": "User",
        "Model (lastNotNull)": "Model",
        "Time (count)": "Turns",
        "Tokens (sum)": "Tokens",
        "Cost (sum)": "Cost",
        "Errors (sum)": "Errors",
    }
    paths = [{"path": label, "alias": heading} for label, heading in labels.items()]
    numeric = ("Cost", "Tokens", "Errors")
    panel = _asking(title, description, query, limit=_MAX_RECORDS)
    for name, options in (
        ("extractFields", {"source": "labels", "format": "json", "jsonPaths": paths}),
        ("convertFieldType", {"conversions": [
            {"targetField": heading, "destinationType": "number"} for heading in numeric
        ]}),
        ("groupBy", {"fields": calculations}),
        ("organize", _organized(names)),
    ):  # fmt: skip
        panel = panel.with_transformation(DataTransformerConfig(id_val=name, options=options))
    looks: dict[str, list[tuple[str, object]]] = {
        "Last response": [("custom.width", 150), ("unit", ROW_TIME)],
        "User": [("custom.width", 180), ("mappings", [MISSING])],
        "Model": [("custom.width", 180), ("mappings", [MISSING])],
        **{name: _number(name) for name in ("Turns", *numeric)},
    }
    panel = _looking(panel, looks)
    panel = panel.override_by_name(
        CONVERSATION_ID, [link("Read the conversation", links.CONVERSATIONS, CONVERSATION)]
    )
    panel = panel.override_by_name("User", [link("The user's spending", links.USERS, USER)])
    return panel.sort_by([_highest("Last response")])


def spending(title: str, description: str, by: str, heading: str) -> table.Panel:
    """Return a table of the usage by values of an attribute, highest cost first."""
    of = [keep(differs(by)), *responses.chosen()]
    tokens = " + ".join(
        responses.added(each, *of, by=[by])
        for each in (GEN_AI_USAGE_INPUT_TOKENS, GEN_AI_USAGE_OUTPUT_TOKENS)
    )
    figures = {
        "Cost": responses.added(ANSWER_COST, *of, by=[by]),
        "Responses": responses.counted(*of, by=[by]),
        "Tokens": f"({tokens})",
        "Errors": responses.counted(*of, keep(equals(ANSWER_OUTCOME, _FAILED)), by=[by]),
    }
    # A single query, because Grafana could not distinguish the numbers of several.
    query = "\nor ".join(
        f'label_replace(topk({_MAX_ROWS}, {text}), "{_FIGURE}", "{figure}", "", "")'
        for figure, text in figures.items()
    )
    panel = _asking(title, description, query, instant=True)
    row = prometheus_label(by)
    matrix = {"rowField": row, "columnField": _FIGURE, "valueField": "Value #A"}
    names = {f"{row}\\{_FIGURE}": heading, **{figure: figure for figure in figures}}
    for name, options in (
        ("groupingToMatrix", {**matrix, "emptyValue": "zero"}),
        ("organize", _organized(names)),
    ):  # fmt: skip
        panel = panel.with_transformation(DataTransformerConfig(id_val=name, options=options))
    panel = _looking(panel, {figure: _number(figure) for figure in figures})
    if by == USER_ID:
        cell = link("The user's conversations", links.CONVERSATIONS, USER)
        panel = panel.override_by_name(heading, [cell])
    return panel.sort_by([_highest("Cost")])


def _asking(
    title: str, description: str, query: str, *, limit: int = 0, instant: bool = False
) -> table.Panel:
    target = loki.Dataquery().datasource(LOKI).expr(query).ref_id("A")
    target = target.query_type("instant" if instant else "range")
    panel = table.Panel().title(title).description(description).datasource(LOKI)
    panel = panel.with_target(target.max_lines(limit) if limit else target)
    # Records need a unit for each column.
    return without_nulls(panel.unit("string") if instant else panel)


def _aggregated(*functions: str) -> dict[str, Any]:
    return {"operation": "aggregate", "aggregations": list(functions)}


def _organized(names: Mapping[str, str]) -> dict[str, Any]:
    """Return a transformation that selects, orders and renames fields."""
    return {
        "indexByName": {name: n for n, name in enumerate(names)},
        "renameByName": dict(names),
    }


def _number(heading: str) -> list[tuple[str, object]]:
    return [("unit", _UNITS[heading]), ("custom.width", _NUMBER_WIDTH)]


def _looking(panel: table.Panel, looks: Mapping[str, Sequence[tuple[str, object]]]) -> table.Panel:
    for heading, values in looks.items():
        panel = panel.override_by_name(heading, [DynamicConfigValue(*each) for each in values])
    return panel


def _highest(heading: str) -> common.TableSortByFieldState:
    return common.TableSortByFieldState().display_name(heading).desc(True)
