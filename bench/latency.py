"""Time from the end of a response until each signal can be queried, ours and the SDK's defaults.

Runs against the running stack (`make up`). Two services respond in the same run: the stack's own,
with our flush intervals, and one with the SDK's defaults. Prints p50 and p95.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles

import httpx2
from rich.console import Console
from rich.table import Table

from bench.results import Recorder, Row
from chatscope import names
from stack import facts as stack_facts
from stack.backends import Backends
from stack.firstchat import queries, send
from stack.secrets import telemetry_variables
from stack.terminal import Terminal
from stack.waiting import poll_until

# The defaults of the specification and the SDK, in milliseconds.
_SDK_DEFAULTS = {
    "OTEL_BSP_SCHEDULE_DELAY": "5000",
    "OTEL_BLRP_SCHEDULE_DELAY": "1000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}
_PATIENCE_SECONDS = 90.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Service:
    """One measured service, identified by its name in the backends."""

    name: str
    facts: Mapping[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; return 1 if the stack does not respond."""
    console = Terminal()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=40, help="responses of our service")
    parser.add_argument(
        "--sdk-turns", type=int, default=6, help="responses with the SDK's defaults"
    )
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    recorder = Recorder("latency", given)
    facts = stack_facts.load()
    ours = Service("chatscope", facts)
    with _with_sdk_defaults(facts) as theirs, ThreadPoolExecutor(1) as aside:
        slow = aside.submit(_measure, theirs, options.sdk_turns, console)
        fast = _measure(ours, options.turns, console)
        console.print(_table(fast, slow.result()))
    found = {"chatscope": fast, "SDK's defaults": slow.result()}
    recorder.write(
        [
            Row(row=f"{signal}, {rank}", variant=name, value=value, unit="s", spread=0)
            for name, signals in found.items()
            for signal, seconds in signals.items()
            for rank, value in zip(("p50", "p95"), _percentiles(seconds), strict=True)
        ]
    )
    return 0


@contextmanager
def _with_sdk_defaults(facts: Mapping[str, str]) -> Iterator[Service]:
    port = str(int(facts["APP_PORT"]) + 7)
    name = "chatscope-sdk-defaults"
    environment = {
        **os.environ,
        **_SDK_DEFAULTS,
        "PORT": port,
        "OTEL_SERVICE_NAME": name,
        **telemetry_variables(facts),
    }
    url = f"http://{facts['STACK_HOST']}:{port}"
    with subprocess.Popen(
        [sys.executable, "-m", "app"], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            poll_until(
                lambda: httpx2.get(f"{url}/readyz", trust_env=False).is_success,
                "the service with the SDK's defaults",
            )
            yield Service(name, {**facts, "APP_URL": url})
        finally:
            process.terminate()


def _measure(service: Service, turns: int, console: Console) -> dict[str, list[float]]:
    """Return the seconds for each signal, one for each turn."""
    found: dict[str, list[float]] = {"trace": [], "log": [], "metric": []}
    with Backends(service.facts) as backends:
        for number in range(1, turns + 1):
            for signal, seconds in _one_turn(service, backends).items():
                found[signal].append(seconds)
            if number % 10 == 0 or number == turns:
                console.print(f"{service.name}: {number} of {turns}", style="dim")
    return found


def _one_turn(service: Service, backends: Backends) -> dict[str, float]:
    tokens = f'sum({names.LLM_TOKEN_USAGE.prometheus}{{service_name="{service.name}"}})'

    def counted() -> float:
        return sum(sample.value for sample in backends.prometheus(tokens))

    before = counted()
    chat = send(service.facts)
    ended = time.monotonic()
    line = queries(chat.trace_id)["LogQL"].replace("chatscope", service.name, 1)
    checks: dict[str, Callable[[], object]] = {
        "trace": lambda: any(not s.parent for s in backends.tempo_trace(chat.trace_id) or []),
        "log": lambda: backends.loki(line),
        "metric": lambda: counted() > before,
    }
    return _seconds_until(checks, ended)


def _seconds_until(checks: Mapping[str, Callable[[], object]], since: float) -> dict[str, float]:
    """Poll all signals concurrently, so that no signal's wait affects another's figure."""
    seconds: dict[str, float] = {}

    def wait(signal: str, check: Callable[[], object]) -> None:
        poll_until(check, signal, _PATIENCE_SECONDS, _POLL_SECONDS)
        seconds[signal] = time.monotonic() - since

    threads = [threading.Thread(target=wait, args=item) for item in checks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def _table(ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]]) -> Table:
    table = Table(title="Seconds from a response's end until its signal can be queried")
    for column in ("signal", "p50", "p95", "SDK p50", "SDK p95", "SDK p50 / ours"):
        table.add_column(column, justify="left" if column == "signal" else "right")
    for signal in ours:
        p50, p95 = _percentiles(ours[signal])
        sdk_p50, sdk_p95 = _percentiles(theirs[signal])
        row = (f"{p50:.2f}", f"{p95:.2f}", f"{sdk_p50:.2f}", f"{sdk_p95:.2f}")
        table.add_row(signal, *row, f"{sdk_p50 / p50:.0f}x")
    return table


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    cut = quantiles(values, n=20, method="inclusive")
    return cut[9], cut[18]


if __name__ == "__main__":
    raise SystemExit(main())
