"""Cost of delivery: our processors compared with the SDK's and the official exporters.

    python -m bench.otlp
    python -m bench.otlp --steps

All send to the same local receiver, alternately, each in its own process: the SDK's providers with
the official processors and exporters, the same providers with those of `chatscope.otlp`, and the
providers of `chatscope.configure()`, whose spans and records are redacted, too. CPU is that of the
sending process, all threads, per item, less that of an SDK provider without a processor. The
longest hold of the interpreter lock is the longest time for which a thread that wants to run every
0.2 ms could not. The second table shows single steps (bench/otlp_steps.py).
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from bench.otlp_steps import http_receiver, longest_holds
from bench.results import Recorder, Row
from chatscope.otlp import (
    Delivery,
    DeliverySettings,
    OtlpLogRecordProcessor,
    OtlpSpanProcessor,
    PipelineLimits,
    load_endpoints,
)
from chatscope.settings import TelemetrySettings
from chatscope.telemetry import Telemetry

# Until neither the interpreter nor gRPC becomes faster.
_WARM_UP_ITEMS = 5_000
_ITEMS = 30_000
_ROUNDS = 3
_SIZES = (1, 64, 512)
BATCHES = tuple(f"batches of {size}" for size in _SIZES)
BATCH_512 = BATCHES[-1]
OFFICIAL, OURS, CONFIGURED = "official", "chatscope", "configured"
_FLUSH_SECONDS = 10.0
_RATE_PAUSE = 256  # items after which the sender lets the exporter catch up


def main() -> int:
    """Print a table; with `--one`, print one result as JSON."""
    parser = argparse.ArgumentParser(description="Cost of OTLP delivery.")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "SIGNAL", "BATCH"))
    parser.add_argument("--steps", action="store_true", help="only the table of single steps")
    parser.add_argument("--hold", nargs=2, metavar=("GRPC", "HTTP"))
    parser.add_argument("--endpoint")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    given = parser.parse_args()
    if given.one:
        side, signal, batch = given.one
        print(json.dumps(_measure(side, signal, int(batch), given.endpoint)))
        return 0
    if given.hold:
        print(json.dumps(longest_holds(*given.hold)))
        return 0
    server, endpoint = receiver()
    if not given.steps:
        recorder = Recorder("otlp", sys.argv[1:])
        recorder.write(_compare(endpoint, given.rounds), given.rounds)
    _show_steps(endpoint)
    server.stop(0)
    return 0


def _compare(endpoint: str, rounds: int) -> list[Row]:
    print("median of", rounds, "rounds; us of CPU per item, longest hold of the lock in ms")
    print(f"{'':22}{'official':>18}{'chatscope.otlp':>18}{'configure()':>18}")
    rows = []
    for signal in ("span", "log"):
        for size, batch in zip(_SIZES, BATCHES, strict=True):
            found = _measure_all(signal, size, endpoint, rounds)
            _show(f"{signal}, {batch}", found)
            for side, results in found.items():
                values = [result["cpu"] for result in results]
                rows.append(Row.of(f"{signal}, {batch}", side, values, "µs"))
    return rows


def _show_steps(endpoint: str) -> None:
    with http_receiver() as http:
        command = [sys.executable, "-m", "bench.otlp", "--hold", endpoint, http]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    print("longest hold of the interpreter lock by one step, ms")
    for name, seconds in json.loads(done.stdout).items():
        print(f"{name:44}{seconds * 1e3:8.2f}")


def _measure_all(
    signal: str, batch: int, endpoint: str, rounds: int
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {OFFICIAL: [], OURS: [], CONFIGURED: []}
    for _ in range(rounds):
        for side, results in found.items():
            command = [sys.executable, "-m", "bench.otlp", "--endpoint", endpoint]
            command += ["--one", side, signal, str(batch)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            results.append(json.loads(done.stdout))
    return found


def _show(name: str, found: dict[str, list[dict[str, float]]]) -> None:
    def median(side: str, figure: str) -> float:
        return statistics.median(result[figure] for result in found[side])

    cells = [f"{median(side, 'cpu'):9.1f} {median(side, 'hold'):7.1f} " for side in found]
    print(f"{name:22}" + "".join(f"{cell:>18}" for cell in cells))


def receiver(received: Callable[[], object] = lambda: None) -> tuple[grpc.Server, str]:
    """Start a receiver that accepts every export and ignores its body; return its address.

    `received` is called for each export.
    """

    def accept(body: bytes, context: object) -> bytes:
        received()
        return b""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(accept)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"http://127.0.0.1:{port}"


def _measure(side: str, signal: str, batch: int, endpoint: str) -> dict[str, float]:
    emit, finish = _side(side, signal, batch, endpoint)
    bare, _ = _side("none", signal, batch, endpoint)
    _cpu(emit, finish, _WARM_UP_ITEMS)
    own = _cpu(bare, lambda: None)
    delivered = _cpu(emit, finish)
    watch = _Watch()
    with watch:
        _cpu(emit, finish)
    return {"cpu": (delivered - own) / _ITEMS * 1e6, "hold": watch.longest * 1e3}


def _cpu(emit: Callable[[int], None], finish: Callable[[], None], items: int = _ITEMS) -> float:
    before = time.process_time()
    for number in range(items):
        emit(number)
        if number % _RATE_PAUSE == 0:
            time.sleep(0.02)
    finish()
    return time.process_time() - before


class _Watch:
    """Measures the longest time for which a runnable thread could not run."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        wanted = 0.0002
        before = time.perf_counter()
        while not self._ended.is_set():
            time.sleep(wanted)
            now = time.perf_counter()
            self.longest = max(self.longest, now - before - wanted)
            before = now


def _delivery(batch: int, endpoint: str) -> Any:
    settings = DeliverySettings(limits=PipelineLimits(batch_items=batch))
    return Delivery(load_endpoints({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}), settings)


def _side(
    side: str, signal: str, batch: int, endpoint: str
) -> tuple[Callable[[int], None], Callable[[], Any]]:
    """Return functions that emit one item and flush; side `none` sends nothing."""
    if side == CONFIGURED:
        return _configured(signal, batch, endpoint)
    made = _spans() if signal == "span" else _logs()
    if side == OFFICIAL:
        processor = made.official(
            made.exporter(endpoint=endpoint),
            max_queue_size=20_000,
            schedule_delay_millis=200,
            max_export_batch_size=batch,
        )
        made.add(processor)
        return made.emit, processor.force_flush
    if side == OURS:
        delivery = _delivery(batch, endpoint)
        made.add(made.ours(delivery))
        return made.emit, delivery.flush
    return made.emit, lambda: None


def _configured(
    signal: str, batch: int, endpoint: str
) -> tuple[Callable[[int], None], Callable[[], Any]]:
    settings = TelemetrySettings(
        service_name="bench", endpoint=endpoint, span_batch=batch, log_batch=batch
    )
    telemetry = Telemetry(settings, None)
    telemetry.start()
    providers = telemetry.providers
    assert providers.delivery is not None
    flush = partial(providers.delivery.flush, _FLUSH_SECONDS)
    if signal == "span":
        return _span_emitter(telemetry.tracer), flush
    return _log_emitter(providers.logger_provider.get_logger("bench")), flush


@dataclass(frozen=True)
class _Made:
    """A provider of one signal, with its processors and exporters."""

    add: Callable[[Any], None]
    emit: Callable[[int], None]
    official: Callable[..., Any]
    exporter: Callable[..., Any]
    ours: Callable[[Delivery], Any]


def _spans() -> _Made:
    provider = TracerProvider(shutdown_on_exit=False)
    emit = _span_emitter(provider.get_tracer("bench"))
    return _Made(
        provider.add_span_processor, emit, BatchSpanProcessor, OTLPSpanExporter, OtlpSpanProcessor
    )


def _span_emitter(tracer: Tracer) -> Callable[[int], None]:
    def emit(number: int) -> None:
        tracer.start_span(
            "POST /v1/chat/completions",
            attributes={
                "http.request.method": "POST",
                "url.path": "/v1/chat/completions",
                "url.scheme": "http",
                "http.route": "/v1/chat/completions",
                "http.response.status_code": 200,
                "server.address": "127.0.0.1",
                "server.port": 3000,
                "client.address": "127.0.0.1",
                "client.port": 40_000 + number % 20_000,
                "network.protocol.version": "1.1",
                "user_agent.original": "python-client/3",
                "gen_ai.request.model": "simulated-1",
                "gen_ai.usage.output_tokens": number % 100,
                "gen_ai.response.id": f"chatcmpl-{number}",
            },
        ).end()

    return emit


def _logs() -> _Made:
    provider = LoggerProvider(shutdown_on_exit=False)
    return _Made(
        provider.add_log_record_processor,
        _log_emitter(provider.get_logger("bench")),
        BatchLogRecordProcessor,
        OTLPLogExporter,
        OtlpLogRecordProcessor,
    )


def _log_emitter(logger: Logger) -> Callable[[int], None]:
    def emit(number: int) -> None:
        logger.emit(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body="request completed",
            attributes={
                "code.file.path": "app/transport/completions.py",
                "code.function.name": "app.transport.completions.create",
                "code.line.number": 42,
                "http.route": "/v1/chat/completions",
                "http.response.status_code": 200,
                "chatscope.answer.duration": 1.25,
                "gen_ai.response.id": f"chatcmpl-{number}",
            },
        )

    return emit


if __name__ == "__main__":
    sys.exit(main())
