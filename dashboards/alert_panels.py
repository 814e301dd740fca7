"""What boards show of alerts: which fire, in a table and as marks on every chart."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, table
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
from dashboards.panels import RED, YELLOW, counted, prom
from dashboards.queries import aggregate, differs, equals, matches, series
from dashboards.variables import SERVICE

# Not the one that always fires; and those that are about no service, such as the Collector's,
# whichever service is chosen.
_WHERE: Final = (
    differs(ALERT_SEVERITY, "none"),
    matches(SERVICE_NAME, f"${SERVICE.name}|"),
)
_AGE: Final = "For"
_ABOUT: Final = {
    ALERT_NAME: "Alert",
    ALERT_SEVERITY: "Severity",
    ALERT_AREA: "Area",
    prometheus_label(SERVICE_NAME): "Service",
    prometheus_label(GEN_AI_REQUEST_MODEL): "Model",
    others.JOB: "Part",
    others.EXPORTER: "Exporter",
}
SEVERITIES: Final = {"critical": RED, "warning": YELLOW}


def firing(*where: str) -> str:
    """1 for each alert that fires."""
    return series(others.ALERT, equals(ALERT_STAGE, others.FIRING), *_WHERE, *where)


def which_fire() -> table.Panel:
    """Which alerts fire.

    A table of what is in Prometheus, not Grafana's own list of alerts: that one lists rules, knows
    no Alertmanager's silences either, and asks each store whether its rules can be written, which
    Prometheus refuses. Loki's alerts are here because its ruler writes them to Prometheus.
    """
    since = series(others.ALERT_SINCE, *_WHERE)
    age = f"(time() - {since}) and ignoring ({ALERT_STAGE}) {firing()}"
    panel = counted(
        "Which alerts fire?",
        "Those that hold now, and for how long: what each means and what to do stands in "
        "docs/runbooks, under its name. Area is the board to look at. Empty in health.",
        "s",
        prom(aggregate("max", age, tuple(_ABOUT))),
        _ABOUT,
        value=_AGE,
        narrow=110,
    )
    colors = {
        severity: {"color": color, "index": n}
        for n, (severity, color) in enumerate(SEVERITIES.items())
    }
    # Each area has the board of that name.
    to_board = {
        "title": "The board",
        "url": f"{links.path('${__value.raw}')}?${{__url_time_range}}",
    }
    panel = (
        panel.no_value("No alert fires.")
        .override_by_name(
            _ABOUT[ALERT_SEVERITY],
            [
                DynamicConfigValue("mappings", [{"type": "value", "options": colors}]),
                DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ],
        )
        .override_by_name(_ABOUT[ALERT_AREA], [DynamicConfigValue("links", [to_board])])
    )
    for heading in _ABOUT.values():
        # Not those words in a cell of an alert that lacks a label.
        panel = panel.override_by_name(heading, [DynamicConfigValue("noValue", "-")])
    return panel


def marks() -> dashboard.AnnotationQuery:
    """On every chart, when an alert fired."""
    about = (ALERT_NAME, ALERT_SEVERITY, ALERT_AREA, SERVICE_NAME)
    return (
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color(RED)
        .target(
            prometheus.Dataquery()
            .datasource(PROMETHEUS)
            .expr(aggregate("max", firing(), about))
            .ref_id("Alerts")
        )
        .title_format(label(ALERT_NAME))
        .text_format(f"{label(ALERT_SEVERITY)} {label(SERVICE_NAME)}")
        .tag_keys(ALERT_AREA)
    )
