"""Rules for every dashboard."""

import re
from typing import Final

import pytest

from chatscope.names import CLIENT_INPUT_TOKENS, EVENT_LOOP_LAG, LLM_COST, METRICS, Kind, Metric
from dashboards import datasources, links
from dashboards.board import COLUMNS
from dashboards.others import HISTOGRAM_PARTS, SERIES
from dashboards.panels import EMPTY, NONE
from dashboards.variables import VARIABLES
from tests.each import for_each
from tests.promql import metrics_of
from tests.unit.dashboards.reading import Json, boards, panels, queries

_BOARDS: Final = boards()
_PANELS: Final = {
    f"{uid}: {panel['title']}": panel for uid, board in _BOARDS.items() for panel in panels(board)
}
# Panels without a common unit: text, and tables with a unit per column.
_WITHOUT_UNIT: Final = {"logs", "text"}
# Recorded while a trace is still incomplete.
_LEADING: Final = {
    f"{metric.prometheus}_bucket"
    for metric in METRICS
    if metric.kind is Kind.HISTOGRAM and metric is not EVENT_LOOP_LAG
}
# Characters that fit above a panel of a quarter of the width.
_TITLE_WIDTH: Final = 22
_BUILT_IN: Final = {"__auto", "__interval", "__range", "__rate_interval", "__url_time_range"}


def _has_own_units(panel: Json) -> bool:
    """A table of traces or log records has a unit for each column, if any."""
    return any(
        "query" in target or not target.get("instant", target.get("queryType") != "range")
        for target in panel["targets"]
    )


@for_each(_PANELS)
def test_title_is_a_noun_that_fits_and_the_description_a_sentence(panel: Json) -> None:
    assert len(panel["title"]) <= _TITLE_WIDTH
    assert "?" not in panel["title"]
    assert len(panel["description"].split()) > 1
    assert panel["description"].endswith(".")


@for_each(_PANELS)
def test_empty_panel_and_empty_cell_say_so(panel: Json) -> None:
    if panel["type"] in {"text", "stat"}:
        return
    fields = panel["fieldConfig"]
    assert fields["defaults"]["noValue"] in {NONE, "No alert fires."}
    if panel["type"] in {"table", "timeseries"}:
        everywhere = [o for o in fields["overrides"] if o["matcher"]["options"] == "/.*/"]
        assert [o["properties"] for o in everywhere] == [[{"id": "noValue", "value": EMPTY}]]


@for_each(_PANELS)
def test_axis_of_zeros_has_a_small_end(panel: Json) -> None:
    if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
        custom = panel["fieldConfig"]["defaults"]["custom"]
        assert 0 < custom["axisSoftMax"] <= 1


@for_each(_PANELS)
def test_panel_of_numbers_has_a_unit(panel: Json) -> None:
    if panel["type"] == "heatmap":
        # Its numbers are counts; the unit is that of the axis.
        assert panel["options"]["yAxis"]["unit"]
    elif panel["type"] in _WITHOUT_UNIT or (panel["type"] == "table" and _has_own_units(panel)):
        assert "unit" not in panel.get("fieldConfig", {}).get("defaults", {})
    else:
        assert panel["fieldConfig"]["defaults"]["unit"]


@for_each(_PANELS)
def test_panel_asks_only_datasources_that_are_provisioned(panel: Json) -> None:
    if panel["type"] == "text":
        assert "targets" not in panel
        return
    asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert {source["uid"] for source in asked} <= datasources.UIDS
    assert all(source["type"] == source["uid"] for source in asked)


@for_each(_PANELS)
def test_durations_lead_to_traces(panel: Json) -> None:
    texts = [target.get("expr", "") for target in panel.get("targets", [])]
    if panel["type"] == "timeseries" and any(
        "histogram_quantile" in text and metrics_of(text) <= _LEADING for text in texts
    ):
        # One query of a panel is enough: others would draw the same exemplars again.
        assert any(target.get("exemplar") for target in panel["targets"])


@pytest.mark.parametrize("metric", [LLM_COST, CLIENT_INPUT_TOKENS], ids=lambda metric: metric.name)
def test_cost_and_tokens_lead_to_traces(metric: Metric) -> None:
    assert any(
        target.get("exemplar") and metric.prometheus in target["expr"]
        for board in _BOARDS.values()
        for panel in panels(board)
        for target in panel.get("targets", [])
    )


@for_each(_BOARDS)
def test_health_is_first_and_at_most_six_figures(board: Json) -> None:
    first, *_ = board["panels"]
    assert first["type"] == "row"
    if first["title"] == "Health":
        rows = [n for n, panel in enumerate(board["panels"]) if panel["type"] == "row"]
        figures = board["panels"][1 : rows[1]]
        assert {panel["type"] for panel in figures} == {"stat"}
        assert len(figures) <= 6


def test_llm_has_the_models_first_and_few_panels() -> None:
    found = panels(_BOARDS[links.LLM])
    assert found[0]["title"] == "Models"
    assert len(found) <= 20


@for_each(_BOARDS)
def test_titles_and_ids_are_unique(board: Json) -> None:
    titles = [panel["title"] for panel in panels(board)]
    ids = [*{id(p): p["id"] for p in [*board["panels"], *panels(board)]}.values()]
    assert len(set(titles)) == len(titles)
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


@for_each(_BOARDS)
def test_panels_fit_and_do_not_overlap(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboards_are_stored_under_their_ids() -> None:
    assert {uid: board["uid"] for uid, board in _BOARDS.items()} == {uid: uid for uid in _BOARDS}


@for_each(_BOARDS)
def test_frame_is_the_same_for_all(board: Json) -> None:
    uid = board["uid"]
    assert board["title"] == links.TITLES[uid]
    assert board["tags"] == [links.TAG]
    assert board["editable"] is False
    assert board["refresh"] in {"", "5s", "30s"}
    assert board["timezone"] == "browser"
    since = {links.OBJECTIVES: "now-24h", links.CONVERSATIONS: "now-6h", links.USERS: "now-6h"}.get(
        uid, "now-30m"
    )
    assert board["time"] == {"from": since, "to": "now"}


@for_each(_BOARDS)
def test_links_lead_to_all_dashboards_and_keep_variables(board: Json) -> None:
    *direct, menu = board["links"]
    assert {link["url"] for link in direct} <= {links.path(uid) for uid in links.TITLES}
    assert menu["tags"] == [links.TAG]
    assert menu["asDropdown"]
    assert all(link["keepTime"] and link["includeVars"] for link in board["links"])
    # Grafana shows only links without a placement above the panels.
    assert not any("placement" in link for link in board["links"])


@for_each(_BOARDS)
def test_dashboard_has_exactly_the_variables_that_it_uses(board: Json) -> None:
    used: set[str] = set()
    for panel in panels(board):
        texts = [t.get("expr") or t["query"] for t in panel.get("targets", [])]
        texts.append(str(panel["options"].get("content", "")))
        used |= set(re.findall(r"\$\{?([a-z_]\w*)", " ".join(texts)))
    given = [variable["name"] for variable in board["templating"]["list"]]
    assert set(given) == used - _BUILT_IN
    assert given == [v.name for v in VARIABLES if v.name in given]
    assert "service" in given or not any(p.get("targets") for p in panels(board))


@for_each(_BOARDS)
def test_choices_take_several_or_all(board: Json) -> None:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["multi"]
            assert variable["includeAll"]
            assert variable["allValue"] == ".*"


@for_each(_BOARDS)
def test_metrics_are_those_that_are_registered(board: Json) -> None:
    known = {series.prometheus for series in SERIES} | {m.prometheus for m in METRICS}
    known |= {f"{name}_{part}" for name in known for part in HISTOGRAM_PARTS}
    for datasource, text in queries(board):
        if datasource == datasources.PROMETHEUS.uid:
            assert metrics_of(text) <= known
            assert metrics_of(text)


@for_each(_BOARDS)
def test_log_counts_are_sums_since_loki_refuses_many_series(board: Json) -> None:
    for datasource, text in queries(board):
        if datasource == datasources.LOKI.uid and "_over_time" in text:
            assert text.startswith(("sum", "topk")) or " by (" in text


def test_reader_finds_metrics_and_nothing_else() -> None:
    text = (
        'sum by (le, http_route) (rate(a_bucket{x=~"b_c", y!=""}[$__rate_interval])) '
        '/ ignoring (limit) (d_total > 0) or label_replace(e{}, "f", "g", "", "") or vector(0)'
    )
    assert metrics_of(text) == {"a_bucket", "d_total", "e"}
    assert metrics_of("label_values(h_count, service_name)") == {"h_count"}
    assert metrics_of("slo:bad:ratio / on (a) group_left () max by (b) (slo:budget:ratio)") == {
        "slo:bad:ratio",
        "slo:budget:ratio",
    }
