"""Panels of single spans with their attributes, which Tempo finds."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders import common, table, tempo
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue
from grafana_foundation_sdk.models.tempo import SearchTableType

from dashboards.datasources import TEMPO
from dashboards.panels import without_nulls
from dashboards.queries import newest

# What Grafana calls the columns that each table of spans has.
SPAN: Final = "Span ID"
START: Final = "Start time"
DURATION: Final = "Duration"
_OPENS: Final = "Opens its trace"
_HIDDEN: Final = ("traceIdHidden", "Trace Service", "Trace Name", "Name", "service.name")


def span_table(
    title: str,
    description: str,
    query: str,
    attributes: Mapping[str, str],
    *,
    units: Mapping[str, str] | None = None,
    sort_by: str = START,
    limit: int = 200,
) -> table.Panel:
    """Spans with some of their attributes, by heading; a click opens the trace.

    Tempo answers with the newest `limit` that match, whatever they are sorted by here.
    """
    chosen = ", ".join(f"span.{name}" for name in attributes)
    # What opens the trace stands where no screen is too narrow for it.
    order = {name: n for n, name in enumerate([SPAN, START, DURATION, *attributes])}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(TEMPO)
        .with_target(
            tempo.Dataquery()
            .datasource(TEMPO)
            .query_type("traceql")
            .query(newest(f"{query} | select({chosen})"))
            .table_type(SearchTableType.SPANS)
            .limit(limit)
            .spss(1)
            .ref_id("A")
        )
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(_HIDDEN, True),
                    "indexByName": order,
                    "renameByName": {**attributes, SPAN: _OPENS},
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    )
    for heading, width in {_OPENS: 150, START: 160, DURATION: 90}.items():
        panel = panel.override_by_name(heading, [DynamicConfigValue("custom.width", width)])
    for heading, unit in (units or {}).items():
        panel = panel.override_by_name(heading, [DynamicConfigValue("unit", unit)])
    return without_nulls(panel)
