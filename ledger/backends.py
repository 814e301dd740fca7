"""Searches for each item of a run in Tempo, Loki and Prometheus."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

import httpx2

from chatscope.cli.spans import Span
from chatscope.names import prometheus_label
from dashboards.others import SERVICE_NAME
from ledger import item
from ledger.account import (
    Accounts,
    Found,
    RunRecord,
    account_of_counter,
    account_of_items,
    is_complete,
    longest_gap,
    missing,
)
from stack.backends import Backends, LogLine

_NS: Final = 1_000_000_000
# Concurrent requests to Tempo.
_AT_ONCE: Final = 4
# The maximum number of lines of one response, by Loki's own limit.
_PAGE: Final = 5000
# A log record is created a moment after its item was announced.
_AROUND_SECONDS: Final = 1.0
_LOOK_EVERY_SECONDS: Final = 0.5
# More than the rounding error of a float of the current time in seconds.
_ROUNDED_SECONDS: Final = 1e-6
LATE_SECONDS: Final = 5.0


def search_spans(backends: Backends, run_record: RunRecord, *, again: bool = False) -> None:
    """Search for spans that were not found yet; with `again`, for all.

    Raises httpx2.HTTPError if Tempo does not respond.
    """
    created = dict(run_record.created)
    wanted = created if again else missing(created, run_record.spans)
    traces = {item.trace_of(number) for number in wanted}
    run_record.spans.add(_spans(backends, run_record.run, traces), time.time())


def search_logs(backends: Backends, run_record: RunRecord, *, again: bool = False) -> None:
    """Search for log lines, from the oldest one on that was not found yet; with `again`, all.

    Raises httpx2.HTTPError if Loki does not respond.
    """
    created = dict(run_record.created)
    wanted = created if again else missing(created, run_record.logs)
    if wanted:
        since = created[min(wanted)] / _NS - _AROUND_SECONDS
        run_record.logs.add(_logs(backends, run_record.run, since), time.time())


# Searched independently, so that a backend that hangs does not delay the other.
SEARCHES: Final = (search_spans, search_logs)


def reconcile(
    facts: Mapping[str, str],
    run_record: RunRecord,
    patience: float = 60.0,
    *,
    late_after: float = LATE_SECONDS,
    tick: Callable[[], object] = lambda: None,
) -> Accounts:
    """Wait until all items are found, at most `patience` seconds; then count them.

    Raises httpx2.HTTPError if a backend does not respond then.
    """
    until = time.monotonic() + patience
    with Backends(facts) as backends:
        while time.monotonic() < until:
            for search in SEARCHES:
                with suppress(httpx2.HTTPError):
                    search(backends, run_record)
            if is_complete(run_record) and _increments_are_there(backends, run_record):
                break
            tick()
            time.sleep(_LOOK_EVERY_SECONDS)
        for search in SEARCHES:
            search(backends, run_record, again=True)
        series = _counters(backends, run_record)
    return Accounts(
        run=run_record.run,
        spans=account_of_items(run_record, run_record.spans, late_after),
        logs=account_of_items(run_record, run_record.logs, late_after),
        increments=account_of_counter(run_record, series),
        gap=longest_gap(series),
    )


def _spans(backends: Backends, run: str, traces: Iterable[int]) -> list[Found]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(partial(_trace, backends, run), sorted(traces))
        return [one for trace in found for one in trace]


def _trace(backends: Backends, run: str, trace: int) -> list[Found]:
    identifier = item.trace_id(run, trace)
    return [_span(run, trace, span) for span in backends.tempo_trace(identifier) or []]


def _span(run: str, trace: int, span: Span) -> Found:
    number = span.attributes.get(item.NUMBER)
    if not isinstance(number, int):
        return Found(None, intact=False)
    intact = (
        span.name == item.SPAN_NAME
        and span.resource.get(SERVICE_NAME) == item.SERVICE
        and span.attributes.get(item.RUN) == run
        and span.attributes.get(item.PAYLOAD) == item.payload(run, number)
        and item.trace_of(number) == trace
    )
    return Found(number, intact)


def _logs(backends: Backends, run: str, since: float) -> list[Found]:
    service, its_run = prometheus_label(SERVICE_NAME), prometheus_label(item.RUN)
    query = f'{{{service}="{item.SERVICE}"}} | {its_run}="{run}"'
    return [_line(run, line) for line in _pages(backends, query, since)]


def _pages(backends: Backends, query: str, since: float) -> Iterator[LogLine]:
    start, first = since, 0
    while True:
        page = backends.loki(query, start=start, limit=_PAGE)
        lines = [line for line in page if line.timestamp >= first]
        if len(page) < _PAGE:
            yield from lines
            return
        # The last timestamp may continue on the next page. That begins slightly earlier, because
        # seconds are not precise to the nanosecond.
        first = page[-1].timestamp
        yield from (line for line in lines if line.timestamp < first)
        start = first / _NS - _ROUNDED_SECONDS


def _line(run: str, line: LogLine) -> Found:
    parse = line.metadata.get(prometheus_label(item.NUMBER), "")
    if not parse.isdecimal():
        return Found(None, intact=False)
    number = int(parse)
    intact = (
        line.line == item.body(number)
        and line.metadata.get(prometheus_label(item.PAYLOAD)) == item.payload(run, number)
        and line.metadata.get("trace_id") == item.trace_id(run, item.trace_of(number))
    )
    return Found(number, intact)


def _increments_are_there(backends: Backends, run_record: RunRecord) -> bool:
    with suppress(httpx2.HTTPError):
        return account_of_counter(run_record, _counters(backends, run_record)).lost == 0
    return False


def _counters(backends: Backends, run_record: RunRecord) -> list[list[tuple[float, float]]]:
    if not run_record.created:
        return []
    seconds = time.time() - min(run_record.created.values()) / _NS + _AROUND_SECONDS
    selector = f'{item.ITEMS.prometheus}{{{prometheus_label(item.RUN)}="{run_record.run}"}}'
    return backends.points(f"{selector}[{seconds:.0f}s]")
