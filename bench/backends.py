"""CPU of the Collector and the backends for each 1,000 spans, log records and samples.

    python -m bench.backends
    python -m bench.backends --seconds 10 --only samples

Each signal is sent alone, at several rates, with more series, streams or span names, and as fast
as one sender can. CPU of an idle component is subtracted. Blocks and chunks are written to their
final place minutes later, which is not included. Our configuration is compared with that of
otel-lgtm (bench/configurations.py), which has no passwords, keeps nothing on disk before it is
sent, and acknowledges spans before they are stored.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

import grpc
import psutil
from rich.table import Table

from bench.configurations import Configuration, Running, fresh_stack, lgtm, ours, running
from bench.results import Recorder, Row
from chatscope import names
from ledger import otlp
from stack.native import NativeStack
from stack.parts import missing_binaries
from stack.secrets import telemetry_headers
from stack.terminal import Terminal

BATCH: Final = 200
_SENDERS: Final = 4
WARM_UP_SECONDS: Final = 10.0
# After the last item: the queues of the Collector are empty.
_DRAIN_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.1
_RATES: Final = (500, 2_000, 8_000)
USUAL_RATE: Final = 2_000
# Distinct span names, streams or series: of one service, and of a fleet.
_DISTINCT: Final[Mapping[str, tuple[int, int]]] = {
    "spans": (20, 400),
    "log records": (20, 400),
    "samples": (4_000, 40_000),
}
_KINDS: Final = {"spans": "names", "log records": "streams", "samples": "series"}
ATTRIBUTES: Final[Mapping[str, str | int]] = {
    names.GEN_AI_OPERATION_NAME: "chat",
    names.GEN_AI_PROVIDER_NAME: "openai",
    names.GEN_AI_REQUEST_MODEL: "gpt-4.1",
    names.GEN_AI_RESPONSE_MODEL: "gpt-4.1-2025-04-14",
    names.GEN_AI_RESPONSE_ID: "chatcmpl-0123456789",
    names.GEN_AI_USAGE_INPUT_TOKENS: 512,
    names.GEN_AI_USAGE_OUTPUT_TOKENS: 128,
    "http.request.method": "POST",
    "http.route": "/v1/chat/completions",
    "http.response.status_code": 200,
    "server.address": "api.example.com",
    "user.id": "0123456789abcdef",
}
OURS: Final = "chatscope"
LGTM: Final = "otel-lgtm"
ALL: Final = "together"
SIGNALS: Final = tuple(_DISTINCT)
# The others do nothing for a signal, but may be writing what was sent before it.
INVOLVED: Final[Mapping[str, tuple[str, ...]]] = {
    "spans": ("collector", "tempo", "prometheus"),
    "log records": ("collector", "loki"),
    "samples": ("collector", "prometheus"),
}
_CONFIGURATIONS: Final[Mapping[str, Callable[[NativeStack], Configuration]]] = {
    OURS: ours,
    LGTM: lgtm,
}


@dataclass(frozen=True)
class Load:
    """One signal at a rate in items a second; None: as fast as possible."""

    signal: str
    rate: int | None
    distinct: int

    @property
    def speed(self) -> str:
        """The rate, and what is distinct if it is more than usual."""
        many = f", {self.distinct:,} {_KINDS[self.signal]}"
        speed = "full speed" if self.rate is None else f"{self.rate:,}/s"
        return speed if self.is_usual else speed + many

    @property
    def is_usual(self) -> bool:
        """Whether no more is distinct than usual."""
        return self.distinct == _DISTINCT[self.signal][0]

    @property
    def name(self) -> str:
        """As in the results."""
        return f"{self.signal}, {self.speed}"

    @property
    def accepted_name(self) -> str:
        """The name of the figure of the highest rate."""
        return f"{self.name}, accepted"


@dataclass(frozen=True)
class Cost:
    """CPU in ms for each 1,000 items, by component; accepted items a second; rejected requests."""

    cpu: Mapping[str, float]
    accepted: float
    rejected: int


def loads() -> list[Load]:
    """Return what is measured, in this order."""
    return [
        Load(signal, rate, distinct)
        for signal, (few, many) in _DISTINCT.items()
        for rate, distinct in (*((rate, few) for rate in _RATES), (USUAL_RATE, many), (None, few))
    ]


def example(signal: str) -> float:
    """Return the bytes of one item in a request of OTLP."""
    [load] = [each for each in loads() if each.signal == signal and each.rate is None]
    return float(_request(load, 0).ByteSize()) / BATCH


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.backends", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default 20)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="loads whose name contains this")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    if unbuilt := [binary.name for binary in missing_binaries(with_tests=False)]:
        parser.error(f"not built: {', '.join(unbuilt)} (make build)")
    console, recorder = Terminal(), Recorder("backends", given)
    chosen = [load for load in loads() if options.only in load.name]
    costs: dict[tuple[str, Load], list[Cost]] = {}
    for number in range(1, options.rounds + 1):
        for name, make in _CONFIGURATIONS.items():
            console.print(f"round {number} of {options.rounds}: {name}")
            for load, cost in _round(make, chosen, options.seconds):
                costs.setdefault((name, load), []).append(cost)
    for signal in dict.fromkeys(load.signal for load in chosen):
        console.print(_table(signal, costs))
    if not options.only:
        recorder.write(list(_rows(costs)), options.rounds)
    return 0


def _rows(costs: Mapping[tuple[str, Load], Sequence[Cost]]) -> Iterator[Row]:
    for (name, load), found in costs.items():
        for component in found[0].cpu:
            values = [cost.cpu[component] for cost in found]
            yield Row.of(load.name, f"{name}, {component}", values, "ms per 1,000")
        if load.rate is None:
            accepted = [cost.accepted for cost in found]
            yield Row.of(load.accepted_name, f"{name}, {ALL}", accepted, "per second")


def _round(
    make: Callable[[NativeStack], Configuration], chosen: Sequence[Load], seconds: float
) -> Iterator[tuple[Load, Cost]]:
    with fresh_stack() as stack, running(stack, make(stack)) as components:
        headers = telemetry_headers(stack.facts)
        with otlp.sender(stack.facts["OTLP_URL"], headers) as sender:
            warm_up(sender, chosen)
            with used_cpu(components) as idle:
                time.sleep(WARM_UP_SECONDS)
            rates = {name: cpu / WARM_UP_SECONDS for name, cpu in idle.items()}
            for load in chosen:
                yield load, measure(sender, load, components, rates, seconds)


def warm_up(sender: otlp.Sender, chosen: Sequence[Load]) -> None:
    """Send some of each load: a component does some things only once."""
    for load in chosen:
        Run(sender, Load(load.signal, _RATES[0], load.distinct)).send(1.0)
    time.sleep(WARM_UP_SECONDS)


def measure(
    sender: otlp.Sender,
    load: Load,
    components: Mapping[str, Running],
    idle: Mapping[str, float],
    seconds: float,
    involved: Sequence[str] = (),
) -> Cost:
    """Send a load; return its cost beyond `idle`, the CPU seconds in each second without one.

    `involved`: the components that work for this signal, by default those of one machine.
    """
    run = Run(sender, load)
    began = time.perf_counter()
    with used_cpu(components) as used:
        run.send(seconds)
        sent_for = time.perf_counter() - began
        time.sleep(_DRAIN_SECONDS)
    lasted = time.perf_counter() - began
    names = involved or INVOLVED[load.signal]
    busy = {name: max(0.0, used[name] - idle[name] * lasted) for name in names}
    cpu = {name: cpu * 1e3 / max(1.0, run.accepted / 1e3) for name, cpu in busy.items()}
    cpu[ALL] = sum(cpu.values())
    return Cost(cpu, run.accepted / sent_for, run.rejected)


@contextmanager
def used_cpu(components: Mapping[str, Running]) -> Iterator[dict[str, float]]:
    """Yield a dictionary that has each component's CPU seconds afterwards."""
    used: dict[str, float] = {}
    before = {name: _cpu(each.pid) for name, each in components.items()}
    yield used
    used |= {name: _cpu(each.pid) - before[name] for name, each in components.items()}


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Run:
    """One load, sent by a few threads; a rejected request is sent again."""

    def __init__(self, sender: otlp.Sender, load: Load) -> None:
        self.accepted = 0
        self.rejected = 0
        self._sender = sender
        self._load = load
        self._lock = threading.Lock()
        self._blocks = count()

    def send(self, seconds: float) -> None:
        """Return after so many seconds, when all requests that were begun have ended."""
        started = time.monotonic()
        with ThreadPoolExecutor(_SENDERS) as pool:
            for done in [
                pool.submit(self._send_blocks, started, started + seconds) for _ in range(_SENDERS)
            ]:
                done.result()

    def _send_blocks(self, started: float, until: float) -> None:
        while True:
            with self._lock:
                block = next(self._blocks)
            due = started + block * BATCH / self._load.rate if self._load.rate else 0.0
            if max(due, time.monotonic()) >= until:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            request = _request(self._load, block)
            while not self._is_accepted(request):
                time.sleep(_RETRY_SECONDS)

    def _is_accepted(self, request: otlp.Request) -> bool:
        try:
            self._sender.send(request)
        except grpc.RpcError:
            with self._lock:
                self.rejected += 1
            return False
        with self._lock:
            self.accepted += BATCH
        return True


def _request(load: Load, block: int) -> otlp.Request:
    numbers = [(block * BATCH + each) % load.distinct for each in range(BATCH)]
    service = "chatscope-bench"
    match load.signal:
        case "spans":
            spans = (otlp.span(os.urandom(16), f"chat {n}", ATTRIBUTES) for n in numbers)
            return otlp.spans(service, *spans)
        case "log records":
            # A stream is a service.
            lines = (otlp.line("answer completed", ATTRIBUTES) for _ in numbers)
            return otlp.lines(f"{service}-{block % load.distinct}", *lines)
        case _:
            points = (otlp.point(block, {"series": str(number)}) for number in numbers)
            return otlp.sums(service, "bench.samples", *points)


def _table(signal: str, costs: Mapping[tuple[str, Load], Sequence[Cost]]) -> Table:
    components = (*INVOLVED[signal], ALL)
    table = Table(
        signal, "", *components, "accepted/s", title="CPU, ms for each 1,000 items", box=None
    )
    for (name, load), found in costs.items():
        if load.signal == signal:
            cost = found[-1]
            cpu = (f"{cost.cpu[component]:.1f}" for component in components)
            rejected = f", {cost.rejected} rejected" if cost.rejected else ""
            table.add_row(load.speed, name, *cpu, f"{cost.accepted:,.0f}{rejected}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
