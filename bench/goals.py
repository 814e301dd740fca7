"""The goals of speed, and the figure of a benchmark that decides each."""

from dataclasses import dataclass
from typing import Final

from bench import cpu, overhead, paced
from bench.gateways import CHATSCOPE
from bench.otlp import BATCH_512, CONFIGURED

_OURS: Final = CHATSCOPE.name


@dataclass(frozen=True)
class Goal:
    """At most `limit` for a figure of the result of a benchmark.

    `benchmark` is None where nothing measures it yet.
    """

    text: str
    limit: float
    unit: str
    benchmark: str | None = None
    row: str = ""
    variant: str = _OURS


GOALS: Final = (
    Goal("CPU of a JSON response of the simulated model", 0.7, "ms", "cpu", cpu.SIMULATED_JSON),
    Goal("telemetry's share of it", 0.2, "ms", "cpu", cpu.SIMULATED_JSON, cpu.ADDED),
    Goal("CPU of a streamed response of 60 tokens", 2, "ms", "cpu", cpu.SIMULATED_STREAM),
    Goal("CPU of a relayed chunk, as fast as they come", 20, "µs", "cpu", cpu.CHUNK),
    Goal("telemetry's share of it", 1, "µs", "cpu", cpu.CHUNK, cpu.ADDED),
    Goal("CPU of a relayed chunk, 20 streams at 50/s", 90, "µs", "paced", paced.CHUNK),
    Goal("telemetry's share of it", 1, "µs", "paced", paced.CHUNK, paced.ADDED),
    Goal(
        "p99 of JSON responses at 50/s, with telemetry and without",
        *(1.2, "times", "paced", paced.P99, paced.RATIO),
    ),
    Goal(
        "CPU added to a JSON request by the package, of the stock middleware's",
        *(1 / 6, "times", "overhead", overhead.OF_STOCK),
    ),
    Goal(
        "CPU of an exported span, in batches of 512",
        *(10, "µs", "otlp", f"span, {BATCH_512}", CONFIGURED),
    ),
    Goal(
        "CPU of an exported log record, in batches of 512",
        *(6, "µs", "otlp", f"log, {BATCH_512}", CONFIGURED),
    ),
    Goal(
        "longest step that blocks the event loop",
        *(5, "ms", "blocking", "longest step", "of all inputs"),
    ),
    Goal(
        "memory of each of 5,000 idle sockets of one worker",
        *(25, "kB", "sockets", "idle WebSocket, memory", "5000 connections"),
    ),
    Goal(
        "longest gap of 500 streams at 20 chunks/s",
        *(100, "ms", "sockets", "longest gap", "500 streams, 20 chunks/s each"),
    ),
    Goal("startup of the service until ready", 0.4, "s", "startup", "until ready"),
    Goal("memory of the service at rest", 60, "MiB", "startup", "resident memory at rest"),
    Goal(
        "idle memory of the stack without Grafana",
        300,
        "MB",
        "start",
        "idle without Grafana",
        "native",
    ),
)
