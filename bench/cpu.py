"""CPU of a response through the service, with telemetry and without, beside other gateways.

    python -m bench.cpu

Each variant is a process of its own, started anew in each round, in turns, and is asked over one
connection. Figures are the CPU time of the process with all its threads, medians of the rounds.
All have one worker and one provider; LiteLLM alone checks the API key, because it does not start
without one:

- chatscope: `python -m app`, all three signals exported over OTLP/gRPC to a receiver that accepts
  everything, one log line for each response on the console.
- chatscope, telemetry off: the same with `OTEL_SDK_DISABLED=true`.
- Starlette, openai: what one writes by hand (bench/competitors/openai_gateway.py); no telemetry, no
  limits, no log line. With chatscope or OpenLLMetry, calls of the official client are recorded,
  and exported the same way; requests are not.
- LiteLLM: its proxy, set up as its documentation advises for production; no telemetry. With
  OpenTelemetry, its callback `otel` exports spans and metrics the same way.

Simulated responses have 60 tokens, and come from the service's simulated model, which the others
lack; relayed ones of 60 tokens, and chunks of streams of 1,000, from a provider that sends them as
fast as it can (bench/provider.py).
"""

import argparse
import http.client
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Final

from rich.table import Table

from bench.competitors.environments import UnavailableError
from bench.gateways import (
    CHATSCOPE,
    CHATSCOPE_OFF,
    CLIENT,
    CLIENT_CHATSCOPE,
    CLIENT_OPENLLMETRY,
    LITELLM,
    LITELLM_OTEL,
    SIMULATED,
    SIMULATED_TOKENS,
    Gateway,
    Running,
    ask,
    running,
)
from bench.otlp import receiver
from bench.provider import MODEL, provider
from bench.results import Recorder, Row
from stack.progress import Progress
from stack.terminal import Terminal

SIMULATED_JSON: Final = "simulated JSON response"
SIMULATED_STREAM: Final = "simulated streamed response"
RELAYED_JSON: Final = "relayed JSON response"
RELAYED_STREAM: Final = "relayed streamed response"
CHUNK: Final = "relayed chunk"
UNITS: Final = {
    SIMULATED_JSON: "ms",
    SIMULATED_STREAM: "ms",
    RELAYED_JSON: "ms",
    RELAYED_STREAM: "ms",
    CHUNK: "µs",
}
# What telemetry adds to a response of the service, in the same round.
ADDED: Final = "telemetry's share"
GATEWAYS: Final = (
    CHATSCOPE,
    CHATSCOPE_OFF,
    CLIENT,
    CLIENT_CHATSCOPE,
    CLIENT_OPENLLMETRY,
    LITELLM,
    LITELLM_OTEL,
)
_LONG: Final = 1_000  # chunks
_PER_UNIT: Final = {"ms": 1e3, "µs": 1e6}
# Telemetry of the last responses is exported in this time; the others have none.
_SETTLE_SECONDS: Final = 2.0
# A stream of 1,000 chunks, on a busy machine.
_TIMEOUT_SECONDS: Final = 600.0

# The values of all rounds by variant and kind.
Found = Mapping[str, Mapping[str, Sequence[float]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write the result."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m bench.cpu", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--responses", type=int, default=600, help="JSON responses of a kind in a round"
    )
    parser.add_argument(
        "--only", default="", help="variants whose name contains this; writes no result"
    )
    options = parser.parse_args(given)
    recorder, console = Recorder("cpu", given), Terminal()
    chosen = [gateway for gateway in GATEWAYS if options.only in gateway.name]
    found, missing = _rounds(chosen, options.rounds, options.responses, Progress(console))
    if not options.only:
        recorder.write(rows(found), options.rounds, missing)
    console.print(_table(found))
    for name, reason in missing.items():
        console.print(f"{name}: not measured: {reason}", markup=False)
    return 0


def _rounds(
    gateways: Sequence[Gateway], rounds: int, responses: int, progress: Progress
) -> tuple[Found, dict[str, str]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    missing: dict[str, str] = {}
    exports = count()
    server, endpoint = receiver(lambda: next(exports))
    with provider() as url:
        for number in range(rounds):
            progress.say(f"Round {number + 1} of {rounds}")
            for gateway in gateways:
                before = next(exports)
                try:
                    with running(gateway, url, endpoint, progress) as process:
                        measured = _measure(gateway, process, responses, progress)
                except UnavailableError as error:
                    if gateway.environment is None:
                        raise
                    missing[gateway.name] = str(error)
                    continue
                exported = next(exports) > before + 1
                if exported != gateway.exports:
                    found_out = "telemetry" if exported else "nothing"
                    raise RuntimeError(f"{gateway.name} exported {found_out}")
                for kind, cost in measured.items():
                    found[gateway.name][kind].append(cost)
    server.stop(0)
    return found, missing


@dataclass(frozen=True)
class _Load:
    """So many responses, of so many parts whose cost is measured."""

    model: str
    tokens: int
    stream: bool
    times: int
    parts: int = 1


def _measure(
    gateway: Gateway, process: Running, responses: int, progress: Progress
) -> dict[str, float]:
    """Return the cost of each kind in its unit."""
    streams, long_streams = max(1, responses // 2), max(1, responses // 20)
    loads = {
        SIMULATED_JSON: _Load(SIMULATED, SIMULATED_TOKENS, False, responses),
        SIMULATED_STREAM: _Load(SIMULATED, SIMULATED_TOKENS, True, streams),
        RELAYED_JSON: _Load(MODEL, SIMULATED_TOKENS, False, responses),
        RELAYED_STREAM: _Load(MODEL, SIMULATED_TOKENS, True, streams),
        CHUNK: _Load(MODEL, _LONG, True, long_streams, _LONG),
    }
    found = {}
    client = http.client.HTTPConnection("127.0.0.1", process.port, timeout=_TIMEOUT_SECONDS)
    with closing(client):
        for kind, load in loads.items():
            if load.model == SIMULATED and not gateway.is_chatscope:
                continue
            with progress.activity(f"{gateway.name}: {kind}"):
                cpu = _cpu(process, client, load, _SETTLE_SECONDS if gateway.exports else 0)
            found[kind] = cpu / load.times / load.parts * _PER_UNIT[UNITS[kind]]
    return found


def _cpu(process: Running, client: http.client.HTTPConnection, load: _Load, settle: float) -> float:
    """Return the CPU seconds of a load, after half as many responses that are not counted.

    With fewer, a response costs up to twice as much: the interpreter still specializes code.
    """

    def answer(times: int) -> None:
        for _ in range(times):
            ask(client, load.model, load.tokens, stream=load.stream)
        time.sleep(settle)

    answer(max(5, load.times // 2))
    before = process.cpu()
    answer(load.times)
    return process.cpu() - before


def rows(found: Found) -> list[Row]:
    """Return the figures of all variants, and what telemetry adds in the same round."""
    made = [
        Row.of(kind, variant, values, UNITS[kind])
        for variant, kinds in found.items()
        for kind, values in kinds.items()
    ]
    on, off = (found.get(each.name, {}) for each in (CHATSCOPE, CHATSCOPE_OFF))
    for kind in (each for each in on if each in off):
        added = [with_it - without for with_it, without in zip(on[kind], off[kind], strict=True)]
        made.append(Row.of(kind, ADDED, added, UNITS[kind]))
    return made


def _table(found: Found) -> Table:
    table = Table(title="CPU time, medians")
    table.add_column("variant")
    for kind, unit in UNITS.items():
        table.add_column(f"{kind}, {unit}", justify="right")
    for variant, kinds in found.items():
        figures = (f"{median(kinds[kind]):.2f}" if kind in kinds else "" for kind in UNITS)
        table.add_row(variant, *figures)
    return table


if __name__ == "__main__":
    # As by Ctrl-C: ends the gateways.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
