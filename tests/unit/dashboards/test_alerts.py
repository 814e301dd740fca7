"""What boards show of alerts and objectives is what the rules make of them."""

import re
from typing import Any, Final, get_args

from alerts.rules import Area
from alerts.windows import NORMAL
from dashboards import datasources, links, others
from dashboards.alert_panels import SEVERITIES
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


def test_each_area_of_alerts_has_a_board_of_its_name() -> None:
    assert set(get_args(Area)) <= set(links.TITLES)
    assert {rule["labels"]["area"] for rule in _RULES if "alert" in rule} <= set(get_args(Area))


def test_each_severity_that_calls_has_a_colour() -> None:
    told = {rule["labels"]["severity"] for rule in _RULES if "alert" in rule}
    assert told == {*SEVERITIES, "none"}


def test_lines_on_the_board_are_the_limits_of_the_alerts() -> None:
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


@for_each(_BOARDS)
def test_alerts_are_marked_on_each_board(board: Json) -> None:
    [mark] = board["annotations"]["list"]
    assert mark["enable"]
    assert mark["datasource"]["uid"] == datasources.PROMETHEUS.uid
    # Not the one that always fires, and all that are about no service.
    assert 'severity!="none"' in mark["target"]["expr"]
    assert 'service_name=~"$service|"' in mark["target"]["expr"]
