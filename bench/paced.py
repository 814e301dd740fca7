"""CPU of chunks that arrive slowly, and the durations of responses at a fixed rate.

    python -m bench.paced

The service runs with telemetry and without, each anew in each round, in turns. First it relays 20
streams at once, whose provider sends 50 chunks a second on each: the CPU of its process a chunk.
Then the simulated model, which makes no pauses, is asked for 50 JSON responses a second on 16
connections: the 99th percentile of the time from when a request is due to the end of its response.
"""

import argparse
import http.client
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import SimpleQueue
from statistics import quantiles
from typing import Final

from bench.gateways import (
    CHATSCOPE,
    CHATSCOPE_OFF,
    SIMULATED,
    SIMULATED_TOKENS,
    Running,
    ask,
    running,
)
from bench.otlp import receiver
from bench.provider import MODEL, provider
from bench.results import Recorder, Row
from stack.progress import Progress
from stack.terminal import Terminal

CHUNK: Final = "relayed chunk, 20 streams at 50/s"
P99: Final = "p99 of a JSON response at 50/s"
ADDED: Final = "telemetry's share"
RATIO: Final = "with telemetry / without"
_UNITS: Final = {CHUNK: "µs", P99: "ms"}
_STREAMS: Final = 20
_CHUNKS_PER_SECOND: Final = 50
_RESPONSES_PER_SECOND: Final = 50
_CONNECTIONS: Final = 16
_WARM_UP: Final = 50  # responses
_SETTLE_SECONDS: Final = 1.0
_PER_SECOND: Final = {CHUNK: 1e6, P99: 1e3}

# The values of all rounds by variant and figure.
Found = Mapping[str, Mapping[str, Sequence[float]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the medians, and write the result."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m bench.paced", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each load (default 10)")
    options = parser.parse_args(given)
    recorder, console = Recorder("paced", given), Terminal()
    found = _rounds(options.rounds, options.seconds, Progress(console))
    made = rows(found)
    recorder.write(made, options.rounds)
    for row in made:
        console.print(f"{row.row}, {row.variant}: {row.value:.2f} {row.unit}".rstrip())
    return 0


def rows(found: Found) -> list[Row]:
    """Return the figures of both variants, and how they compare in the same round."""
    on, off = found[CHATSCOPE.name], found[CHATSCOPE_OFF.name]
    added = [with_it - without for with_it, without in zip(on[CHUNK], off[CHUNK], strict=True)]
    ratios = [with_it / without for with_it, without in zip(on[P99], off[P99], strict=True)]
    return [
        *(
            Row.of(figure, variant, values, _UNITS[figure])
            for variant, figures in found.items()
            for figure, values in figures.items()
        ),
        Row.of(CHUNK, ADDED, added, _UNITS[CHUNK]),
        Row.of(P99, RATIO, ratios, ""),
    ]


def _rounds(rounds: int, seconds: float, progress: Progress) -> Found:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    server, endpoint = receiver()
    with provider(pause=1 / _CHUNKS_PER_SECOND) as url:
        for number in range(rounds):
            progress.say(f"Round {number + 1} of {rounds}")
            for gateway in (CHATSCOPE, CHATSCOPE_OFF):
                with running(gateway, url, endpoint, progress) as process:
                    for figure, measure in _MEASURES.items():
                        with progress.activity(f"{gateway.name}: {figure}"):
                            value = measure(process, seconds) * _PER_SECOND[figure]
                        found[gateway.name][figure].append(value)
    server.stop(0)
    return found


def _chunk(process: Running, seconds: float) -> float:
    """Return the CPU seconds of a chunk."""
    chunks = max(1, int(seconds * _CHUNKS_PER_SECOND))
    with ThreadPoolExecutor(_STREAMS) as pool:

        def stream(tokens: int) -> None:
            for done in [pool.submit(_relay, process.port, tokens) for _ in range(_STREAMS)]:
                done.result()

        stream(1)
        before = process.cpu()
        stream(chunks)
        time.sleep(_SETTLE_SECONDS)
        return (process.cpu() - before) / chunks / _STREAMS


def _relay(port: int, tokens: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as client:
        ask(client, MODEL, tokens, stream=True)


def _p99(process: Running, seconds: float) -> float:
    """Return the 99th percentile of the durations in seconds."""
    clients: SimpleQueue[http.client.HTTPConnection] = SimpleQueue()

    def answer(due: float) -> float:
        time.sleep(max(0.0, due - time.perf_counter()))
        client = clients.get()
        ask(client, SIMULATED, SIMULATED_TOKENS, stream=False)
        clients.put(client)
        return time.perf_counter() - due

    with ExitStack() as closed, ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in range(_CONNECTIONS):
            client = http.client.HTTPConnection("127.0.0.1", process.port, timeout=600)
            clients.put(closed.enter_context(closing(client)))

        def load(count: int) -> list[float]:
            started = time.perf_counter()
            dues = [started + number / _RESPONSES_PER_SECOND for number in range(count)]
            return list(pool.map(answer, dues))

        load(_WARM_UP)
        return quantiles(load(max(2, int(seconds * _RESPONSES_PER_SECOND))), n=100)[-1]


_MEASURES: Final[Mapping[str, Callable[[Running, float], float]]] = {CHUNK: _chunk, P99: _p99}


if __name__ == "__main__":
    # As by Ctrl-C: ends the gateways.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
