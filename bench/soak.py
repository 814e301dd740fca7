"""Soak test: an hour of simulated users in ten minutes, with a steady load of numbered items.

Runs a separate native stack. At the end each process's memory, open files and threads, and the
app's tasks, must be as in the second fifth of the time, within the bounds below, and each numbered
item must be stored once. Memory excludes file pages, which the kernel can reclaim. Exit code 0 if
all of that holds, otherwise 1.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import httpx2
import psutil
from rich.console import Console
from rich.table import Table

from bench.flatness import PARTS, Bound, Trend, trend
from bench.own import STACK_ERRORS, own_stack
from chatscope import names
from ledger.__main__ import show
from ledger.backends import reconcile
from ledger.load import Load, LoadError, steady_load
from stack import facts as stack_facts
from stack.backends import Backends
from stack.native import NativeStack
from stack.progress import Progress, elapsed
from stack.screen import MIB
from stack.secrets import telemetry_variables
from stack.terminal import Terminal

_DIRECTORY: Final = stack_facts.ROOT / ".chatscope" / "soak"
_SAMPLES: Final = _DIRECTORY / "samples.csv"
_SAMPLE_SECONDS: Final = 2.0
_SAY_SECONDS: Final = 60.0
_HOUR_SECONDS: Final = 3600.0
# The maximum that the demo accepts.
_FASTEST_PACE: Final = 100.0
# The demo needs a second or two for its summary after SIGTERM.
_DEMO_ENDS_SECONDS: Final = 30.0
_MEMORY, _FILES, _THREADS, _TASKS = "MiB", "files", "threads", "tasks"
# Wider than the fluctuation by garbage collection from one minute to the next.
_BOUNDS: Final[Mapping[str, Bound]] = {
    _MEMORY: Bound(0.1, 16),
    _FILES: Bound(0.1, 16),
    _THREADS: Bound(0.1, 8),
    # Tasks of the simulated users vary with their requests.
    _TASKS: Bound(0.1, 16),
}
# Data since the last written chunk or block is in memory, with its pools.
_BACKENDS: Final = frozenset({"prometheus", "loki", "tempo"})
_MEMORY_OF_BACKENDS: Final = Bound(0.25, 64)
_APP: Final = "app"
_LEDGER: Final = "ledger's source"
# By process and quantity: (seconds, value) pairs.
Series = dict[tuple[str, str], list[tuple[float, float]]]


class SoakError(RuntimeError):
    """The test cannot be run; the text contains the reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test and print the result."""
    console = Terminal()
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="duration (default 10)")
    parser.add_argument("--rate", type=float, default=100.0, help="items per second (default 100)")
    options = parser.parse_args(arguments)
    # As by Ctrl-C: stops the stack.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        succeeded = _soak(console, options.minutes * 60, options.rate)
    except KeyboardInterrupt:
        console.print("\nInterrupted; its stack is stopped.")
        return 130
    except (SoakError, LoadError, *STACK_ERRORS) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    if not succeeded:
        console.print(f"All samples: {_SAMPLES}", soft_wrap=True)
        console.print(f"Logs of the components: {_DIRECTORY / 'logs'}", soft_wrap=True)
    return 0 if succeeded else 1


def _soak(console: Console, seconds: float, rate: float) -> bool:
    progress = Progress(console)
    with own_stack(_DIRECTORY, progress) as stack:
        pace = min(max(1.0, _HOUR_SECONDS / seconds), _FASTEST_PACE)
        console.print(
            f"{elapsed(seconds)} of simulated users with {pace:.1f} times shorter pauses than real"
            f" ones, and {rate:g} numbered spans, log lines and increments per second."
        )
        with (
            steady_load(stack.facts, rate=rate) as load,
            _users(stack.facts, pace, seconds),
            progress.activity("Soaking"),
        ):
            series = _sampled(console, stack, load, seconds)
        _keep(series)
        with progress.activity("Looking for each item"):
            accounts = reconcile(stack.facts, load, tick=progress.tick)
    trends = {key: trend(samples, _bound(*key)) for key, samples in series.items()}
    _show(console, trends, series)
    show(console, accounts)
    return accounts.difference == 0 and all(found.is_flat for found in trends.values())


def _bound(name: str, what: str) -> Bound:
    return _MEMORY_OF_BACKENDS if what == _MEMORY and name in _BACKENDS else _BOUNDS[what]


@contextmanager
def _users(facts: Mapping[str, str], pace: float, seconds: float) -> Iterator[None]:
    """Run simulated users inside. Raises SoakError if they got no response."""
    environ = {
        **os.environ,
        "CHATSCOPE_URL": facts["APP_URL"],
        **telemetry_variables(facts, "OTLP_HTTP_URL"),
        "DEMO_PACE": f"{pace:.2f}",
        "DEMO_QUESTIONS": "1000000",
        "DEMO_SECONDS": f"{2 * seconds:.0f}",
        "PYTHONUNBUFFERED": "1",
    }
    log_file = _DIRECTORY / "logs" / "users.log"
    with log_file.open("w") as log:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=stack_facts.ROOT,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            yield
        finally:
            demo.terminate()
            with suppress(subprocess.TimeoutExpired):
                demo.wait(_DEMO_ENDS_SECONDS)
            demo.kill()
            demo.wait()
    if demo.returncode:
        raise SoakError(f"The simulated users got no response:\n{log_file.read_text()[-2000:]}")


def _sampled(console: Console, stack: NativeStack, load: Load, seconds: float) -> Series:
    series: Series = defaultdict(list)
    started = reported = time.monotonic()
    with Backends(stack.facts) as backends:
        while (now := time.monotonic()) - started < seconds:
            stack.raise_if_dead()
            pids = {name: state.pid for name, state in stack.states().items() if state.running}
            pids[_LEDGER] = load.pid
            for name, pid in pids.items():
                for what, value in _of_process(pid).items():
                    series[name, what].append((now - started, value))
            with suppress(httpx2.HTTPError):
                series[_APP, _TASKS].append((now - started, _tasks(backends)))
            if now - reported >= _SAY_SECONDS:
                reported = now
                _report(console, now - started, series)
            time.sleep(_SAMPLE_SECONDS)
    return series


def _keep(series: Series) -> None:
    """Write all samples to a file, to plot quantities that are not flat."""
    with _SAMPLES.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("process", "what", "seconds", "value"))
        for key, samples in series.items():
            rows.writerows((*key, f"{when:.1f}", f"{value:.2f}") for when, value in samples)


def _of_process(pid: int) -> dict[str, float]:
    """Return the sums of a process and its children; none if it has exited."""
    sums: dict[str, float] = defaultdict(float)
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            memory = one.memory_info()
            # Only Linux reports the file pages.
            sums[_MEMORY] += (memory.rss - getattr(memory, "shared", 0)) / MIB
            sums[_FILES] += one.num_fds()
            sums[_THREADS] += one.num_threads()
    return sums


def _tasks(backends: Backends) -> float:
    service = names.EVENT_LOOP_TASKS.prometheus
    return sum(sample.value for sample in backends.prometheus(f"sum({service})"))


def _report(console: Console, seconds: float, series: Series) -> None:
    last = [f"{name} {of[-1][1]:.0f}" for (name, what), of in series.items() if what == _MEMORY]
    console.print(f"{elapsed(seconds)}, MiB: {', '.join(last)}", style="dim")


def _show(console: Console, trends: Mapping[tuple[str, str], Trend], series: Series) -> None:
    """Print a row for each process, and a line for each quantity that is not flat."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(f"fifth 2 → {PARTS}", no_wrap=True)
    for title in (_MEMORY, "MiB/hour", "peak MiB", _FILES, _THREADS, _TASKS):
        table.add_column(title, justify="right", no_wrap=True)
    for name in dict.fromkeys(name for name, _ in trends):
        memory = trends[name, _MEMORY]
        cells = [_cell(trends.get((name, what))) for what in (_MEMORY, _FILES, _THREADS, _TASKS)]
        peak = max(value for _, value in series[name, _MEMORY])
        table.add_row(name, cells[0], f"{memory.hourly:+.0f}", f"{peak:.0f}", *cells[1:])
    console.print(table)
    for (name, what), found in trends.items():
        if not found.is_flat:
            grown = found.after - found.before
            console.print(f"Not flat: {name}, {grown:.0f} {what} more; limit {found.bound:.0f}")


def _cell(found: Trend | None) -> str:
    if found is None:
        return ""
    style = "green" if found.is_flat else "red"
    return f"[{style}]{found.before:.0f} → {found.after:.0f}[/]"


if __name__ == "__main__":
    raise SystemExit(main())
