"""How the cost of the backends grows with the days that they have stored.

    python -m bench.stored
    python -m bench.stored --days 0 2 --seconds 5

Each day is filled with the same amounts, with times of that day: log records through the Collector,
and blocks of Prometheus by promtool. Then the components are started on it. Of Tempo only the size
of a span on disk is measured: it keeps no spans with times of an earlier day.
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil
from rich.table import Table

from bench.backends import (
    ALL,
    ATTRIBUTES,
    BATCH,
    SIGNALS,
    WARM_UP_SECONDS,
    Load,
    Run,
    loads,
    measure,
    used_cpu,
    warm_up,
)
from bench.configurations import Running, fresh_stack, ours, running
from bench.results import Recorder, Row
from ledger import otlp
from stack.local_http import local_client
from stack.native import NativeStack
from stack.parts import binary_path, missing_binaries
from stack.secrets import operator, telemetry_headers
from stack.terminal import Terminal

# One day less than is kept by default: nothing is deleted meanwhile.
DAYS: Final = (0, 1, 7, 14)
_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3_600
# In each hour.
LINES_IN_HOUR: Final = 1_000
_BLOCK_SECONDS: Final = 10.0
_BLOCK_RATE: Final = 2_000
SPAN_ON_DISK: Final = "tempo, a span on disk"
_SERIES: Final = 400
_SAMPLE_SECONDS: Final = 300
SAMPLES_IN_DAY: Final = _SERIES * _DAY_SECONDS // _SAMPLE_SECONDS
_QUERY_SECONDS: Final = 60.0
_QUERIES: Final = 3
_PATIENCE_SECONDS: Final = 60.0
STORES: Final = ("prometheus", "loki")
# What queries are about.
SPANS: Final = ("the last hour", "all days")
_USUAL: Final = [
    next(load for load in loads() if load.signal == signal and load.rate == _BLOCK_RATE)
    for signal in SIGNALS
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.stored", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--days", type=int, nargs="+", default=list(DAYS))
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load (default 15)")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    wanted = [*missing_binaries(with_tests=False), *missing_binaries(only="promtool")]
    if unbuilt := [binary.name for binary in wanted]:
        parser.error(f"not built: {', '.join(unbuilt)} (make build)")
    console, recorder = Terminal(), Recorder("stored", given)
    rows: list[Row] = []
    with fresh_stack() as stack:
        size = _span_bytes(stack)
        rows.append(Row.of(SPAN_ON_DISK, name_of(0), [size], "bytes"))
    with fresh_stack() as stack:
        stored = 0
        for days in sorted(options.days):
            console.print(f"{days} days: filling")
            _fill(stack, stored, days)
            stored = days
            console.print(f"{days} days: measuring")
            rows += _measured(stack, days, options.seconds)
    console.print(_table(rows))
    recorder.write(rows)
    return 0


def name_of(days: int) -> str:
    """Return the name of a variant in the results."""
    return "1 day" if days == 1 else f"{days} days"


def _measured(stack: NativeStack, days: int, seconds: float) -> Iterator[Row]:
    variant = name_of(days)
    with running(stack, ours(stack)) as components:
        for name in STORES:
            started = components[name].seconds
            yield Row.of(f"{name}, start", variant, [started], "s")
        headers = telemetry_headers(stack.facts)
        with otlp.sender(stack.facts["OTLP_URL"], headers) as sender:
            warm_up(sender, _USUAL)
            with used_cpu(components) as used:
                time.sleep(2 * WARM_UP_SECONDS)
            idle = {name: cpu / (2 * WARM_UP_SECONDS) for name, cpu in used.items()}
            for name in STORES:
                yield Row.of(f"{name}, idle CPU", variant, [idle[name] * 1e3], "ms per s")
            for load in _USUAL:
                cost = measure(sender, load, components, idle, seconds)
                yield Row.of(f"{load.signal}, CPU", variant, [cost.cpu[ALL]], "ms per 1,000")
        for name in STORES:
            yield Row.of(f"{name}, memory", variant, [_memory(components[name])], "MB")
            size = _size(Path(stack.facts["DATA_DIR"]) / name)
            yield Row.of(f"{name}, disk", variant, [size / 1e6], "MB")
        _check(stack, days)
        yield from _queries(stack, days, variant)


def _check(stack: NativeStack, days: int) -> None:
    """Raise RuntimeError unless each backend has something of the oldest day."""
    if days == 0:
        return
    end = time.time() - days * _DAY_SECONDS
    times = {"start": end - _DAY_SECONDS // 4, "end": end + _DAY_SECONDS // 4}
    user = str(ATTRIBUTES["user.id"])
    with local_client(timeout=_QUERY_SECONDS) as client:
        client.auth = operator(stack.facts)
        for name, (url, parameters) in _asked(stack, times, user).items():
            found = client.get(url, params=parameters).raise_for_status().json()
            if not found["data"]["result"]:
                raise RuntimeError(f"{name} has nothing of day {days}: {str(found)[:200]}")


def _queries(stack: NativeStack, days: int, variant: str) -> Iterator[Row]:
    """Yield the time of a query about the last hour, and of one about everything."""
    now = time.time()
    with local_client(timeout=_QUERY_SECONDS) as client:
        client.auth = operator(stack.facts)
        for span, length in zip(SPANS, (_HOUR_SECONDS, days * _DAY_SECONDS), strict=True):
            times = {"start": now - max(length, _HOUR_SECONDS), "end": now}
            for name, (url, parameters) in _asked(stack, times, "none").items():
                seconds = [_seconds(client, url, parameters) for _ in range(_QUERIES)]
                yield Row.of(f"{name}, query of {span}", variant, seconds, "s")


def _asked(
    stack: NativeStack, times: Mapping[str, float], user: str
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return a query of each backend: its URL and parameters."""
    facts = stack.facts
    return {
        "prometheus": (
            f"{facts['PROMETHEUS_URL']}/api/v1/query_range",
            {
                **times,
                "query": "sum(rate(stored_total[15m]))",
                "step": max(60.0, (times["end"] - times["start"]) / 500),
            },
        ),
        "loki": (
            f"{facts['LOKI_URL']}/loki/api/v1/query_range",
            {
                **{name: int(value * 1e9) for name, value in times.items()},
                "query": f'sum(count_over_time({{service_name=~".+"}} | user_id="{user}" [1h]))',
                "step": _HOUR_SECONDS,
            },
        ),
    }


def _seconds(client: httpx2.Client, url: str, parameters: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    client.get(url, params=parameters).raise_for_status()
    return time.perf_counter() - began


def _fill(stack: NativeStack, stored: int, days: int) -> None:
    """Add days before those that are stored."""
    if days == stored:
        return
    data = Path(stack.facts["DATA_DIR"])
    _fill_prometheus(data / "prometheus", stored, days)
    with running(stack, ours(stack)):
        headers = telemetry_headers(stack.facts)
        with otlp.sender(stack.facts["OTLP_URL"], headers) as sender:
            for day in range(stored, days):
                _fill_loki(sender, day)
        _flush(stack, "loki", "POST")


def _span_bytes(stack: NativeStack) -> float:
    """Return what a span takes in a block of Tempo, in bytes."""
    with running(stack, ours(stack)):
        headers = telemetry_headers(stack.facts)
        with otlp.sender(stack.facts["OTLP_URL"], headers) as sender:
            run = Run(sender, Load("spans", _BLOCK_RATE, 20))
            run.send(_BLOCK_SECONDS)
        _flush(stack, "tempo", "GET")
        return _block(Path(stack.facts["DATA_DIR"]) / "tempo" / "blocks") / run.accepted


def _fill_prometheus(directory: Path, stored: int, days: int) -> None:
    now = int(time.time()) // _SAMPLE_SECONDS * _SAMPLE_SECONDS
    # The newest hours are left out: Prometheus keeps them in memory.
    newest = now - stored * _DAY_SECONDS - 4 * _HOUR_SECONDS
    times = range(newest - (days - stored) * _DAY_SECONDS, newest, _SAMPLE_SECONDS)
    file = directory.parent / "stored.openmetrics"
    with file.open("w") as text:
        text.write("# TYPE stored counter\n")
        for series in range(_SERIES):
            text.writelines(f'stored_total{{series="{series}"}} {at} {at}\n' for at in times)
        text.write("# EOF\n")
    directory.mkdir(parents=True, exist_ok=True)
    command = [str(binary_path("promtool")), "tsdb", "create-blocks-from", "openmetrics"]
    command += ["--quiet", "--max-block-duration=24h", str(file), str(directory)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    file.unlink()


def _fill_loki(sender: otlp.Sender, day: int) -> None:
    """Send the log records of a day, in a stream of its own: an older one would be refused."""
    for hour, begin in itertools.product(range(23, -1, -1), range(0, LINES_IN_HOUR, BATCH)):
        age = (day + 0.5) * _DAY_SECONDS + hour * _HOUR_SECONDS
        lines = (
            otlp.line("answer completed", ATTRIBUTES, ahead=begin + number - age)
            for number in range(BATCH)
        )
        sender.send(otlp.lines(f"stored-{day}", *lines))


def _flush(stack: NativeStack, name: str, method: str) -> None:
    """Have a backend write to its final place what it has in memory."""
    port = stack.facts[f"{name.upper()}_PORT"]
    socket = Path(stack.facts["SOCKETS_DIR"]) / f"{name}.sock:{port}"
    transport = httpx2.HTTPTransport(uds=str(socket))
    with httpx2.Client(transport=transport, timeout=_PATIENCE_SECONDS) as client:
        client.request(method, "http://localhost/flush").raise_for_status()


def _block(directory: Path) -> int:
    """Return the size of the largest block that Tempo has written, in bytes."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not list(directory.glob("*/*/meta.json")):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Tempo has written no block to {directory}")
        time.sleep(1.0)
    time.sleep(WARM_UP_SECONDS)  # until it writes no more
    return max(_size(meta.parent) for meta in directory.glob("*/*/meta.json"))


def _memory(component: Running) -> float:
    """Return the resident memory in MB."""
    return float(psutil.Process(component.pid).memory_info().rss) / 1e6


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _table(rows: Sequence[Row]) -> Table:
    variants = list(dict.fromkeys(row.variant for row in rows))
    table = Table("", "", *variants, title="Cost by days stored", box=None)
    for figure, unit in dict.fromkeys((row.row, row.unit) for row in rows):
        values = {row.variant: f"{row.value:,.2f}" for row in rows if row.row == figure}
        table.add_row(figure, unit, *(values.get(variant, "") for variant in variants))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
