"""Panels, each with a title, a description, and a unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    logs,
    loki,
    prometheus,
    stat,
    table,
    tempo,
    text,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BarGaugeValueMode,
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LogsSortOrder,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType
from grafana_foundation_sdk.models.text import TextMode

from chatscope.names import prometheus_label
from dashboards.datasources import LOKI, PROMETHEUS, TEMPO
from dashboards.queries import newest

Panel: TypeAlias = (
    stat.Panel
    | timeseries.Panel
    | heatmap.Panel
    | bargauge.Panel
    | logs.Panel
    | table.Panel
    | text.Panel
)
P = TypeVar(
    "P",
    stat.Panel,
    timeseries.Panel,
    heatmap.Panel,
    bargauge.Panel,
    logs.Panel,
    table.Panel,
    text.Panel,
)

GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"

# Text of an empty panel, instead of "No data", which looks like a failure.
NONE: Final = "None in the time shown"
# Unit of a time column.
ROW_TIME: Final = "time:MM-DD HH:mm:ss"
# Text of an empty cell.
EMPTY: Final = "-"
# Output of the transformation extractFields for a missing attribute.
MISSING: Final = {"type": "value", "options": {"Not Found": {"text": EMPTY}}}
# Minimum upper end of an axis: Grafana scales an axis of zeros up to 100, and of shares to 10000 %.
_SOFT_MAX: Final = {"percentunit": 1.0, "short": 1.0, "ops": 1.0, "reqps": 0.1, "s": 0.01}


@dataclass(frozen=True)
class Query:
    """A numeric query: text, legend (`{{label}}` is filled in), and datasource."""

    text: str
    legend: str = ""
    datasource: DataSourceRef = PROMETHEUS


def prom(text: str, legend: str = "") -> Query:
    return Query(text, legend)


def log_count(text: str, legend: str = "") -> Query:
    return Query(text, legend, LOKI)


# -- one function for each kind of panel ------------------------------------------------


def is_well(  # noqa: PLR0913
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    warn: float | None = None,
    bad: float | None = None,
    no_value: str = "None",
    over_range: bool = False,
) -> stat.Panel:
    """Return a number that is green when healthy: yellow from `warn`, red from `bad`.

    With `bad` below `warn` low values are bad. Without both it stays blue. `over_range` is for a
    query over the whole time range of the dashboard, which is sent once, for its end.
    """
    panel = _framed(stat.Panel(), title, description, query.datasource)
    panel = _asking(panel, [query], instant=over_range)
    return (
        panel.unit(unit)
        .thresholds(_thresholds(warn, bad))
        .no_value(no_value)
        .color_mode(BigValueColorMode.BACKGROUND if warn is not None else BigValueColorMode.VALUE)
        # A sparkline below would make some numbers smaller than others.
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )


def with_query(panel: stat.Panel, query: Query) -> stat.Panel:
    """Add a second number beside the first."""
    return panel.with_target(_prometheus(query, "B", False, True, False))


def lines(  # noqa: PLR0913
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    exemplars: bool = False,
    stacked: bool = False,
    bars: bool = False,
    numbers: bool = False,
    at_least: float | None = 0,
) -> timeseries.Panel:
    """Return a time series panel. Exemplars are for durations, cost and tokens: they open traces.

    Exemplars of a count would all be at 1. `numbers`: the legend is a table with the mean, maximum
    and last value.
    """
    panel = _framed(timeseries.Panel(), title, description, queries[0].datasource)
    panel = _asking(panel, queries, exemplars=exemplars)
    panel = (
        panel.unit(unit)
        .line_width(1.5)
        .fill_opacity(40 if stacked or bars else 8)
        .show_points(VisibilityMode.AUTO)
        # Metrics with an interval of 1 s or 15 s have no gaps; a stopped service has one.
        .span_nulls(60_000)
        .draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE if numbers else LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "max", "lastNotNull"] if numbers else [])
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
        .stacking(
            common.StackingConfig()
            .mode(StackingMode.NORMAL if stacked else StackingMode.NONE)
            .group("A")
        )
    )
    if bars:
        # The number that can be distinguished.
        panel = panel.max_data_points(100)
    if unit in _SOFT_MAX:
        panel = panel.axis_soft_max(_SOFT_MAX[unit])
    # Otherwise the panel's "no value" text would appear in the legend's numbers.
    dash = [DynamicConfigValue("noValue", EMPTY)]
    panel = panel.no_value(NONE).override_by_regexp("/.*/", dash)
    return panel if at_least is None else panel.axis_soft_min(at_least)


def spread(title: str, description: str, unit: str, buckets: str) -> heatmap.Panel:
    """Return a heatmap of a distribution over time; exemplars open traces.

    `buckets` is the increase of a histogram's buckets by `le`.
    """
    panel = _framed(heatmap.Panel(), title, description, PROMETHEUS)
    target = (
        prometheus.Dataquery()
        .datasource(PROMETHEUS)
        .expr(buckets)
        .ref_id("A")
        .range()
        .format(PromQueryFormat.HEATMAP)
        .legend_format("{{le}}")
        .exemplar(True)
    )
    return (
        panel.with_target(target)
        # The number that can be distinguished.
        .max_data_points(60)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .exemplars_color("rgba(255,120,10,0.9)")
        # No colour for 0, instead of the palest one.
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .no_value(NONE)
        .show_legend()
    )


def top(
    title: str, description: str, unit: str, query: Query, *, calc: str = "lastNotNull"
) -> bargauge.Panel:
    """Return a bar for each of few values, over the whole time range."""
    panel = _framed(bargauge.Panel(), title, description, query.datasource)
    return (
        _asking(panel, [query], instant=True)
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(None, None))
        .display_mode(BarGaugeDisplayMode.BASIC)
        .value_mode(BarGaugeValueMode.COLOR)
        .text(common.VizTextDisplayOptions().title_size(14).value_size(18))
        .orientation(VizOrientation.HORIZONTAL)
        .no_value(NONE)
        .reduce_options(common.ReduceDataOptions().calcs([calc]).values(False))
    )


def counted(
    title: str,
    description: str,
    unit: str,
    query: Query,
    columns: Mapping[str, str],
    *,
    value: str,
    narrow: int = 165,
) -> table.Panel:
    """Return a table of one number per label set, highest first.

    `columns` maps each label of the query's result to its heading, the widest first; the others
    are `narrow`. `value` is the number's heading.
    """
    panel = _framed(table.Panel(), title, description, query.datasource)
    panel = _asking(panel, [query], instant=True, as_table=True)
    if query.datasource is LOKI:
        # The result has a frame for each series.
        panel = panel.with_transformation(_transformation("labelsToFields", {"mode": "columns"}))
        panel = panel.with_transformation(_transformation("merge", {}))
    columns = {prometheus_label(name): heading for name, heading in columns.items()}
    names = {"Value": value, "Value #A": value, **columns}
    order = {name: n for n, name in enumerate(["Value", "Value #A", *columns])}
    for n, heading in enumerate(columns.values()):
        # The line number is not a quantity.
        looks = [DynamicConfigValue("unit", "string")]
        if n:
            looks.append(DynamicConfigValue("custom.width", narrow))
        panel = panel.override_by_name(heading, looks)
    return (
        without_nulls(panel)
        .unit(unit)
        .with_transformation(
            _transformation(
                "organize",
                {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": order},
            )
        )
        .override_by_name(value, [DynamicConfigValue("custom.width", 90)])
        .sort_by([common.TableSortByFieldState().display_name(value).desc(True)])
    )


def measured(
    title: str,
    description: str,
    columns: Mapping[str, str],
    numbers: Mapping[str, tuple[str, str]],
    *,
    sort_by: str = "",
    hidden: Sequence[str] = (),
) -> table.Panel:
    """Return a table with several numbers per row.

    `columns` maps each common label of the results to its heading; `numbers` maps each further
    heading to its PromQL query and its unit. The highest value of `sort_by` is first; `hidden`
    labels have no column.
    """
    panel = _framed(table.Panel(), title, description, PROMETHEUS)
    queries = [prom(text) for text, _ in numbers.values()]
    panel = _asking(panel, queries, instant=True, as_table=True)
    names = {prometheus_label(name): heading for name, heading in columns.items()}
    for n, (heading, (_, unit)) in enumerate(numbers.items()):
        # The number of a single query has no letter in its name.
        names[f"Value #{chr(ord('A') + n)}" if len(numbers) > 1 else "Value"] = heading
        looks = [DynamicConfigValue("unit", unit), DynamicConfigValue("custom.width", 115)]
        panel = panel.override_by_name(heading, looks)
    options = {
        "excludeByName": dict.fromkeys(["Time", *hidden], True),
        "renameByName": names,
        "indexByName": {name: n for n, name in enumerate(names)},
    }
    if sort_by:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    return (
        without_nulls(panel)
        .unit("string")
        .with_transformation(_transformation("merge", {}))
        .with_transformation(_transformation("organize", options))
    )


def without_nulls(panel: table.Panel) -> table.Panel:
    """Show a dash in cells without a value, and a text in a table without rows."""
    return panel.no_value(NONE).override_by_regexp("/.*/", [DynamicConfigValue("noValue", EMPTY)])


def log_table(  # noqa: PLR0913
    title: str,
    description: str,
    query: str,
    columns: Mapping[str, str],
    *,
    numbers: Mapping[str, str] | None = None,
    widths: Mapping[str, int] | None = None,
    sort_by: str = "Time",
    limit: int = 100,
) -> table.Panel:
    """Return a table of log records with links to their traces; Loki returns the newest `limit`.

    `columns` maps attributes to headings; `numbers` the headings that are numbers to their units.
    """
    panel = _framed(table.Panel(), title, description, LOKI).with_target(
        loki.Dataquery()
        .datasource(LOKI)
        .expr(query)
        .query_type("range")
        .max_lines(limit)
        .ref_id("A")
    )
    paths = [
        {"path": prometheus_label(attribute), "alias": heading}
        for attribute, heading in columns.items()
    ]
    hidden = ["labels", "tsNs", "labelTypes", "id", "Conversation", "Line"]
    order = ["Time", "Trace", *columns.values()]
    numbers = numbers or {}
    panel = (
        without_nulls(panel)
        .with_transformation(
            _transformation(
                "extractFields",
                {"source": "labels", "format": "json", "jsonPaths": paths, "replace": False},
            )
        )
        .with_transformation(
            _transformation(
                "convertFieldType",
                {
                    "conversions": [
                        {"targetField": heading, "destinationType": "number"} for heading in numbers
                    ]
                },
            )
        )
        .with_transformation(
            _transformation(
                "organize",
                {
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": {name: n for n, name in enumerate(order)},
                    "renameByName": {},
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    )
    # Show a list of one value without brackets.
    single = {"type": "regex", "options": {"pattern": r'\["([^"]*)"\]', "result": {"text": "$1"}}}
    for heading in columns.values():
        looks = [DynamicConfigValue("mappings", [MISSING, single])]
        if heading in numbers:
            looks = [DynamicConfigValue("unit", numbers[heading])]
        panel = panel.override_by_name(heading, looks)
    opens = {"type": "regex", "options": {"pattern": ".+", "result": {"text": "Open"}}}
    panel = panel.override_by_name("Trace", [DynamicConfigValue("mappings", [opens])])
    panel = panel.override_by_name("Time", [DynamicConfigValue("unit", ROW_TIME)])
    for heading, width in {"Time": 125, "Trace": 65, **(widths or {})}.items():
        panel = panel.override_by_name(heading, [DynamicConfigValue("custom.width", width)])
    return panel


def limited(panel: timeseries.Panel, limit: float, color: str) -> timeseries.Panel:
    """Add a line at a limit, which is visible even if all values are low."""
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    steps = [Threshold(None, "transparent"), Threshold(limit, color)]
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    return panel.thresholds(thresholds).thresholds_style(style).axis_soft_max(limit)


def colored(panel: timeseries.Panel, colors: Mapping[str, str]) -> timeseries.Panel:
    """Set fixed colours of series, by regular expressions of their names."""
    for pattern, color in colors.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_regexp(pattern, [DynamicConfigValue("color", fixed)])
    return panel


def log_lines(
    title: str, description: str, query: str, *, limit: int = 100, details: bool = True
) -> logs.Panel:
    """Return a panel of log lines; a line opens to its attributes and links to its trace."""
    panel = _framed(logs.Panel(), title, description, LOKI)
    return (
        panel.with_target(
            loki.Dataquery()
            .datasource(LOKI)
            .expr(query)
            .query_type("range")
            .max_lines(limit)
            .ref_id("A")
        )
        .show_time(True)
        .show_labels(False)
        .show_common_labels(False)
        .wrap_log_message(True)
        .prettify_log_message(False)
        .enable_log_details(details)
        .sort_order(LogsSortOrder.DESCENDING)
        .no_value(NONE)
    )


def traces(
    title: str,
    description: str,
    query: str,
    *,
    limit: int = 50,
    sort_by: str = "Start time",
) -> table.Panel:
    """Return a table of traces; a click on one opens it.

    Tempo returns the newest matches, not the slowest: sort by "Duration" only a query that already
    selects slow traces.
    """
    panel = _framed(table.Panel(), title, description, TEMPO)
    # The name takes the remaining width: otherwise the duration, the last column, had no room.
    widths = {"Trace ID": 120, "Start time": 160, "Duration": 90, "Service": 130}
    for column, width in widths.items():
        panel = panel.override_by_name(column, [DynamicConfigValue("custom.width", width)])
    order = {column: n for n, column in enumerate([*widths, "Name"])}
    panel = panel.with_transformation(
        _transformation("organize", {"excludeByName": {}, "renameByName": {}, "indexByName": order})
    )
    return (
        without_nulls(panel)
        .with_target(
            tempo.Dataquery()
            .datasource(TEMPO)
            .query_type("traceql")
            .query(newest(query))
            .table_type(SearchTableType.TRACES)
            .limit(limit)
            .spss(3)
            .ref_id("A")
        )
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    )


def words(title: str, description: str, markdown: str) -> text.Panel:
    """Return a panel of text."""
    panel = _framed(text.Panel(), title, description, None)
    return panel.mode(TextMode.MARKDOWN).content(markdown)


# -- common options ------------------------------------------------------------------------


def _framed(panel: P, title: str, description: str, datasource: DataSourceRef | None) -> P:
    panel = panel.title(title).description(description)
    return panel.datasource(datasource) if datasource else panel


def _asking(
    panel: P,
    queries: Sequence[Query],
    *,
    exemplars: bool = False,
    instant: bool = False,
    as_table: bool = False,
) -> P:
    for n, query in enumerate(queries):
        ref_id = chr(ord("A") + n)
        if query.datasource is LOKI:
            panel = panel.with_target(_loki(query, ref_id, instant))
        else:
            panel = panel.with_target(_prometheus(query, ref_id, exemplars, instant, as_table))
    return panel


def _prometheus(
    query: Query, ref_id: str, exemplars: bool, instant: bool, as_table: bool
) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(PROMETHEUS).expr(query.text).ref_id(ref_id)
    target = target.instant() if instant else target.range()
    target = target.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)
    if exemplars:
        target = target.exemplar(True)
    return target.legend_format(query.legend or "__auto")


def _loki(query: Query, ref_id: str, instant: bool) -> loki.Dataquery:
    target = loki.Dataquery().datasource(LOKI).expr(query.text).ref_id(ref_id)
    return target.query_type("instant" if instant else "range").legend_format(query.legend)


def _thresholds(warn: float | None, bad: float | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(None, GREEN if warn is not None else BLUE)]
    if warn is not None and bad is not None and bad < warn:
        steps = [Threshold(None, RED), Threshold(bad, YELLOW), Threshold(warn, GREEN)]
    else:
        steps += [Threshold(at, color) for at, color in ((warn, YELLOW), (bad, RED)) if at]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _transformation(name: str, options: Mapping[str, object]) -> DataTransformerConfig:
    return DataTransformerConfig(id_val=name, options=dict(options))
