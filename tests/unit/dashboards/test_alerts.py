"""Alerts and objectives on dashboards agree with the rules."""

import re
from typing import Any, Final, get_args

from alerts.rules import Area
from alerts.windows import NORMAL
from dashboards import datasources, links, others
from dashboards.alert_panels import OBJECTIVES, SEVERITIES, summaries
from dashboards.boards.objectives import burn_rate
from stack.facts import ROOT
from tests.config.files import parsed
from tests.each import for_each
from tests.unit.dashboards.reading import Json, boards, panels

_BOARDS: Final = boards()
_RULES: Final[list[dict[str, Any]]] = [
    rule
    for path in sorted((ROOT / "prometheus" / "rules").glob("*.rules.yaml"))
    for group in parsed(path)["groups"]
    for rule in group["rules"]
]
_RECORDED: Final = {rule["record"] for rule in _RULES if "record" in rule}
_OF_RULES: Final = [
    value
    for value in (*vars(others).values(), *others.SLO_BAD.values())
    if isinstance(value, others.Series) and ":" in value.prometheus
]


def test_series_of_rules_are_recorded() -> None:
    named = {series.prometheus for series in _OF_RULES}
    histograms = {
        name for name in named if {f"{name}_{part}" for part in others.HISTOGRAM_PARTS} <= _RECORDED
    }
    assert named > histograms
    assert named <= _RECORDED | histograms


def test_each_area_of_alerts_has_a_dashboard_of_its_name() -> None:
    assert set(get_args(Area)) <= set(links.TITLES)
    assert {rule["labels"]["area"] for rule in _RULES if "alert" in rule} <= set(get_args(Area))


def test_each_severity_that_calls_has_a_colour() -> None:
    told = {rule["labels"]["severity"] for rule in _RULES if "alert" in rule}
    assert told == {*SEVERITIES, "none"}


def test_lines_on_the_dashboard_are_the_limits_of_the_alerts() -> None:
    limits = {
        float(limit)
        for rule in _RULES
        if rule.get("labels", {}).get("area") == "objectives"
        for limit in re.findall(r"> \(([0-9.]+) \*", rule["expr"])
    }
    drawn = {
        panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for panel in panels(_BOARDS[links.OBJECTIVES])
        if panel["fieldConfig"]["defaults"].get("custom", {}).get("thresholdsStyle")
    }
    assert drawn == limits
    assert len(limits) == 4


def test_lines_are_the_same_for_each_period_that_can_be_chosen() -> None:
    rates = {
        tuple(burn_rate(burn, int(period.removesuffix("d"))) for pair in burns for burn in pair)
        for period, burns in NORMAL.burns.items()
    }
    assert len(rates) == 1


@for_each({uid: board for uid, board in _BOARDS.items() if board["annotations"]})
def test_start_of_each_alert_of_its_area_is_marked(board: Json) -> None:
    marks = board["annotations"]["list"]
    assert any(panel["type"] == "timeseries" for panel in panels(board))
    assert [mark["iconColor"] for mark in marks] == list(SEVERITIES.values())
    area = links.AREAS.get(board["uid"], board["uid"])
    for mark, severity in zip(marks, SEVERITIES, strict=True):
        assert mark["enable"]
        assert mark["datasource"]["uid"] == datasources.PROMETHEUS.uid
        # Otherwise it is a region, which tints the chart.
        assert mark["useValueForTime"]
        expr = mark["target"]["expr"]
        assert f'severity="{severity}"' in expr
        assert f'area=~"{area}"' in expr
        # Alerts without a service are included.
        assert 'service_name=~"$service|"' in expr


def test_each_alert_has_a_summary_and_a_runbook_panel() -> None:
    names = {rule["alert"] for rule in _RULES if "alert" in rule}
    assert names <= set(summaries())
    titles = {panel["title"] for panel in panels(_BOARDS[links.RUNBOOKS])}
    assert titles == set(summaries())


def test_objectives_and_their_alerts_are_those_of_the_rules() -> None:
    objectives = {rule.get("labels", {}).get("sloth_slo") for rule in _RULES} - {None}
    alerts = {rule["alert"] for rule in _RULES if "BudgetBurn" in rule.get("alert", "")}
    assert objectives == set(OBJECTIVES)
    assert alerts == set(OBJECTIVES.values())


def test_value_of_each_alert_is_recorded_with_the_expression_of_the_alert() -> None:
    values = {
        (rule["labels"]["alertname"], rule["expr"])
        for rule in _RULES
        if rule.get("record") == others.ALERT_VALUE.prometheus
    }
    alerts = {(rule["alert"], rule["expr"]) for rule in _RULES if "alert" in rule}
    assert values
    assert values <= alerts
    for name, expr in alerts - values:
        annotations = [r["annotations"] for r in _RULES if r.get("alert") == name]
        area = {r["labels"]["area"] for r in _RULES if r.get("alert") == name}
        assert (
            area == {"objectives"}
            or name == "Watchdog"
            or not any("$value" in a["value"] for a in annotations)
        ), expr
