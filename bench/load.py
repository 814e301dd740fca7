"""What does the stack take? Spans, log lines and series at a rate, on a native stack of its own.

The load is OTLP, put together by hand, so that its maker leaves the machine to the stack: numbered
items of the ledger, of which each is looked for afterwards, and counters of their own. What the
Collector refuses is sent again, as a service does. Exit code 0 when nothing was refused or thrown
away, and each item is there once; 1 when not.
"""

import argparse
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from secrets import token_hex
from typing import Any, Final

import grpc
import psutil
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from rich.console import Console
from rich.table import Table

from bench.own import STACK_ERRORS, own_stack
from dashboards import others
from dashboards.others import SERVICE_NAME
from ledger import item
from ledger.__main__ import show
from ledger.account import Accounts, Book
from ledger.stores import reconcile
from stack import facts as stack_facts
from stack.backends import Backends
from stack.native import NativeStack
from stack.progress import Progress
from stack.screen import MIB

_DIRECTORY: Final = stack_facts.ROOT / ".chatscope" / "load"
_SERVICE: Final = "/opentelemetry.proto.collector.{}/Export"
_METHODS: Final[Mapping[Any, str]] = {
    ExportTraceServiceRequest: _SERVICE.format("trace.v1.TraceService"),
    ExportLogsServiceRequest: _SERVICE.format("logs.v1.LogsService"),
    ExportMetricsServiceRequest: _SERVICE.format("metrics.v1.MetricsService"),
}
# Items in a request, and how many requests are under way at most.
_BATCH: Final = 100
_SENDERS: Final = 8
# How often each series has a new value, as with a scrape; and the items' own counter.
_SERIES_SECONDS: Final = 15
_SERIES: Final = "chatscope_load"
_REQUEST_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 0.25
# Then the Collector is gone for good; what it did not take is missed by the ledger.
_TRIES: Final = 400
# For so long what waits in queues may go on to the stores.
_PATIENCE_SECONDS: Final = 300.0
# The parts' own counts are scraped each 15 s.
_SCRAPED_SECONDS: Final = 20.0
_TICK_SECONDS: Final = 0.5
_REFUSED: Final = tuple(
    one for hop in others.HOPS for one in (hop.refused, hop.failed, hop.enqueue_failed)
)
_THROWN_AWAY: Final = (
    *(hop.send_failed for hop in others.HOPS),
    others.TEMPO_DISCARDED,
    others.LOKI_DISCARDED,
    others.PROMETHEUS_OUT_OF_BOUNDS,
    others.PROMETHEUS_TOO_OLD,
    others.PROMETHEUS_INVALID,
)
# What the Collector says of a try that failed, and will be made again.
_TRIED_AGAIN: Final = "Exporting failed. Will retry"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--rate", type=float, default=2000, help="of each a second (default 2000)")
    parser.add_argument("--series", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default 60)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    # As by Ctrl-C: nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if _measure(console, options.rate, options.series, options.seconds) else 1
    except KeyboardInterrupt:
        console.print("\nInterrupted: its stack is gone.")
        return 130
    except STACK_ERRORS as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1


def _measure(console: Console, rate: float, series: int, seconds: float) -> bool:
    progress = Progress(console)
    console.print(
        f"{rate:g} spans and log lines a second and {series} series each {_SERIES_SECONDS} s,"
        f" for {seconds:g} s."
    )
    with own_stack(_DIRECTORY, progress) as stack:
        before = _cpu_seconds(stack)
        with _load(stack.facts, rate, series) as load, progress.activity("Sending"):
            began = time.monotonic()
            while (lasted := time.monotonic() - began) < seconds:
                stack.raise_if_dead()
                progress.tick()
                time.sleep(_TICK_SECONDS)
            used = _used(stack, before, lasted)
        with progress.activity("Looking for each item"):
            accounts = reconcile(stack.facts, load.book, _PATIENCE_SECONDS, tick=progress.tick)
        with progress.activity("Asking each part what it refused"):
            time.sleep(_SCRAPED_SECONDS)
            refused, thrown_away, there = _told(stack.facts)
        tries = (_DIRECTORY / "logs" / "collector.log").read_text().count(_TRIED_AGAIN)
    show(console, _unwatched(accounts))
    console.print(_table(used))
    console.print(
        f"Sent: {len(load.book.created) / lasted:.0f} of each a second, {there:.0f} of {series}"
        f" series.\nRefused at the front, and sent again: {load.refused} requests"
        f"{_by_code(load.answers)}.\nTold by the parts: {refused:.0f} items refused,"
        f" {thrown_away:.0f} thrown away; {tries} tries of the Collector that it made again."
    )
    return accounts.difference == thrown_away == load.refused == 0 and there == series


class _Load:
    """What is sent, in requests of which each is sent until it is acknowledged."""

    def __init__(self, channel: grpc.Channel, rate: float, series: int) -> None:
        self.book = Book(token_hex(4))
        self.answers: Counter[str] = Counter()
        self._channel = channel
        self._rate = rate
        self._series = series
        self._lock = threading.Lock()
        self._blocks = count()
        self._began = time.monotonic()
        self._began_ns = time.time_ns()
        self._over = threading.Event()

    @property
    def refused(self) -> int:
        """Requests that were not acknowledged at first."""
        return self.answers.total()

    def run(self) -> None:
        """Until `end`; then all that was begun is acknowledged, and the last sums are sent."""
        with ThreadPoolExecutor(_SENDERS + 1) as pool:
            senders = [pool.submit(self._send_items) for _ in range(_SENDERS)]
            metrics = pool.submit(self._send_series)
            for done in (*senders, metrics):
                done.result()
        self._send(_sums(self.book.run, len(self.book.created), self._began_ns))

    def end(self) -> None:
        self._over.set()

    def _send_items(self) -> None:
        while not self._over.is_set():
            with self._lock:
                block = next(self._blocks)
            if self._over.wait(max(0.0, self._due(block * _BATCH / self._rate))):
                return
            numbers = range(block * _BATCH, (block + 1) * _BATCH)
            now = time.time_ns()
            for request in _items(self.book.run, numbers, now):
                self._send(request)
            with self._lock:
                self.book.created.update(dict.fromkeys(numbers, now))

    def _send_series(self) -> None:
        """A part of them each second, so that each comes once in its time."""
        for second in count():
            if self._over.wait(max(0.0, self._due(second))):
                return
            with self._lock:
                made = len(self.book.created)
            some = range(second % _SERIES_SECONDS, self._series, _SERIES_SECONDS)
            self._send(_sums(self.book.run, made, self._began_ns))
            self._send(_series(some, second, self._began_ns))

    def _due(self, second: float) -> float:
        return self._began + second - time.monotonic()

    def _send(self, request: Any) -> None:
        data = request.SerializeToString()
        call: Any = self._channel.unary_unary(_METHODS[type(request)])
        for _ in range(_TRIES):
            try:
                call(data, timeout=_REQUEST_SECONDS)
            except grpc.RpcError as error:
                with self._lock:
                    self.answers[error.code().name] += 1
                time.sleep(_AGAIN_SECONDS)
            else:
                return


@contextmanager
def _load(facts: Mapping[str, str], rate: float, series: int) -> Iterator[_Load]:
    """Inside, it is sent; after it, all of it is acknowledged."""
    with grpc.insecure_channel(facts["OTLP_URL"].partition("//")[2]) as channel:
        load = _Load(channel, rate, series)
        thread = threading.Thread(target=load.run)
        thread.start()
        try:
            yield load
        finally:
            load.end()
            thread.join()


def _items(
    run: str, numbers: Iterable[int], now: int
) -> tuple[ExportTraceServiceRequest, ExportLogsServiceRequest]:
    spans, records = [], []
    for number in numbers:
        trace = item.trace_of(number)
        trace_id = bytes.fromhex(item.trace_id(run, trace))
        span_id = (number + 1).to_bytes(8)
        attributes = _pairs(item.attributes(run, number))
        spans.append(
            Span(
                trace_id=trace_id,
                span_id=span_id,
                # As of somebody who called.
                parent_span_id=(2**32 + trace).to_bytes(8),
                name=item.SPAN_NAME,
                kind=Span.SPAN_KIND_INTERNAL,
                start_time_unix_nano=now - 1_000_000,
                end_time_unix_nano=now,
                attributes=attributes,
            )
        )
        records.append(
            LogRecord(
                # Lines of the same nanosecond and text are one.
                time_unix_nano=now,
                observed_time_unix_nano=now,
                severity_text="INFO",
                body=AnyValue(string_value=item.body(number)),
                attributes=attributes,
                trace_id=trace_id,
                span_id=span_id,
            )
        )
    resource = _resource(item.SERVICE)
    return (
        ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
        ),
        ExportLogsServiceRequest(
            resource_logs=[
                ResourceLogs(resource=resource, scope_logs=[ScopeLogs(log_records=records)])
            ]
        ),
    )


def _sums(run: str, made: int, began: int) -> ExportMetricsServiceRequest:
    """The items' own counter."""
    return _counters(item.SERVICE, item.ITEMS.name, [({item.RUN: run}, made)], began)


def _series(numbers: Iterable[int], value: int, began: int) -> ExportMetricsServiceRequest:
    return _counters(
        _SERIES, _SERIES, [({"number": str(number)}, value + 1) for number in numbers], began
    )


def _counters(
    service: str, name: str, values: Iterable[tuple[Mapping[str, str], int]], began: int
) -> ExportMetricsServiceRequest:
    now = time.time_ns()
    points = [
        NumberDataPoint(
            start_time_unix_nano=began,
            time_unix_nano=now,
            as_int=value,
            attributes=_pairs(attributes),
        )
        for attributes, value in values
    ]
    counter = Sum(
        data_points=points,
        is_monotonic=True,
        aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
    )
    scope = ScopeMetrics(metrics=[Metric(name=name, sum=counter)])
    group = ResourceMetrics(resource=_resource(service), scope_metrics=[scope])
    return ExportMetricsServiceRequest(resource_metrics=[group])


def _resource(service: str) -> Resource:
    return Resource(attributes=_pairs({SERVICE_NAME: service}))


def _pairs(attributes: Mapping[str, str | int]) -> list[KeyValue]:
    return [
        KeyValue(
            key=key,
            value=AnyValue(int_value=value)
            if isinstance(value, int)
            else AnyValue(string_value=value),
        )
        for key, value in attributes.items()
    ]


def _unwatched(accounts: Accounts) -> Accounts:
    """Nobody looked while they were sent, so how late they were is not known."""
    spans, logs = (
        replace(account, late=0, latest=None) for account in (accounts.spans, accounts.logs)
    )
    return replace(accounts, spans=spans, logs=logs)


def _told(facts: Mapping[str, str]) -> tuple[float, float, float]:
    """Items that were refused, and that were thrown away; and how many series there are."""
    with Backends(facts) as stores:

        def summed(series: Iterable[others.Series]) -> float:
            return sum(
                sample.value
                for one in series
                for sample in stores.prometheus(f"sum({one.prometheus})")
            )

        there = stores.prometheus(f"count(last_over_time({_SERIES}_total[10m]))")
        return summed(_REFUSED), summed(_THROWN_AWAY), sum(sample.value for sample in there)


def _cpu_seconds(stack: NativeStack) -> dict[str, float]:
    return {name: _of(pid)[0] for name, pid in _pids(stack).items()}


def _used(
    stack: NativeStack, before: Mapping[str, float], seconds: float
) -> dict[str, tuple[float, float]]:
    """By part: cores that were busy, and bytes of memory at the end."""
    used = {name: _of(pid) for name, pid in _pids(stack).items()}
    return {
        name: ((cpu - before.get(name, 0.0)) / seconds, memory)
        for name, (cpu, memory) in used.items()
    }


def _pids(stack: NativeStack) -> dict[str, int]:
    return {name: state.pid for name, state in stack.states().items() if state.running}


def _of(pid: int) -> tuple[float, float]:
    process = psutil.Process(pid)
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss


def _table(used: Mapping[str, tuple[float, float]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("part", no_wrap=True)
    for name in ("cores", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (cores, memory) in used.items():
        table.add_row(name, f"{cores:.2f}", f"{memory / MIB:.0f}")
    return table


def _by_code(answers: Mapping[str, int]) -> str:
    codes = ", ".join(f"{times} {code}" for code, times in sorted(answers.items()))
    return f" ({codes})" if codes else ""


if __name__ == "__main__":
    raise SystemExit(main())
