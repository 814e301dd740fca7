"""Load test of a separate native stack: spans, log lines and series at a fixed rate.

The requests are built by hand, to leave the machine to the stack: numbered items of the ledger,
each of which is searched afterwards, and counters. Requests that the Collector rejects are sent
again, as a service does. Exit code 0 if nothing was rejected or dropped and each item is stored
once, otherwise 1.
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
from typing import Final

import grpc
import psutil
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from rich.console import Console
from rich.table import Table

from bench.own import STACK_ERRORS, own_stack
from dashboards import others
from ledger import item, otlp
from ledger.__main__ import show
from ledger.account import Accounts, RunRecord
from ledger.backends import reconcile
from stack import facts as stack_facts
from stack.backends import Backends
from stack.native import NativeStack
from stack.progress import Progress
from stack.screen import MIB
from stack.secrets import telemetry_headers
from stack.terminal import Terminal

_DIRECTORY: Final = stack_facts.ROOT / ".chatscope" / "load"
# Items in a request, and maximum number of concurrent requests.
_BATCH: Final = 100
_SENDERS: Final = 8
# Interval of each series's values, like a scrape, and of the items' counter.
_SERIES_SECONDS: Final = 15
_SERIES: Final = "chatscope_load"
_RETRY_SECONDS: Final = 0.25
# After this the Collector counts as down; the ledger reports the missing items.
_ATTEMPTS: Final = 400
# Time for the queues to be delivered.
_PATIENCE_SECONDS: Final = 300.0
# The components' own metrics are scraped every 15 s.
_SCRAPED_SECONDS: Final = 20.0
_TICK_SECONDS: Final = 0.5
_REJECTED: Final = tuple(
    one for hop in others.HOPS for one in (hop.refused, hop.failed, hop.enqueue_failed)
)
_DROPPED: Final = (
    *(hop.send_failed for hop in others.HOPS),
    others.TEMPO_DISCARDED,
    others.LOKI_DISCARDED,
    others.PROMETHEUS_OUT_OF_BOUNDS,
    others.PROMETHEUS_TOO_OLD,
    others.PROMETHEUS_INVALID,
)
# The Collector's log line for a failed attempt that will be repeated.
_RETRY_LINE: Final = "Exporting failed. Will retry"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test and print the result."""
    console = Terminal()
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument(
        "--rate", type=float, default=2000, help="of each per second (default 2000)"
    )
    parser.add_argument("--series", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--seconds", type=float, default=60, help="duration (default 60)")
    options = parser.parse_args(arguments)
    # As by Ctrl-C: stops the stack.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if _measure(console, options.rate, options.series, options.seconds) else 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; its stack is stopped.")
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
            started = time.monotonic()
            while (lasted := time.monotonic() - started) < seconds:
                stack.raise_if_dead()
                progress.tick()
                time.sleep(_TICK_SECONDS)
            used = _used(stack, before, lasted)
        with progress.activity("Looking for each item"):
            accounts = reconcile(
                stack.facts, load.run_record, _PATIENCE_SECONDS, tick=progress.tick
            )
        with progress.activity("Reading rejections from the components' metrics"):
            time.sleep(_SCRAPED_SECONDS)
            rejected, dropped, stored = _metrics(stack.facts)
        retries = (_DIRECTORY / "logs" / "collector.log").read_text().count(_RETRY_LINE)
    show(console, _unwatched(accounts))
    console.print(_table(used))
    console.print(
        f"Sent: {len(load.run_record.created) / lasted:.0f} of each per second,"
        f" {stored:.0f} of {series} series.\n"
        f"Rejected by the Collector and sent again: {load.rejected} requests"
        f"{_by_code(load.codes)}.\n"
        f"In the components' metrics: {rejected:.0f} items rejected, {dropped:.0f} dropped;"
        f" {retries} retries of the Collector."
    )
    return accounts.difference == dropped == load.rejected == 0 and stored == series


class _Load:
    """The load: sends each request until it is acknowledged."""

    def __init__(self, sender: otlp.Sender, rate: float, series: int) -> None:
        self.run_record = RunRecord(token_hex(4))
        self.codes: Counter[str] = Counter()
        self._sender = sender
        self._rate = rate
        self._series = series
        self._lock = threading.Lock()
        self._blocks = count()
        self._started = time.monotonic()
        self._started_ns = time.time_ns()
        self._done = threading.Event()

    @property
    def rejected(self) -> int:
        """Number of attempts that were not acknowledged."""
        return self.codes.total()

    def run(self) -> None:
        """Send until `end`; then finish all requests, and send the final counters."""
        with ThreadPoolExecutor(_SENDERS + 1) as pool:
            senders = [pool.submit(self._send_items) for _ in range(_SENDERS)]
            metrics = pool.submit(self._send_series)
            for done in (*senders, metrics):
                done.result()
        self._send_sums()

    def end(self) -> None:
        self._done.set()

    def _send_items(self) -> None:
        while not self._done.is_set():
            with self._lock:
                block = next(self._blocks)
            if self._done.wait(max(0.0, self._due(block * _BATCH / self._rate))):
                return
            numbers = range(block * _BATCH, (block + 1) * _BATCH)
            now = time.time_ns()
            self._send(
                otlp.spans(item.SERVICE, *(_span(self.run_record.run, each) for each in numbers))
            )
            self._send(
                otlp.lines(item.SERVICE, *(_line(self.run_record.run, each) for each in numbers))
            )
            with self._lock:
                self.run_record.created.update(dict.fromkeys(numbers, now))

    def _send_series(self) -> None:
        """Send a fraction of the series each second, so that each is sent once per interval."""
        for second in count():
            if self._done.wait(max(0.0, self._due(second))):
                return
            self._send_sums()
            some = range(second % _SERIES_SECONDS, self._series, _SERIES_SECONDS)
            points = (self._point(second + 1, {"number": str(each)}) for each in some)
            self._send(otlp.sums(_SERIES, _SERIES, *points))

    def _send_sums(self) -> None:
        """Send the items' own counter."""
        with self._lock:
            created = len(self.run_record.created)
        point = self._point(created, {item.RUN: self.run_record.run})
        self._send(otlp.sums(item.SERVICE, item.ITEMS.name, point))

    def _point(self, value: int, attributes: Mapping[str, str]) -> NumberDataPoint:
        point = otlp.point(value, attributes)
        point.start_time_unix_nano = self._started_ns
        return point

    def _due(self, second: float) -> float:
        return self._started + second - time.monotonic()

    def _send(self, request: otlp.Request) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._sender.send(request)
            except grpc.RpcError as error:
                with self._lock:
                    self.codes[error.code().name] += 1
                time.sleep(_RETRY_SECONDS)
            else:
                return


@contextmanager
def _load(facts: Mapping[str, str], rate: float, series: int) -> Iterator[_Load]:
    """Send inside; at the end everything has been acknowledged."""
    with otlp.sender(facts["OTLP_URL"], telemetry_headers(facts)) as sender:
        load = _Load(sender, rate, series)
        thread = threading.Thread(target=load.run)
        thread.start()
        try:
            yield load
        finally:
            load.end()
            thread.join()


def _span(run: str, number: int) -> Span:
    trace = item.trace_of(number)
    span = otlp.span(
        bytes.fromhex(item.trace_id(run, trace)), item.SPAN_NAME, item.attributes(run, number)
    )
    # With a remote parent.
    rest = Span(
        span_id=_span_id(number),
        parent_span_id=(2**32 + trace).to_bytes(8),
        kind=Span.SPAN_KIND_INTERNAL,
    )
    span.MergeFrom(rest)
    return span


def _line(run: str, number: int) -> LogRecord:
    line = otlp.line(item.body(number), item.attributes(run, number))
    line.trace_id = bytes.fromhex(item.trace_id(run, item.trace_of(number)))
    line.span_id = _span_id(number)
    return line


def _span_id(number: int) -> bytes:
    return (number + 1).to_bytes(8)


def _unwatched(accounts: Accounts) -> Accounts:
    """Remove latencies: without searches during the load they are unknown."""
    spans, logs = (
        replace(account, late=0, latest=None) for account in (accounts.spans, accounts.logs)
    )
    return replace(accounts, spans=spans, logs=logs)


def _metrics(facts: Mapping[str, str]) -> tuple[float, float, float]:
    """Return the numbers of rejected items, of dropped items, and of series."""
    with Backends(facts) as backends:

        def summed(series: Iterable[others.Series]) -> float:
            return sum(
                sample.value
                for one in series
                for sample in backends.prometheus(f"sum({one.prometheus})")
            )

        stored = backends.prometheus(f"count(last_over_time({_SERIES}_total[10m]))")
        return summed(_REJECTED), summed(_DROPPED), sum(sample.value for sample in stored)


def _cpu_seconds(stack: NativeStack) -> dict[str, float]:
    return {name: _of(pid)[0] for name, pid in _pids(stack).items()}


def _used(
    stack: NativeStack, before: Mapping[str, float], seconds: float
) -> dict[str, tuple[float, float]]:
    """Return each component's busy cores, and its bytes of memory at the end."""
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
    table.add_column("component", no_wrap=True)
    for name in ("cores", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (cores, memory) in used.items():
        table.add_row(name, f"{cores:.2f}", f"{memory / MIB:.0f}")
    return table


def _by_code(codes: Mapping[str, int]) -> str:
    texts = ", ".join(f"{times} {code}" for code, times in sorted(codes.items()))
    return f" ({texts})" if texts else ""


if __name__ == "__main__":
    raise SystemExit(main())
