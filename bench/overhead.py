"""What telemetry adds to a request and to a streamed chunk: ours, and the stock middleware.

Raw ASGI calls in this process, exporters that discard, CPU time, variants in turn so that a
noisy machine is noisy for all of them. The alternative is opentelemetry-instrumentation-asgi
as it comes, with the SDK's own self-metrics.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from statistics import median

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Scope

from chatscope import Telemetry, instrument
from chatscope.providers import VIEWS, Providers, TelemetrySettings
from stack.terminal import Terminal
from tests.memory import Memory

_CHUNKS = 200
# The names that ours has, and the SDK's own counts, as ours has them.
_STOCK_AT_ITS_BEST = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
}


class _Discard(SpanExporter):
    def export(self, spans: Sequence[object]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def _json(request: Request) -> Response:
    await request.body()
    return JSONResponse({"ok": True})


async def _stream(_: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(_CHUNKS):
            yield b"x"

    return StreamingResponse(chunks())


def _bare() -> Starlette:
    routes = [Route("/json", _json, methods=["POST"]), Route("/stream", _stream, methods=["POST"])]
    return Starlette(routes=routes)


def _ours() -> ASGIApp:
    app, tracer_provider = _bare(), TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(BatchSpanProcessor(_Discard()))
    meter_provider = MeterProvider([InMemoryMetricReader()], views=VIEWS, shutdown_on_exit=False)
    logger_provider = Memory().providers.logger_provider
    settings = TelemetrySettings(log_level="ERROR")
    instrument(
        app, Telemetry(settings, Providers(tracer_provider, meter_provider, logger_provider))
    )
    return app


def _stock() -> ASGIApp:
    meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    tracer_provider = TracerProvider(shutdown_on_exit=False, meter_provider=meter_provider)
    tracer_provider.add_span_processor(
        BatchSpanProcessor(_Discard(), meter_provider=meter_provider)
    )
    return OpenTelemetryMiddleware(
        _bare(), tracer_provider=tracer_provider, meter_provider=meter_provider
    )


_VARIANTS: Mapping[str, Callable[[], ASGIApp]] = {"bare": _bare, "ours": _ours, "stock": _stock}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    console = Terminal()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args(arguments)
    os.environ.update(_STOCK_AT_ITS_BEST)
    found = asyncio.run(_measure(options.rounds, options.requests))
    console.print(_table(found))
    return 0


async def _measure(rounds: int, requests: int) -> dict[tuple[str, str], float]:
    """CPU microseconds of a request, by variant and path: the median of the rounds."""
    apps = {name: build() for name, build in _VARIANTS.items()}
    seen: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, app in apps.items():
            for path, times in (("/json", requests), ("/stream", requests // 20)):
                seen.setdefault((name, path), []).append(await _cpu(app, path, times))
    return {key: median(values) for key, values in seen.items()}


async def _cpu(app: ASGIApp, path: str, times: int) -> float:
    await _request(app, path)
    started = time.process_time()
    for _ in range(times):
        await _request(app, path)
    return (time.process_time() - started) / times * 1e6


async def _request(app: ASGIApp, path: str) -> None:
    body: Callable[[], Awaitable[Message]] = _body()

    async def send(message: Message) -> None:
        return None

    await app(_scope(path), body, send)


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


def _table(found: Mapping[tuple[str, str], float]) -> Table:
    table = Table(title="CPU microseconds")
    for column in ("variant", "request", "added", "each chunk", "added to each"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name in _VARIANTS:
        request, chunk = found[name, "/json"], found[name, "/stream"] / _CHUNKS
        added = request - found["bare", "/json"]
        added_chunk = chunk - found["bare", "/stream"] / _CHUNKS
        table.add_row(name, f"{request:.0f}", f"{added:.0f}", f"{chunk:.2f}", f"{added_chunk:.2f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
