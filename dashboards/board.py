"""The common frame of dashboards: settings, rows that fill 24 columns, stable panel IDs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard, heatmap, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardCursorSync, GridPos

from dashboards import links
from dashboards.alert_panels import marks
from dashboards.encoding import encode
from dashboards.panels import Panel
from dashboards.variables import VARIABLES

COLUMNS: Final = 24
# Panels with a time axis, which shows annotations of alerts.
_CHARTS: Final = (timeseries.Panel, heatmap.Panel)


@dataclass(frozen=True)
class Row:
    """Panels of the same height, side by side under one heading.

    `widths` in columns, default equal; panels that do not fit continue below. Panels of a `folded`
    row are hidden, and send no queries until it is opened.
    """

    title: str
    panels: Sequence[Panel]
    height: int = 8
    widths: Sequence[int] = ()
    folded: bool = False


def assemble(
    uid: str,
    description: str,
    rows: Sequence[Row],
    *,
    refresh: str = "30s",
    since: str = "now-30m",
) -> Dashboard:
    """Return a dashboard with the variables of its queries, and links to other dashboards.

    Each refresh sends dozens of queries, so the interval is no shorter than users need.
    """
    builder = (
        dashboard.Dashboard(links.TITLES[uid])
        .uid(uid)
        .description(description)
        .tags([links.TAG])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .links(list(links.neighbours(uid)))
    )
    if any(isinstance(panel, _CHARTS) for row in rows for panel in row.panels):
        builder = builder.annotations(list(marks(links.AREAS.get(uid, uid))))
    top = 0
    for row in rows:
        heading = (
            dashboard.Row(row.title)
            .id(links.number(f"row {row.title}"))
            .grid_pos(GridPos(x=0, y=top, w=COLUMNS, h=1))
            .collapsed(row.folded)
        )
        if row.folded:
            _place(heading, row, top + 1)
            builder.with_row(heading)
            # The next row is directly below a folded one.
            top += 1
        else:
            builder.with_row(heading)
            top = _place(builder, row, top + 1)
    board = builder.build()
    used = set(re.findall(r"\$\{?([a-z_]\w*)", encode(board)))
    return builder.variables([v.build() for v in VARIABLES if v.name in used]).build()


def _place(builder: dashboard.Dashboard | dashboard.Row, row: Row, top: int) -> int:
    """Place panels from `top` on, in lines if they do not fit side by side; return the end."""
    width = COLUMNS // max(len(row.panels), 1)
    left = 0
    for n, panel in enumerate(row.panels):
        wide = row.widths[n] if row.widths else width
        if left + wide > COLUMNS:
            left, top = 0, top + row.height
        title = str(panel.build().title)
        place = GridPos(x=left, y=top, w=wide, h=row.height)
        builder.with_panel(panel.id(links.number(title)).grid_pos(place))
        left += wide
    return top + row.height
