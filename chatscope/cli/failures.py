"""`chatscope errors`: log records of errors in groups, with their reasons."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console

from chatscope.cli.loki import Line, Loki
from chatscope.cli.records import LEVEL, LEVELS
from chatscope.cli.screen import clock, grid, joined, safe
from chatscope.cli.times import as_text
from chatscope.names import (
    ERROR_MESSAGE,
    ERROR_TYPE,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    GEN_AI_REQUEST_MODEL,
    HTTP_RESPONSE_STATUS_CODE,
    prometheus_label,
)

# A group is the records that have the same of these, and the same text.
_SAME: Final = (
    GEN_AI_REQUEST_MODEL, ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, ERROR_MESSAGE, EXCEPTION_TYPE,
    EXCEPTION_MESSAGE,
)  # fmt: skip
_KEYS: Final = tuple(map(prometheus_label, _SAME))
_KEEP: Final = ", ".join(("service_name", "trace_id", *_KEYS))


@dataclass
class Failure:
    """Records of one kind: how many, when the first and the last, and the trace of the last."""

    text: str
    fields: Mapping[str, str]
    count: int
    first: int  # ns
    last: int
    trace_id: str


def read(loki: Loki, streams: str, start: int, end: int) -> list[Failure]:
    """Return the groups of a time, the largest first. Raise CommandError."""
    query = f"{streams} | {LEVEL}=~`{LEVELS['error']}` | keep {_KEEP}"
    return _grouped(loki.lines(query, start, end))


def _grouped(lines: Iterable[Line]) -> list[Failure]:
    found: dict[tuple[str, ...], Failure] = {}
    for line in lines:
        service = line.fields.get("service_name", "")
        key = (service, line.text, *(line.fields.get(name, "") for name in _KEYS))
        group = found.setdefault(key, Failure(line.text, line.fields, 0, line.time, line.time, ""))
        group.count += 1
        group.last = line.time
        group.trace_id = line.fields.get("trace_id") or group.trace_id
    return sorted(found.values(), key=lambda group: (-group.count, -group.last))


def as_object(failure: Failure) -> dict[str, Any]:
    """Return a group for JSON."""
    fields = {name: value for name, value in failure.fields.items() if name != "trace_id"}
    return {
        "count": failure.count,
        "text": failure.text,
        "first": as_text(failure.first),
        "last": as_text(failure.last),
        "trace_id": failure.trace_id,
        "fields": fields,
    }


def show(console: Console, failures: list[Failure]) -> None:
    """Print the groups, each with its reason and the trace of its last record."""
    if not failures:
        console.print("No errors in this time.")
        return
    rows = grid(
        {"header": "count", "justify": "right", "no_wrap": True},
        {"header": "last", "no_wrap": True},
        {"header": "error", "overflow": "fold"},
    )
    for failure in failures:
        fields = failure.fields
        reasons = joined([
            safe(fields.get("service_name", "")),
            safe(failure.text, "red"),
            *dict.fromkeys(fields.get(name, "") for name in _KEYS),
        ])  # fmt: skip
        rows.add_row(str(failure.count), clock(failure.last), reasons)
        if failure.trace_id:
            rows.add_row("", "", safe(f"chatscope trace {failure.trace_id}", "dim"))
    console.print(rows)
