"""What boards show of alerts: those that fire, in a table and as marks on every chart."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, table
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from chatscope.names import GEN_AI_REQUEST_MODEL, prometheus_label
from dashboards import links, others
from dashboards.datasources import PROMETHEUS
from dashboards.legends import label
from dashboards.others import (
    ALERT_AREA,
    ALERT_NAME,
    ALERT_SEVERITY,
    ALERT_STAGE,
    SERVICE_NAME,
)
from dashboards.panels import ORANGE, RED, measured
from dashboards.queries import aggregate, differs, equals, matches, or_zero, series
from dashboards.variables import SERVICE

# Not the one that always fires; and those that are about no service, such as the Collector's,
# whichever service is chosen.
_WHERE: Final = (
    differs(ALERT_SEVERITY, "none"),
    matches(SERVICE_NAME, f"${SERVICE.name}|"),
)
_SUMMARY: Final = "summary"
_RUNBOOK: Final = "runbook"
_VALUE: Final = "value"
_SERVICE: Final = prometheus_label(SERVICE_NAME)
_MODEL: Final = prometheus_label(GEN_AI_REQUEST_MODEL)
_HEADINGS: Final = {
    ALERT_SEVERITY: "Severity",
    ALERT_NAME: "Alert",
    _SUMMARY: "Summary",
    _VALUE: "Value",
    _SERVICE: "Service",
    _MODEL: "Model",
    others.JOB: "Component",
    others.EXPORTER: "Exporter",
    ALERT_AREA: "Dashboard",
    _RUNBOOK: "Runbook",
}
_WIDTHS: Final = {
    "Severity": 95,
    "Alert": 190,
    "Service": 110,
    "Model": 130,
    "Component": 100,
    "Exporter": 130,
    "Dashboard": 100,
    "Value": 90,
    "Runbook": 90,
    "Since": 130,
}
# In the order of their urgency.
SEVERITIES: Final = {"critical": RED, "warning": ORANGE}
RUNBOOKS: Final = Path(__file__).parent.parent / "docs" / "runbooks"
_ABOUT: Final = (
    ALERT_NAME,
    ALERT_SEVERITY,
    ALERT_AREA,
    SERVICE_NAME,
    GEN_AI_REQUEST_MODEL,
    others.JOB,
    others.EXPORTER,
)
# What a recorded value and its alert have in common.
_KEY: Final = (ALERT_NAME, SERVICE_NAME, GEN_AI_REQUEST_MODEL, others.JOB, others.EXPORTER)
# Of each unit: the factor, the precision and the text around the number.
_UNITS: Final = {
    "percent": (100, 0.1, "$1 %"),
    "seconds": (1, 0.01, "$1 s"),
    "usd": (1, 0.01, "$$$1"),
    "number": (1, 1, "$1"),
}
# The alert of each objective; its value is the burn rate.
OBJECTIVES: Final = {
    "availability": "AvailabilityBudgetBurn",
    "latency": "LatencyBudgetBurn",
    "first-token": "FirstTokenBudgetBurn",
}
# The value of a variable for all of its values, in a link.
_ALL: Final = "All"


def summaries() -> Mapping[str, str]:
    """A sentence about each alert, by its name, from the list of runbooks."""
    rows = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| [a-z, ]+ \| (.+) \|$", _text(), re.MULTILINE)
    return {name: sentence[0].upper() + sentence[1:] for name, sentence in rows}


def _text() -> str:
    return (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def firing(*where: str) -> str:
    """1 for each alert that fires."""
    return series(others.ALERT, equals(ALERT_STAGE, others.FIRING), *_WHERE, *where)


def count_firing(severity: str) -> str:
    """As many as the table has rows."""
    rows = aggregate("max", firing(equals(ALERT_SEVERITY, severity)), _ABOUT)
    return or_zero(aggregate("count", rows))


def _since(*where: str) -> str:
    """When the condition of each firing alert became true, in seconds since 1970."""
    since = series(others.ALERT_SINCE, *_WHERE, *where)
    return f"{since} and ignoring ({ALERT_STAGE}) {firing(*where)}"


def _values() -> str:
    """1 for each firing alert that has a value, with the value and its unit as a label."""
    texts = [
        f'label_replace(count_values by ({_labels(_KEY)}) ("{_VALUE}", '
        f"round({scale:g} * {aggregate('max', _recorded(unit), _KEY)}, {digits:g})), "
        f'"{_VALUE}", "{form}", "{_VALUE}", "(.*)")'
        for unit, (scale, digits, form) in _UNITS.items()
    ]
    return "\nor ".join([*texts, *map(_burn_rate, OBJECTIVES)])


def _burn_rate(objective: str) -> str:
    """The value of the alerts of an objective, whose rules sloth makes."""
    of = prometheus_label(others.SLO_SERVICE)
    rate = aggregate("max", series(others.SLO_BURN, equals(others.SLO, objective)), (of,))
    text = f'count_values by ({of}) ("{_VALUE}", round({rate}, 0.1))'
    text = f'label_replace({text}, "{_SERVICE}", "$1", "{of}", "(.*)")'
    text = f'label_replace({text}, "{ALERT_NAME}", "{OBJECTIVES[objective]}", "", "")'
    text = f'label_replace({text}, "{_VALUE}", "$1 x", "{_VALUE}", "(.*)")'
    return aggregate("max", text, (ALERT_NAME, SERVICE_NAME, _VALUE))


def _recorded(unit: str) -> str:
    return series(others.ALERT_VALUE, equals(others.ALERT_UNIT, unit), everything=True)


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(map(prometheus_label, names))


def _rows() -> str:
    """The columns that are made of labels; a link needs a value for each variable."""
    key = _labels(_KEY)
    text = aggregate("max", _since(), _ABOUT)
    text = f"({text} * on ({key}) group_left ({_VALUE}) ({_values()})) or on ({key}) {text}"
    text = f'label_replace({text}, "{_SUMMARY}", "$1", "{ALERT_NAME}", "(.*)")'
    for alert in summaries():
        # A panel is opened by its number, which a link can only take from a column.
        panel = links.number(alert)
        text = f'label_replace({text}, "{_RUNBOOK}", "{panel}", "{ALERT_NAME}", "{alert}")'
    for name in (_SERVICE, _MODEL):
        text = f'label_replace({text}, "{name}", "{_ALL}", "{name}", "")'
    return f"1000 * {text}"


def firing_alerts() -> table.Panel:
    """A table of the firing alerts.

    It shows the alerts in Prometheus; Grafana's own list of alerts lists rules, ignores silences
    too, and asks each backend whether its rules can be written, which Prometheus refuses. Loki's
    alerts are included because its ruler writes them to Prometheus.
    """
    panel = measured(
        "Firing alerts",
        "Alerts of the chosen services, and those that belong to no service. An alert's name opens "
        "its dashboard with the same service and model. Silences of Alertmanager are not "
        "considered. Normally empty.",
        _HEADINGS,
        {"Since": (_rows(), "dateTimeFromNow")},
    )
    colors = {
        severity: {"color": color, "index": n}
        for n, (severity, color) in enumerate(SEVERITIES.items())
    }
    chosen = "&".join(
        f"var-{name}=${{__data.fields.{heading}}}"
        for name, heading in (("service", "Service"), ("model", "Model"))
    )
    to_board = {
        "title": "Open the dashboard",
        "url": f"{links.path('${__data.fields.Board}')}?{chosen}&${{__url_time_range}}",
    }
    sentences = {name: {"text": text} for name, text in summaries().items()}
    panel = (
        panel.no_value("No alert fires.")
        .override_by_name(
            "Severity",
            [
                DynamicConfigValue("mappings", [{"type": "value", "options": colors}]),
                DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ],
        )
        .override_by_name(
            "Summary",
            [DynamicConfigValue("mappings", [{"type": "value", "options": sentences}])],
        )
    )
    opens = {"type": "regex", "options": {"pattern": ".+", "result": {"text": "Open"}}}
    to_runbook = {
        "title": "Open the runbook",
        "url": links.to_panel(links.RUNBOOKS, "${__value.raw}"),
    }
    panel = panel.override_by_name(
        "Runbook",
        [DynamicConfigValue("mappings", [opens]), DynamicConfigValue("links", [to_runbook])],
    )
    for heading in ("Alert", "Dashboard"):
        panel = panel.override_by_name(heading, [DynamicConfigValue("links", [to_board])])
    for heading, width in _WIDTHS.items():
        panel = panel.override_by_name(heading, [DynamicConfigValue("custom.width", width)])
    # "critical" comes before "warning", too, by the alphabet.
    return panel.sort_by([common.TableSortByFieldState().display_name("Severity").desc(False)])


def marks(area: str) -> list[dashboard.AnnotationQuery]:
    """When alerts of an area began, on every chart; each severity has its colour and switch."""
    return [
        dashboard.AnnotationQuery()
        .name(f"{severity.capitalize()} alerts")
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color(color)
        .target(
            prometheus.Dataquery()
            .datasource(PROMETHEUS)
            .expr(_begin(area, severity))
            .ref_id(severity)
        )
        # Without it each alert would be a region, which tints the chart.
        .use_value_for_time(True)
        .title_format(label(ALERT_NAME))
        .text_format(f"{severity} {label(SERVICE_NAME)} {label(GEN_AI_REQUEST_MODEL)}")
        .tag_keys(ALERT_AREA)
        for severity, color in SEVERITIES.items()
    ]


def _begin(area: str, severity: str) -> str:
    where = (matches(ALERT_AREA, area), equals(ALERT_SEVERITY, severity))
    about = (ALERT_NAME, ALERT_SEVERITY, ALERT_AREA, SERVICE_NAME, GEN_AI_REQUEST_MODEL)
    return f"1000 * {aggregate('max', _since(*where), about)}"
