"""Log records as lines of output: time, level, service, text, and the facts of a response."""

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatscope.cli.loki import Line
from chatscope.cli.responses import number, tokens
from chatscope.cli.screen import clock, joined, money, safe, seconds
from chatscope.cli.times import as_text
from chatscope.names import (
    ANSWER_COST,
    ANSWER_SECONDS,
    ERROR_MESSAGE,
    ERROR_TYPE,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    GEN_AI_EVALUATION_EXPLANATION,
    GEN_AI_EVALUATION_SCORE_LABEL,
    GEN_AI_REQUEST_MODEL,
    HTTP_RESPONSE_STATUS_CODE,
    prometheus_label,
)

LEVEL: Final = "severity_text"
# By name, the lowest first; each accepts those after it, too.
LEVELS: Final = {
    "debug": "DEBUG",
    "info": "INFO|SUCCESS",
    "warning": "WARN|WARNING",
    "error": "ERROR|CRITICAL|FATAL.*",
}
_STYLES: Final = {"ERROR": "red", "CRITICAL": "red", "WARN": "yellow", "WARNING": "yellow"}
_REASONS: Final = (
    ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, ERROR_MESSAGE, EXCEPTION_TYPE, EXCEPTION_MESSAGE,
    GEN_AI_EVALUATION_SCORE_LABEL, GEN_AI_EVALUATION_EXPLANATION,
)  # fmt: skip


def level_pattern(level: str) -> str:
    """Return the pattern of a level and of all above it."""
    names = list(LEVELS)
    return "|".join(LEVELS[name] for name in names[names.index(level) :])


def as_object(record: Line) -> dict[str, Any]:
    """Return a record for JSON: its fields have Loki's names."""
    return {"time": as_text(record.time), "text": record.text, "fields": dict(record.fields)}


def table() -> Table:
    """Return an empty table of records; their texts wrap inside of their column."""
    rows = Table.grid(padding=(0, 1, 0, 0))
    for _ in ("time", "level", "service"):
        rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    return rows


def add(rows: Table, record: Line, *, with_trace: bool = True) -> None:
    """Add a record to a table."""
    level = record.fields.get(LEVEL, "")
    style = _STYLES.get(level, "")
    trace = record.fields.get("trace_id") if with_trace else None
    text = joined([
        safe(record.text, style),
        *facts(record),
        safe(f"trace {trace}", "dim") if trace else None,
    ])  # fmt: skip
    service = record.fields.get("service_name", "")
    rows.add_row(safe(clock(record.time), "dim"), safe(level[:5], style), safe(service), text)


def show(console: Console, records: list[Line], *, with_trace: bool = True) -> None:
    """Print records."""
    rows = table()
    for record in records:
        add(rows, record, with_trace=with_trace)
    if records:
        console.print(rows)


def facts(record: Line) -> Iterator[Text | str]:
    """Yield what a record has of a response: model, time, tokens, cost, the reason of a failure."""

    def field(name: str) -> str:
        return record.fields.get(prometheus_label(name), "")

    yield field(GEN_AI_REQUEST_MODEL)
    if (took := number(field(ANSWER_SECONDS))) is not None:
        yield seconds(took)
    yield tokens(record.fields)
    if (cost := number(field(ANSWER_COST))) is not None:
        yield money(cost)
    for name in _REASONS:
        # The text of a request's record has its status.
        if name != HTTP_RESPONSE_STATUS_CODE or field(ERROR_TYPE):
            yield field(name)
