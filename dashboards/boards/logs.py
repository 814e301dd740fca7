"""Logs: how much is said, by whom, what goes wrong again and again, and the lines themselves."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    CODE_FUNCTION_NAME,
    CODE_LINE_NUMBER,
    ERROR_TYPE,
    LOG_QUEUE_CAPACITY,
    LOG_QUEUE_SIZE,
    LOGS_EXPORTED,
    LOGS_PROCESSED,
    prometheus_label,
)
from dashboards import answers, links
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

_LEVELS: Final = {"^(ERROR|CRITICAL|FATAL)": RED, "^WARN": YELLOW, "^INFO": BLUE}


def board() -> Dashboard:
    return assemble(
        links.LOGS,
        "What the service says: how much, what again and again, and each line.",
        [
            Row("Health", _well(), height=3, widths=(8, 8, 8, 12, 12)),
            Row("Volume", _volume()),
            Row("Patterns", _patterns(), height=9, widths=(15, 9)),
            Row("Lines", _search(), height=20),
        ],
        # Who follows the lines as they come waits for none.
        refresh="5s",
    )


def _well() -> list[Panel]:
    lost = " + ".join(
        or_zero(increase(metric, _FAILED_EXPORT)) for metric in (LOGS_PROCESSED, LOGS_EXPORTED)
    )
    return [
        is_well(
            "Errors",
            "Lines of level ERROR or above, in the time that the board shows.",
            "short",
            log_count(count_lines(answers.ERRORS, over=RANGE)),
            warn=1,
            bad=100,
            no_value="0",
            over_range=True,
        ),
        is_well(
            "Warnings",
            "Lines of level WARNING, in the time that the board shows.",
            "short",
            log_count(count_lines(keep(matches(SEVERITY, WARNING)), over=RANGE)),
            warn=1,
            bad=100,
            no_value="0",
            over_range=True,
        ),
        is_well(
            "Lines",
            "All lines, in the time that the board shows.",
            "short",
            log_count(count_lines(over=RANGE)),
            no_value="none",
            over_range=True,
        ),
        is_well(
            "Lines dropped",
            "Log records that the service dropped from a full queue, or gave up to send, in the "
            "time that the board shows.",
            "short",
            prom(lost),
            warn=1,
            bad=100,
            over_range=True,
        ),
        is_well(
            "Queue usage",
            "Of as many as can wait in the service. At 100 % the oldest is dropped for the newest.",
            "percentunit",
            prom(f"{total(LOG_QUEUE_SIZE)} / {total(LOG_QUEUE_CAPACITY)}"),
            warn=0.2,
            bad=0.8,
        ),
    ]


_FAILED_EXPORT: Final = differs(ERROR_TYPE)


def _volume() -> list[Panel]:
    by_level = lines(
        "Lines by level",
        "Lines in each step of the time axis.",
        "short",
        [log_count(count_lines(by=[SEVERITY]), f"{{{{{SEVERITY}}}}}")],
        stacked=True,
        bars=True,
    )
    return [
        colored(by_level, _LEVELS),
        lines(
            "Lines by module",
            "Lines in each step of the time axis, by who logged them.",
            "short",
            [log_count(count_lines(by=[MODULE]), f"{{{{{MODULE}}}}}")],
            stacked=True,
            bars=True,
        ),
    ]


def _patterns() -> list[Panel]:
    troubles = keep(matches(SEVERITY, f"{ERROR}|{WARNING}"))
    return [
        counted(
            "Repeated errors",
            "Lines that differ only in ids and numbers (#) are counted as one, over the time that "
            "the board shows.",
            "short",
            log_count(
                count_lines(
                    troubles, same_body(), by=[SEVERITY, MODULE, ERROR_TYPE, BODY], over=RANGE
                )
            ),
            {
                BODY: "What it says",
                prometheus_label(ERROR_TYPE): "Type",
                SEVERITY: "Level",
                MODULE: "Module",
            },
            value="Times",
        ),
        counted(
            "Lines by source",
            "All lines by the function and line that wrote them, over the time that the board "
            "shows.",
            "short",
            log_count(count_lines(by=[CODE_FUNCTION_NAME, CODE_LINE_NUMBER, SEVERITY], over=RANGE)),
            {
                prometheus_label(CODE_FUNCTION_NAME): "Function",
                prometheus_label(CODE_LINE_NUMBER): "Line",
                SEVERITY: "Level",
            },
            value="Times",
            narrow=80,
        ),
    ]


def _search() -> list[Panel]:
    return [
        log_lines(
            "Log lines",
            "The newest lines first, with each refresh. The fields above the board keep to a "
            "trace, a conversation or connection, or a text. Open a line to see all that it "
            "carries, and its trace. Explore follows them live.",
            logged(*search()),
            limit=300,
        ),
    ]
