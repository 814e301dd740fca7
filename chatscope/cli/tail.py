"""`chatscope logs`: the newest log records, and those that follow."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console

from chatscope.cli import records
from chatscope.cli.loki import Line, Loki, quoted, selector
from chatscope.cli.records import LEVEL
from chatscope.cli.screen import emit
from chatscope.cli.times import SECOND

_POLL_SECONDS: Final = 1.0
# Records may arrive later than younger ones of other services.
_LATE: Final = 10 * SECOND


def query(
    services: Iterable[str], *, level: str | None, search: str | None, trace_id: str | None
) -> str:
    """Return the LogQL for records of services that meet all conditions."""
    stages = [
        f"|= {quoted(search)}" if search else "",
        f"| {LEVEL}=~{quoted(records.level_pattern(level))}" if level else "",
        f"| trace_id={quoted(trace_id)}" if trace_id else "",
    ]
    return " ".join([selector(services), *filter(None, stages)])


def show(console: Console, found: Sequence[Line], *, as_json: bool) -> None:
    """Print records: as JSON, one a line."""
    if as_json:
        for record in found:
            emit(records.as_object(record))
    else:
        records.show(console, list(found))


def follow(
    console: Console, loki: Loki, logql: str, shown: Sequence[Line], *, as_json: bool
) -> None:
    """Print new records as they arrive, until Ctrl-C. Raise CommandError."""
    since = shown[-1].time if shown else time.time_ns()
    seen = {_identity(record) for record in shown}
    while not console.quiet:
        time.sleep(_POLL_SECONDS)
        found = list(loki.lines(logql, since - _LATE, time.time_ns() + _LATE))
        new = [record for record in found if _identity(record) not in seen]
        show(console, new, as_json=as_json)
        seen = {_identity(record) for record in found}
        since = max([since, *(record.time for record in found)])


def _identity(record: Line) -> tuple[int, str, str]:
    return record.time, record.text, record.fields.get("span_id", "")
