"""Asks Tempo, Loki and Prometheus for each item of a run."""

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
    Book,
    Found,
    is_complete,
    longest_gap,
    missing,
    settle_items,
    settle_sums,
)
from stack.backends import Backends, LogLine

_NS: Final = 1_000_000_000
# Questions to Tempo at the same time.
_AT_ONCE: Final = 4
# As many lines as Loki answers with, by its own limit.
_PAGE: Final = 5000
# The record of a line is made a moment after its item was told of.
_AROUND_SECONDS: Final = 1.0
_LOOK_EVERY_SECONDS: Final = 0.5
# More than a float of today's seconds is rounded by.
_ROUNDED_SECONDS: Final = 1e-6
LATE_SECONDS: Final = 5.0


def look_for_spans(stores: Backends, book: Book, *, again: bool = False) -> None:
    """Notes what is there of what was not found yet; with `again`, of all.

    A store that does not answer has shown nothing.
    """
    created = dict(book.created)
    wanted = created if again else missing(created, book.spans)
    traces = {item.trace_of(number) for number in wanted}
    with suppress(httpx2.HTTPError):
        book.spans.note(_spans(stores, book.run, traces), time.time())


def look_for_logs(stores: Backends, book: Book, *, again: bool = False) -> None:
    """The same for log lines: from the oldest on that was not found yet."""
    created = dict(book.created)
    wanted = created if again else missing(created, book.logs)
    if wanted:
        since = created[min(wanted)] / _NS - _AROUND_SECONDS
        with suppress(httpx2.HTTPError):
            book.logs.note(_logs(stores, book.run, since), time.time())


# Each for itself, so that a store that hangs makes nobody else late.
LOOKS: Final = (look_for_spans, look_for_logs)


def reconcile(
    facts: Mapping[str, str],
    book: Book,
    patience: float = 60.0,
    *,
    late_after: float = LATE_SECONDS,
    tick: Callable[[], object] = lambda: None,
) -> Accounts:
    """Waits until all is there, `patience` seconds at most; then counts what each store has.

    Raises httpx2.HTTPError when a store does not answer then.
    """
    until = time.monotonic() + patience
    with Backends(facts) as stores:
        while time.monotonic() < until:
            for look in LOOKS:
                look(stores, book)
            if is_complete(book) and _increments_are_there(stores, book):
                break
            tick()
            time.sleep(_LOOK_EVERY_SECONDS)
        for look in LOOKS:
            look(stores, book, again=True)
        series = _counters(stores, book)
    return Accounts(
        run=book.run,
        spans=settle_items(book, book.spans, late_after),
        logs=settle_items(book, book.logs, late_after),
        increments=settle_sums(book, series),
        gap=longest_gap(series),
    )


def _spans(stores: Backends, run: str, traces: Iterable[int]) -> list[Found]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(partial(_trace, stores, run), sorted(traces))
        return [one for trace in found for one in trace]


def _trace(stores: Backends, run: str, trace: int) -> list[Found]:
    identifier = item.trace_id(run, trace)
    return [_span(run, trace, span) for span in stores.tempo_trace(identifier) or []]


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


def _logs(stores: Backends, run: str, since: float) -> list[Found]:
    service, its_run = prometheus_label(SERVICE_NAME), prometheus_label(item.RUN)
    query = f'{{{service}="{item.SERVICE}"}} | {its_run}="{run}"'
    return [_line(run, line) for line in _pages(stores, query, since)]


def _pages(stores: Backends, query: str, since: float) -> Iterator[LogLine]:
    start, first = since, 0
    while True:
        page = stores.loki(query, start=start, limit=_PAGE)
        lines = [line for line in page if line.timestamp >= first]
        if len(page) < _PAGE:
            yield from lines
            return
        # The last moment may go on beyond the page: it comes with the next, which begins a little
        # sooner, as seconds are not told to the nanosecond.
        first = page[-1].timestamp
        yield from (line for line in lines if line.timestamp < first)
        start = first / _NS - _ROUNDED_SECONDS


def _line(run: str, line: LogLine) -> Found:
    told = line.metadata.get(prometheus_label(item.NUMBER), "")
    if not told.isdecimal():
        return Found(None, intact=False)
    number = int(told)
    intact = (
        line.line == item.body(number)
        and line.metadata.get(prometheus_label(item.PAYLOAD)) == item.payload(run, number)
        and line.metadata.get("trace_id") == item.trace_id(run, item.trace_of(number))
    )
    return Found(number, intact)


def _increments_are_there(stores: Backends, book: Book) -> bool:
    with suppress(httpx2.HTTPError):
        return settle_sums(book, _counters(stores, book)).lost == 0
    return False


def _counters(stores: Backends, book: Book) -> list[list[tuple[float, float]]]:
    if not book.created:
        return []
    seconds = time.time() - min(book.created.values()) / _NS + _AROUND_SECONDS
    selector = f'{item.ITEMS.prometheus}{{{prometheus_label(item.RUN)}="{book.run}"}}'
    return stores.points(f"{selector}[{seconds:.0f}s]")
