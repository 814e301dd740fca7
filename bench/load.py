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
# Items in a request, and how many requests are under way at most.
_BATCH: Final = 100
_SENDERS: Final = 8
# How often each series has a new value, as with a scrape; and the items' own counter.
_SERIES_SECONDS: Final = 15
_SERIES: Final = "chatscope_load"
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
    console = Terminal()
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--rate", type=float, default=2000, help="of each a second (default 2000)")
    parser.add_argument("--series", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default 60)")
    options = parser.parse_args(arguments)
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

    def __init__(self, sender: otlp.Sender, rate: float, series: int) -> None:
        self.book = RunRecord(token_hex(4))
        self.answers: Counter[str] = Counter()
        self._sender = sender
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
        self._send_sums()

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
            self._send(otlp.spans(item.SERVICE, *(_span(self.book.run, each) for each in numbers)))
            self._send(otlp.lines(item.SERVICE, *(_line(self.book.run, each) for each in numbers)))
            with self._lock:
                self.book.created.update(dict.fromkeys(numbers, now))

    def _send_series(self) -> None:
        """A part of them each second, so that each comes once in its time."""
        for second in count():
            if self._over.wait(max(0.0, self._due(second))):
                return
            self._send_sums()
            some = range(second % _SERIES_SECONDS, self._series, _SERIES_SECONDS)
            points = (self._point(second + 1, {"number": str(each)}) for each in some)
            self._send(otlp.sums(_SERIES, _SERIES, *points))

    def _send_sums(self) -> None:
        """The items' own counter."""
        with self._lock:
            made = len(self.book.created)
        point = self._point(made, {item.RUN: self.book.run})
        self._send(otlp.sums(item.SERVICE, item.ITEMS.name, point))

    def _point(self, value: int, attributes: Mapping[str, str]) -> NumberDataPoint:
        point = otlp.point(value, attributes)
        point.start_time_unix_nano = self._began_ns
        return point

    def _due(self, second: float) -> float:
        return self._began + second - time.monotonic()

    def _send(self, request: otlp.Request) -> None:
        for _ in range(_TRIES):
            try:
                self._sender.send(request)
            except grpc.RpcError as error:
                with self._lock:
                    self.answers[error.code().name] += 1
                time.sleep(_AGAIN_SECONDS)
            else:
                return


@contextmanager
def _load(facts: Mapping[str, str], rate: float, series: int) -> Iterator[_Load]:
    """Inside, it is sent; after it, all of it is acknowledged."""
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
    # As of somebody who called.
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
