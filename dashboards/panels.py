"""Panels: each has a short noun as its title, a description, and a unit for its numbers."""

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

# In an empty panel, instead of "No data", which reads as a failure.
NONE: Final = "None in the time shown"
# The time of a row of a table, as a unit.
ROW_TIME: Final = "time:MM-DD HH:mm:ss"
# In an empty cell of a table.
EMPTY: Final = "-"
# What the transformation extractFields says of an attribute that a record lacks.
MISSING: Final = {"type": "value", "options": {"Not Found": {"text": EMPTY}}}
# Least upper end of an axis: Grafana scales an axis of zeros up to 100, and of shares to 10000 %.
_SOFT_MAX: Final = {"percentunit": 1.0, "short": 1.0, "ops": 1.0, "reqps": 0.1, "s": 0.01}


@dataclass(frozen=True)
class Query:
    """A query of numbers: its text, its legend (`{{label}}` is filled in), and who answers it."""

    text: str
    legend: str = ""
    datasource: DataSourceRef = PROMETHEUS


def prom(text: str, legend: str = "") -> Query:
    return Query(text, legend)


def log_count(text: str, legend: str = "") -> Query:
    return Query(text, legend, LOKI)


# -- one for each kind of panel ----------------------------------------------------------


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
    """A number that is green when all is well: yellow from `warn`, red from `bad`.

    With `bad` below `warn` it is the other way round: low is what is bad. Without both it is
    no judgement and stays blue. `over_range` is for a query over all the time that the board
    shows, which is sent once, for its end.
    """
    panel = _framed(stat.Panel(), title, description, query.datasource)
    panel = _asking(panel, [query], instant=over_range)
    return (
        panel.unit(unit)
        .thresholds(_thresholds(warn, bad))
        .no_value(no_value)
        .color_mode(BigValueColorMode.BACKGROUND if warn is not None else BigValueColorMode.VALUE)
        # With a line under them, some numbers would be smaller than others.
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )


def with_query(panel: stat.Panel, query: Query) -> stat.Panel:
    """With a second number beside the first."""
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
    """Values over time. Exemplars are for durations, cost and tokens: each dot opens its trace.

    A count's dots would all stand at 1, and say nothing. `numbers`: the legend is a table with the
    mean, the highest and the last value.
    """
    panel = _framed(timeseries.Panel(), title, description, queries[0].datasource)
    panel = _asking(panel, queries, exemplars=exemplars)
    panel = (
        panel.unit(unit)
        .line_width(1.5)
        .fill_opacity(40 if stacked or bars else 8)
        .show_points(VisibilityMode.AUTO)
        # A metric that comes every second or every 15 has no gap; a dead service has one.
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
        # As many as one can tell from each other.
        panel = panel.max_data_points(100)
    if unit in _SOFT_MAX:
        panel = panel.axis_soft_max(_SOFT_MAX[unit])
    # The panel's own words would stand in the numbers of the legend as well.
    dash = [DynamicConfigValue("noValue", EMPTY)]
    panel = panel.no_value(NONE).override_by_regexp("/.*/", dash)
    return panel if at_least is None else panel.axis_soft_min(at_least)


def spread(title: str, description: str, unit: str, buckets: str) -> heatmap.Panel:
    """How often each value came, over time, by colour; each dot opens a trace.

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
        # As many as one can tell from each other.
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
        # Nobody at all is no colour, rather than the palest.
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .no_value(NONE)
        .show_legend()
    )


def top(
    title: str, description: str, unit: str, query: Query, *, calc: str = "lastNotNull"
) -> bargauge.Panel:
    """Few values compared, over all the time that the board shows: one bar for each."""
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
    """A table of how much there was of each, the most first.

    `columns` maps each label of the query's answer to its heading, the widest first; the others
    are `narrow`. `value` is the number's heading.
    """
    panel = _framed(table.Panel(), title, description, query.datasource)
    panel = _asking(panel, [query], instant=True, as_table=True)
    if query.datasource is LOKI:
        # It answers with a frame for each series.
        panel = panel.with_transformation(_transformation("labelsToFields", {"mode": "columns"}))
        panel = panel.with_transformation(_transformation("merge", {}))
    columns = {prometheus_label(name): heading for name, heading in columns.items()}
    names = {"Value": value, "Value #A": value, **columns}
    order = {name: n for n, name in enumerate(["Value", "Value #A", *columns])}
    for n, heading in enumerate(columns.values()):
        # A line's number is no quantity.
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
    """A table with several numbers of each thing.

    `columns` maps each label that the answers have in common to its heading; `numbers` each
    further heading to its query, in PromQL, and its unit. The highest of `sort_by` is first;
    labels that are `hidden` have no column.
    """
    panel = _framed(table.Panel(), title, description, PROMETHEUS)
    queries = [prom(text) for text, _ in numbers.values()]
    panel = _asking(panel, queries, instant=True, as_table=True)
    names = {prometheus_label(name): heading for name, heading in columns.items()}
    for n, (heading, (_, unit)) in enumerate(numbers.items()):
        # A single query's numbers have no letter.
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
    """A cell without a value has a dash; a table without rows says that there are none."""
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
    """Log records as rows, each with a link to its trace; Loki returns the newest `limit`.

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
    # An attribute with one value in a list is shown without the brackets.
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
    """With a line at a limit, which is in sight however low the values are."""
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    steps = [Threshold(None, "transparent"), Threshold(limit, color)]
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    return panel.thresholds(thresholds).thresholds_style(style).axis_soft_max(limit)


def colored(panel: timeseries.Panel, colors: Mapping[str, str]) -> timeseries.Panel:
    """Fixed colours for series, by regular expressions of their names."""
    for pattern, color in colors.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_regexp(pattern, [DynamicConfigValue("color", fixed)])
    return panel


def log_lines(
    title: str, description: str, query: str, *, limit: int = 100, details: bool = True
) -> logs.Panel:
    """The log lines themselves; a line opens to all it carries and leads to its trace."""
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
    """A table of traces; a click on one opens it.

    Tempo answers with the newest that match, not with the slowest: sort by "Duration" a query
    that asks for slow ones already.
    """
    panel = _framed(table.Panel(), title, description, TEMPO)
    # The name takes what is left: else the duration, which would come last, had no room.
    widths = {"Trace ID": 120, "Start time": 160, "Duration": 90, "Service": 90}
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
    """Text for a person."""
    panel = _framed(text.Panel(), title, description, None)
    return panel.mode(TextMode.MARKDOWN).content(markdown)


# -- what they share ---------------------------------------------------------------------


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
