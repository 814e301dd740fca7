"""Memory of a queued item, and how long encoding a batch holds the interpreter lock.

The sizes of queues and batches in chatscope/providers.py are based on these figures. The SDK's
default batch of 512 is measured in the same run.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan
from rich.table import Table

from chatscope import Telemetry
from chatscope.genai.request import ModelRequest, Usage
from chatscope.providers import TelemetrySettings
from stack.terminal import Terminal
from tests.memory import Memory

_MODEL = "simulated-1"
_TURNS = 600
_BATCHES = (16, 64, 128, 256, 512)
_ROUNDS = 15


def main() -> int:
    """Measure and print two tables."""
    console = Terminal()
    (spans, logs), by_item = _turns()
    console.print(f"Memory of one queued item (a span with its share of log): {by_item:.0f} bytes")
    table = Table(title="Encoding a batch holds the interpreter lock")
    for column in ("batch", "span us each", "span ms held", "log us each", "log ms held"):
        table.add_column(column, justify="right")
    for size in _BATCHES:
        row = (*_held(encode_spans, spans[:size]), *_held(encode_logs, logs[:size]))
        table.add_row(str(size), *row)
    console.print(table)
    return 0


def _turns() -> tuple[tuple[Sequence[ReadableSpan], Sequence[ReadableLogRecord]], float]:
    """Return real spans and log records of turns, and the bytes that each uses."""
    memory = Memory()
    settings = TelemetrySettings(known_models=frozenset({_MODEL}), log_level="INFO")
    telemetry = Telemetry(settings, memory.providers)
    telemetry.start()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(_TURNS):
        _turn(telemetry)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    items = len(memory.spans) + len(memory.logs)
    return (memory.spans, memory.logs), (after - before) / items


def _turn(telemetry: Telemetry) -> None:
    request = ModelRequest(provider="simulated", model=_MODEL, stream=True, temperature=0.5)
    answer = telemetry.start_answer(request, started=time.perf_counter())
    answer.received("x")
    answer.sent()
    answer.completed(
        finish_reason="stop", usage=Usage(9, 40), response_id="r", response_model=_MODEL
    )
    answer.close()


def _held(encode: Callable[[Any], Message], batch: Sequence[object]) -> tuple[str, str]:
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        encode(batch).SerializeToString()
        seconds.append(time.perf_counter() - started)
    typical = median(seconds)
    return f"{typical / len(batch) * 1e6:.0f}", f"{typical * 1e3:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
