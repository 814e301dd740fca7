# ruff: noqa: PLC0415 - each variant imports its packages, which its environment alone has.
"""A small Starlette service with one kind of telemetry, and the CPU of requests to it.

    python -m bench.competitors.request_service VARIANT --grpc URL --http URL

bench/overhead.py runs it in the environment of the variant, and describes the variants. Requests
are raw ASGI calls. The result is printed as JSON.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CHUNKS: Final = 400
# After so many requests the exporters may catch up, because dropped items would cost nothing.
_BURST: Final = 64
_PAUSE: Final = 0.02  # s
# The SDK's default: one collection per measurement, on any machine.
_METRIC_INTERVAL_MS: Final = 60_000

Log = Callable[[int], None]
Flush = Callable[[], object]
Built = tuple[ASGIApp, Flush]


@dataclass(frozen=True)
class Endpoints:
    """URLs of receivers that accept everything."""

    grpc: str
    http: str


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


def _bare(_: Endpoints) -> Built:
    return _application(None), lambda: None


def _ours(endpoints: Endpoints, http_instrumentation: Any = "chatscope") -> Built:
    from loguru import logger

    from chatscope import Telemetry, TelemetrySettings, instrument

    # Its default sink writes to stderr.
    logger.remove()
    app = _application(lambda number: logger.info("order {} placed", number))
    settings = TelemetrySettings(
        endpoint=endpoints.grpc,
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


def _ours_with_stock_http(endpoints: Endpoints) -> Built:
    return _ours(endpoints, "stock")


def _stock(endpoints: Endpoints) -> Built:
    """As https://opentelemetry-python-contrib.readthedocs.io/en/latest/instrumentation/asgi/asgi.html."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    app, providers, flush = _with_sdk(endpoints)
    return OpenTelemetryMiddleware(app, **providers), flush


def _stock_for_starlette(endpoints: Endpoints) -> Built:
    """As https://opentelemetry-python-contrib.readthedocs.io/en/latest/instrumentation/starlette/starlette.html."""
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor

    app, providers, flush = _with_sdk(endpoints)
    StarletteInstrumentor.instrument_app(app, **providers)
    return app, flush


def _with_sdk(endpoints: Endpoints) -> tuple[Starlette, dict[str, Any], Flush]:
    """Return an application that logs by the SDK, providers to instrument it, and a flush."""
    # The same attribute names as ours; read when the instrumentation is constructed.
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    url = endpoints.grpc
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=url), max_queue_size=100_000)
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=url), export_interval_millis=_METRIC_INTERVAL_MS
    )
    meters = MeterProvider([reader], shutdown_on_exit=False)
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=url), max_queue_size=100_000)
    )
    shop = logging.getLogger("shop")
    shop.setLevel(logging.INFO)
    shop.propagate = False
    shop.addHandler(LoggingHandler(logger_provider=loggers))
    app = _application(lambda number: shop.info("order %s placed", number))

    def flush() -> None:
        for provider in (tracers, loggers, meters):
            provider.force_flush()

    return app, {"tracer_provider": tracers, "meter_provider": meters}, flush


def _prometheus(_: Endpoints) -> Built:
    """As https://prometheus.github.io/client_python/instrumenting/labels describes it."""
    from loguru import logger
    from prometheus_client import Counter, Gauge, Histogram

    requests = Counter("requests", "Requests.", ["method", "route", "status"])
    seconds = Histogram("request_seconds", "Duration.", ["method", "route", "status"])
    active = Gauge("active_requests", "Active requests.")
    app = _application(lambda number: logger.info("order {} placed", number))
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


def _logfire(endpoints: Endpoints) -> Built:
    """As https://logfire.pydantic.dev/docs/integrations/web-frameworks/starlette/ describes it.

    Another backend than its own: https://logfire.pydantic.dev/docs/how-to-guides/alternative-backends.
    """
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoints.http
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "100000"
    import logfire

    logfire.configure(service_name="shop", send_to_logfire=False, console=False)
    app = _application(lambda number: logfire.info("order {number} placed", number=number))
    logfire.instrument_starlette(app)
    return app, logfire.force_flush


VARIANTS: Final[Mapping[str, Callable[[Endpoints], Built]]] = {
    "bare": _bare,
    "chatscope": _ours,
    "chatscope, stock HTTP": _ours_with_stock_http,
    "stock": _stock,
    "stock for Starlette": _stock_for_starlette,
    "prometheus, loguru": _prometheus,
    "logfire": _logfire,
}


def main() -> int:
    """Measure one variant."""
    parser = argparse.ArgumentParser(prog="python -m bench.competitors.request_service")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--grpc", required=True, help="receiver of OTLP over gRPC")
    parser.add_argument("--http", required=True, help="receiver of OTLP over HTTP")
    parser.add_argument("--requests", type=int, required=True)
    given = parser.parse_args()
    app, flush = VARIANTS[given.variant](Endpoints(given.grpc, given.http))
    print(json.dumps(asdict(asyncio.run(_measure(app, flush, given.requests)))))
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
