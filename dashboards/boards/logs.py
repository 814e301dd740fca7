"""Logs: log lines with the facts of responses, their number, and recurring ones."""

from typing import Final

from grafana_foundation_sdk.builders import logs
from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    CODE_FUNCTION_NAME,
    CODE_LINE_NUMBER,
    ERROR_TYPE,
    EVENT_INFERENCE_DETAILS,
    LOG_QUEUE_CAPACITY,
    LOG_QUEUE_SIZE,
    LOGS_EXPORTED,
    LOGS_PROCESSED,
    prometheus_label,
)
from dashboards import links, responses
from dashboards.board import Row, assemble
from dashboards.others import BODY, ERROR, MODULE, SEVERITY, WARNING
from dashboards.panels import (
    BLUE,
    RED,
    YELLOW,
    Panel,
    colored,
    counted,
    is_well,
    lines,
    log_count,
    log_lines,
    prom,
)
from dashboards.queries import (
    RANGE,
    count_lines,
    differs,
    increase,
    keep,
    matches,
    or_zero,
    same_body,
    search,
    total,
)
from dashboards.queries import lines as logged
from dashboards.variables import LEVEL

_LEVELS: Final = {"^(ERROR|CRITICAL|FATAL)": RED, "^WARN": YELLOW, "^INFO": BLUE}


def board() -> Dashboard:
    return assemble(
        links.LOGS,
        "The log lines, filtered by the fields above; how many there are, and what repeats.",
        [
            Row("Lines", [_lines()], height=22),
            Row("Volume", _volume()),
            Row("Repeated lines", _patterns(), height=9, widths=(15, 9)),
            Row("Delivery", _delivery(), height=4),
        ],
    )


def _filters() -> list[str]:
    """Return the stages for the text fields of the dashboard.

    The event with the content of a response is excluded: its line is only its name, and the
    dashboard of conversations shows it.
    """
    return [
        *search(),
        f"!= `{EVENT_INFERENCE_DETAILS}`",
        keep(matches(SEVERITY, f"${LEVEL.name}")),
        responses.of_outcome(),
    ]


def _lines() -> logs.Panel:
    return log_lines(
        "Log lines",
        "The newest 300 lines that match the fields above; the charts below count the same lines. "
        "Lines about a response show its model, time, tokens, cost and, if it failed, the reason. "
        "Open a line for everything it has, and for its trace.",
        logged(*_filters(), f"| line_format `{{{{ __line__ }}}}{responses.facts()}`"),
        limit=300,
    )


def _volume() -> list[Panel]:
    by_level = lines(
        "Lines by level",
        "Lines in each step of the time axis.",
        "short",
        [log_count(count_lines(*_filters(), by=[SEVERITY]), f"{{{{{SEVERITY}}}}}")],
        stacked=True,
        bars=True,
    )
    return [
        colored(by_level, _LEVELS),
        lines(
            "Lines by module",
            "Lines in each step of the time axis, by the module that logged them.",
            "short",
            [log_count(count_lines(*_filters(), by=[MODULE]), f"{{{{{MODULE}}}}}")],
            stacked=True,
            bars=True,
        ),
    ]


def _patterns() -> list[Panel]:
    severe = keep(matches(SEVERITY, f"{ERROR}|{WARNING}"))
    repeated = count_lines(
        *_filters(), severe, same_body(), by=[SEVERITY, MODULE, ERROR_TYPE, BODY], over=RANGE
    )
    places = count_lines(
        *_filters(), by=[CODE_FUNCTION_NAME, CODE_LINE_NUMBER, SEVERITY], over=RANGE
    )
    return [
        counted(
            "Repeated errors",
            "Errors and warnings in the time shown; lines that differ only in IDs and numbers (#) "
            "are counted together.",
            "short",
            log_count(repeated),
            {
                BODY: "Text",
                prometheus_label(ERROR_TYPE): "Type",
                SEVERITY: "Level",
                MODULE: "Module",
            },
            value="Count",
        ),
        counted(
            "Lines by source",
            "Lines in the time shown, by the function and line of code that wrote them.",
            "short",
            log_count(places),
            {
                prometheus_label(CODE_FUNCTION_NAME): "Function",
                prometheus_label(CODE_LINE_NUMBER): "Line",
                SEVERITY: "Level",
            },
            value="Count",
            narrow=80,
        ),
    ]


def _delivery() -> list[Panel]:
    lost = " + ".join(
        or_zero(increase(metric, differs(ERROR_TYPE))) for metric in (LOGS_PROCESSED, LOGS_EXPORTED)
    )
    return [
        is_well(
            "Lines dropped",
            "Log records that a service dropped from a full queue or could not send, in the time "
            "shown.",
            "short",
            prom(lost),
            warn=1,
            bad=100,
            over_range=True,
        ),
        is_well(
            "Queue usage",
            "Log records that wait to be sent, as a share of the queue. At 100 % the oldest ones "
            "are dropped.",
            "percentunit",
            prom(f"{total(LOG_QUEUE_SIZE)} / {total(LOG_QUEUE_CAPACITY)}"),
            warn=0.2,
            bad=0.8,
        ),
    ]
