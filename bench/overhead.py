"""CPU that telemetry adds to a request and to a streamed chunk, for several instrumentations.

    python -m bench.overhead

Each variant serves the same requests, by raw ASGI calls, in a fresh process and an environment of
its own (bench/competitors), alternately, and exports to a receiver in this process. `total` is the
CPU of all threads, exports included; `on the loop` is that of the event loop's thread, which delays
requests. Figures are medians of the differences to `bare` in the same round. No variant writes to a
console. For each JSON request:

- bare: no telemetry and no log record.
- chatscope: one server span, the HTTP metrics, and one record of loguru, exported as OTLP. Its
  cost includes that of loguru; loguru's default sink, which prints, is removed.
- chatscope, stock HTTP: the same, with the spans and metrics of opentelemetry-instrumentation-asgi.
- stock: opentelemetry-instrumentation-asgi with all its spans and metrics, and one record of the
  standard library, exported by the SDK's LoggingHandler and batch processors.
- stock for Starlette: the same with opentelemetry-instrumentation-starlette.
- prometheus, loguru: a counter, a histogram and a gauge of prometheus_client, and one record of
  loguru that is formatted and discarded; nothing is exported.
- logfire: its Starlette instrumentation and one of its log calls, exported as spans over HTTP.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

from rich.table import Table

from bench.competitors import environments
from bench.competitors.environments import UnavailableError
from bench.competitors.request_service import VARIANTS, Endpoints, Figures
from bench.otlp import receiver
from bench.otlp_steps import http_receiver
from bench.results import Recorder, Row
from stack.facts import ROOT
from stack.progress import Progress
from stack.terminal import Terminal

BARE: Final = "bare"
REQUEST: Final = "added to a JSON request"
LOOP: Final = "added on the event loop"
CHUNK: Final = "added to a streamed chunk"
OF_STOCK: Final = "added to a JSON request, of stock"
_TARGET: Final = 1 / 6
_CHUNK_TARGET: Final = 0.5  # us
_ROUND_SECONDS: Final = 600
# The environment of each competitor.
_ENVIRONMENTS: Final = {
    "stock": "asgi",
    "stock for Starlette": "starlette",
    "prometheus, loguru": "prometheus",
    "logfire": "logfire",
}
# Telemetry of a JSON request in each variant.
_PARTS: Final = {
    BARE: "no telemetry, no log record",
    "chatscope": "1 span, HTTP metrics, 1 loguru record; OTLP; no console",
    "chatscope, stock HTTP": "all stock spans, HTTP metrics, 1 loguru record; OTLP; no console",
    "stock": "all stock spans, HTTP metrics, 1 logging record; OTLP; no console",
    "stock for Starlette": "the same, with the instrumentation of Starlette",
    "prometheus, loguru": "metrics, 1 formatted loguru record; no export; no console",
    "logfire": "spans, HTTP metrics, 1 log as span; OTLP; no console",
}
_NOT_EXPORTED: Final = (BARE, "prometheus, loguru")

# The figures of all rounds by variant.
Found = Mapping[str, Sequence[Figures]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write the result."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m bench.overhead", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1500)
    options = parser.parse_args(given)
    recorder, console = Recorder("overhead", given), Terminal()
    found, missing = _rounds(options.rounds, options.requests, Progress(console))
    recorder.write(rows(found), options.rounds, missing)
    console.print(_verdict(found))
    console.print(_table(found))
    console.print("\n".join(f"{name}: {parts}" for name, parts in _PARTS.items()))
    for name, reason in missing.items():
        console.print(f"{name}: not measured: {reason}", markup=False)
    return 0


def _rounds(
    rounds: int, requests: int, progress: Progress
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    found: dict[str, list[Figures]] = {name: [] for name in VARIANTS}
    missing: dict[str, str] = {}
    exports = count()
    server, grpc = receiver(lambda: next(exports))
    with http_receiver(lambda: next(exports)) as http:
        for number in range(rounds):
            progress.say(f"Round {number + 1} of {rounds}")
            for name, figures in found.items():
                before = next(exports)
                try:
                    python = _python(name, progress)
                except UnavailableError as error:
                    missing[name] = str(error)
                    continue
                with progress.activity(name):
                    figures.append(_measure(name, python, Endpoints(grpc, http), requests))
                if name not in _NOT_EXPORTED and next(exports) == before + 1:
                    raise RuntimeError(f"{name} exported nothing")
    server.stop(0)
    return found, missing


def _python(variant: str, progress: Progress) -> Path:
    name = _ENVIRONMENTS.get(variant)
    return Path(sys.executable) if name is None else environments.python(name, progress)


def _measure(variant: str, python: Path, endpoints: Endpoints, requests: int) -> Figures:
    options = ("--grpc", endpoints.grpc, "--http", endpoints.http, "--requests", str(requests))
    done = subprocess.run(
        [str(python), "-m", "bench.competitors.request_service", variant, *options],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=_ROUND_SECONDS,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{variant}: {done.stderr}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def _differences(found: Found, name: str) -> list[Figures]:
    """Return what a variant adds to `bare`, in each round."""
    return [
        Figures(each.total - bare.total, each.loop - bare.loop, each.chunk - bare.chunk)
        for each, bare in zip(found[name], found[BARE], strict=False)
    ]


def _added(found: Found, name: str) -> Figures | None:
    """Return the median differences to `bare`; None if the variant was not measured."""
    differences = _differences(found, name)
    if not differences:
        return None
    return Figures(
        median(each.total for each in differences),
        median(each.loop for each in differences),
        median(each.chunk for each in differences),
    )


def rows(found: Found) -> list[Row]:
    """Return what each variant adds, also as a share of stock in the same round."""
    made = []
    stock = _differences(found, "stock")
    for name in found:
        differences = _differences(found, name)
        if name == BARE or not differences:
            continue
        made += [
            Row.of(REQUEST, name, [each.total for each in differences], "µs"),
            Row.of(LOOP, name, [each.loop for each in differences], "µs"),
            Row.of(CHUNK, name, [each.chunk for each in differences], "µs"),
        ]
        if len(stock) == len(differences):
            pairs = zip(differences, stock, strict=True)
            made.append(Row.of(OF_STOCK, name, [a.total / b.total for a, b in pairs], ""))
    return made


def _verdict(found: Found) -> str:
    ours, stock = _added(found, "chatscope"), _added(found, "stock")
    if ours is None or stock is None:
        return "nothing measured"
    return (
        f"Added to a JSON request: {ours.total / stock.total:.2f} of stock in total "
        f"(target {_TARGET:.2f}), {ours.loop / stock.loop:.2f} on the loop.\n"
        f"Added to a chunk: {ours.chunk:.2f} us (target {_CHUNK_TARGET})."
    )


def _table(found: Found) -> Table:
    table = Table(title="CPU added, in microseconds")
    for column in ("variant", "of stock", "request, total", "on the loop", "chunk"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    stock = _added(found, "stock")
    for name in found:
        added = _added(found, name)
        if added is None:
            table.add_row(name, "not measured", "", "", "")
        elif name == BARE:
            own = [median(getattr(each, key) for each in found[name]) for key in asdict(added)]
            table.add_row("bare, total", "", *[f"{value:.2f}" for value in own])
        else:
            share = f"{added.total / stock.total:.2f}" if stock else ""
            rest = (f"{added.total:.1f}", f"{added.loop:.1f}", f"{added.chunk:.2f}")
            table.add_row(name, share, *rest)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
