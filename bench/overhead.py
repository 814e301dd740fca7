# ruff: noqa: PLC0415 - each variant imports its packages, in a separate process.
"""CPU that telemetry adds to a request and to a streamed chunk, for several instrumentations.

    python -m bench.overhead

Each variant serves the same requests, by raw ASGI calls, in a fresh process, alternately, and
exports to a receiver in this process. `total` is the CPU of all threads, exports included; `on the
loop` is that of the event loop's thread, which delays requests. Figures are medians of the
differences to `bare` in the same round. No variant writes to a console. For each JSON request:

- bare: no telemetry and no log record.
- chatscope: one server span, the HTTP metrics, and one record of loguru, exported as OTLP. Its
  cost includes that of loguru; loguru's default sink, which prints, is removed.
- chatscope, stock HTTP: the same, with the spans and metrics of opentelemetry-instrumentation-asgi.
- stock: opentelemetry-instrumentation-asgi with all its spans and metrics, and one record of the
  standard library, exported by the SDK's LoggingHandler and batch processors.
- prometheus, loguru: a counter, a histogram and a gauge of prometheus_client, and one record of
  loguru that is formatted and discarded; nothing is exported.
- logfire: its ASGI instrumentation and one of its log calls, exported as a span.
"""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from loguru import logger
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.otlp import receiver
from stack.terminal import Terminal

_CHUNKS: Final = 400
# After so many requests the exporters may catch up, because dropped items would cost nothing.
_BURST: Final = 64
_PAUSE: Final = 0.02  # s
# The SDK's default: one collection per measurement, on any machine.
_METRIC_INTERVAL_MS: Final = 60_000
_TARGET: Final = 1 / 6
_CHUNK_TARGET: Final = 0.5  # us

Log = Callable[[int], None]
Flush = Callable[[], object]
Built = tuple[ASGIApp, Flush]


@dataclass(frozen=True)
class Figures:
    """CPU microseconds of one process."""

    total: float  # for each JSON request, all threads
    loop: float  # the same, on the event loop's thread
    chunk: float  # for each further chunk of a stream, all threads


def _application(log: Log | None) -> Starlette:
    async def json_response(request: Request) -> Response:
        await request.body()
        if log is not None:
            log(5)
        return JSONResponse({"ok": True})

    async def stream(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(request.path_params["chunks"]):
                yield b"x"

        return StreamingResponse(chunks())

    return Starlette(
        routes=[
            Route("/json", json_response, methods=["POST"]),
            Route("/stream/{chunks:int}", stream, methods=["POST"]),
        ]
    )


def _log_by_loguru(number: int) -> None:
    logger.info("order {} placed", number)


def _bare(_: str) -> Built:
    return _application(None), lambda: None


def _ours(endpoint: str, http_instrumentation: Any = "chatscope") -> Built:
    from chatscope import Telemetry, TelemetrySettings, instrument

    # Its default sink writes to stderr.
    logger.remove()
    app = _application(_log_by_loguru)
    settings = TelemetrySettings(
        endpoint=endpoint,
        metric_interval_ms=_METRIC_INTERVAL_MS,
        http_instrumentation=http_instrumentation,
    )
    telemetry = Telemetry(settings)
    telemetry.start()
    instrument(app, telemetry)

    def flush() -> None:
        if telemetry.providers.delivery is not None:
            telemetry.providers.delivery.flush()
        telemetry.providers.meter_provider.force_flush()

    return app, flush


def _ours_with_stock_http(endpoint: str) -> Built:
    return _ours(endpoint, "stock")


def _stock(endpoint: str) -> Built:
    # The same attribute names as ours; read when the middleware is constructed.
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), max_queue_size=100_000)
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint), export_interval_millis=_METRIC_INTERVAL_MS
    )
    meters = MeterProvider([reader], shutdown_on_exit=False)
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=endpoint), max_queue_size=100_000)
    )
    shop = logging.getLogger("shop")
    shop.setLevel(logging.INFO)
    shop.propagate = False
    shop.addHandler(LoggingHandler(logger_provider=loggers))
    app = _application(lambda number: shop.info("order %s placed", number))

    def flush() -> None:
        for provider in (tracers, loggers, meters):
            provider.force_flush()

    return OpenTelemetryMiddleware(app, tracer_provider=tracers, meter_provider=meters), flush


def _prometheus(_: str) -> Built:
    from prometheus_client import Counter, Gauge, Histogram

    requests = Counter("requests", "Requests.", ["method", "route", "status"])
    seconds = Histogram("request_seconds", "Duration.", ["method", "route", "status"])
    active = Gauge("active_requests", "Active requests.")
    app = _application(_log_by_loguru)
    logger.remove()
    logger.add(lambda _: None, format="{time} {level} {name} {message}", level="INFO")

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 0

        async def watched_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        active.inc()
        try:
            await app(scope, receive, watched_send)
        finally:
            active.dec()
            labels = (scope["method"], scope["route"].path, str(status))
            requests.labels(*labels).inc()
            seconds.labels(*labels).observe(time.perf_counter() - started)

    return around, lambda: None


def _logfire(endpoint: str) -> Built:
    from importlib import import_module

    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logfire: Any = import_module("logfire")
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), max_queue_size=100_000)
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint), export_interval_millis=_METRIC_INTERVAL_MS
    )
    logfire.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[processor],
        metrics=logfire.MetricsOptions(additional_readers=[reader]),
    )
    app = _application(lambda number: logfire.info("order {number} placed", number=number))
    instrumented: ASGIApp = logfire.instrument_asgi(app)
    return instrumented, logfire.force_flush


# Telemetry of a JSON request in each variant.
_PARTS: Final = {
    "bare": "no telemetry, no log record",
    "chatscope": "1 span, HTTP metrics, 1 loguru record; OTLP; no console",
    "chatscope, stock HTTP": "all stock spans, HTTP metrics, 1 loguru record; OTLP; no console",
    "stock": "all stock spans, HTTP metrics, 1 logging record; OTLP; no console",
    "prometheus, loguru": "metrics, 1 formatted loguru record; no export; no console",
    "logfire": "spans, HTTP metrics, 1 log as span; OTLP; no console",
}
_VARIANTS: Final[Mapping[str, Callable[[str], Built]]] = {
    "bare": _bare,
    "chatscope": _ours,
    "chatscope, stock HTTP": _ours_with_stock_http,
    "stock": _stock,
    "prometheus, loguru": _prometheus,
    "logfire": _logfire,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; with `--one`, print one result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "ENDPOINT"))
    given = parser.parse_args(arguments)
    if given.one:
        variant, endpoint = given.one
        app, flush = _VARIANTS[variant](endpoint)
        print(json.dumps(asdict(asyncio.run(_measure(app, flush, given.requests)))))
        return 0
    server, endpoint = receiver()
    found = _rounds(endpoint, given.rounds, given.requests)
    server.stop(0)
    console = Terminal()
    console.print(_verdict(found))
    console.print(_table(found))
    console.print("\n".join(f"{name}: {parts}" for name, parts in _PARTS.items()))
    return 0


def _rounds(endpoint: str, rounds: int, requests: int) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {name: [] for name in _VARIANTS}
    for _ in range(rounds):
        for name, figures in found.items():
            command = [sys.executable, "-m", "bench.overhead", "--requests", str(requests)]
            done = subprocess.run(
                [*command, "--one", name, endpoint],
                check=False,
                capture_output=True,
                text=True,
                timeout=300,
            )
            if done.returncode == 0:
                figures.append(Figures(**json.loads(done.stdout.splitlines()[-1])))
            elif "ModuleNotFoundError" not in done.stderr:
                raise RuntimeError(f"{name}: {done.stderr}")
    return found


async def _measure(app: ASGIApp, flush: Flush, requests: int) -> Figures:
    for path in ("/json", f"/stream/{_CHUNKS}"):
        for _ in range(200):
            await _request(app, path)
    flush()
    total, loop = await _cpu(app, "/json", requests, flush)
    streams = max(1, requests // 10)
    long, _ = await _cpu(app, f"/stream/{_CHUNKS}", streams, flush)
    short, _ = await _cpu(app, "/stream/1", streams, flush)
    return Figures(total, loop, (long - short) / (_CHUNKS - 1))


async def _cpu(app: ASGIApp, path: str, times: int, flush: Flush) -> tuple[float, float]:
    """Return CPU microseconds per request: of all threads, and of this one."""
    total, loop = time.process_time(), time.thread_time()
    for number in range(times):
        await _request(app, path)
        if number % _BURST == 0:
            await asyncio.sleep(_PAUSE)
    loop = time.thread_time() - loop
    flush()
    return (time.process_time() - total) / times * 1e6, loop / times * 1e6


async def _request(app: ASGIApp, path: str) -> None:
    async def send(message: Message) -> None:
        return None

    await app(_scope(path), _body(), send)


def _body() -> Callable[[], Awaitable[Message]]:
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": b'{"x": 1}', "more_body": False}

    return receive


def _scope(path: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:3000"),
            (b"content-type", b"application/json"),
            (b"content-length", b"8"),
            (b"user-agent", b"bench"),
            (b"accept", b"*/*"),
        ],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 3000),
    }


def _added(found: Mapping[str, list[Figures]], name: str) -> Figures | None:
    """Return the median differences to `bare`; None if the variant's package is not installed."""
    pairs = list(zip(found[name], found["bare"], strict=False))
    if not pairs:
        return None
    return Figures(
        median(each.total - bare.total for each, bare in pairs),
        median(each.loop - bare.loop for each, bare in pairs),
        median(each.chunk - bare.chunk for each, bare in pairs),
    )


def _verdict(found: Mapping[str, list[Figures]]) -> str:
    ours, stock = _added(found, "chatscope"), _added(found, "stock")
    if ours is None or stock is None:
        return "nothing measured"
    return (
        f"Added to a JSON request: {ours.total / stock.total:.2f} of stock in total "
        f"(target {_TARGET:.2f}), {ours.loop / stock.loop:.2f} on the loop.\n"
        f"Added to a chunk: {ours.chunk:.2f} us (target {_CHUNK_TARGET})."
    )


def _table(found: Mapping[str, list[Figures]]) -> Table:
    table = Table(title="CPU added, in microseconds")
    for column in ("variant", "of stock", "request, total", "on the loop", "chunk"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    stock = _added(found, "stock")
    for name in found:
        added = _added(found, name)
        if added is None or stock is None:
            table.add_row(name, "not installed", "", "", "")
        elif name == "bare":
            own = [median(getattr(each, key) for each in found[name]) for key in asdict(added)]
            table.add_row("bare, total", "", *[f"{value:.2f}" for value in own])
        else:
            share = f"{added.total / stock.total:.2f}"
            rest = (f"{added.total:.1f}", f"{added.loop:.1f}", f"{added.chunk:.2f}")
            table.add_row(name, share, *rest)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
