"""One call instruments a Starlette application: traces, metrics, logs, runtime."""

import asyncio
from collections.abc import Callable

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatscope.asgi import HttpTelemetry
from chatscope.genai.answer import Answer
from chatscope.genai.request import ModelRequest
from chatscope.http_metrics import HttpMetrics
from chatscope.instruments import Instruments
from chatscope.logs.console import observe_console
from chatscope.logs.loguru_handler import start_logging
from chatscope.logs.standard import hide_access_lines
from chatscope.providers import SCOPE, SHUTDOWN_SECONDS, Providers, build_providers
from chatscope.routes import RouteFinder
from chatscope.runtime import observe_process, watch_event_loop
from chatscope.settings import TelemetrySettings
from chatscope.tracing import use_tracer
from chatscope.websocket import WebSocketTelemetry


def instrument(
    app: Starlette,
    settings: TelemetrySettings,
    *,
    providers: Providers | None = None,
    shutdown_with_app: bool = True,
) -> "Telemetry":
    """Instrument `app`, outermost, and return the handle, also kept at `app.state.telemetry`.

    Exporters start with the application's first ASGI event, its start-up, so that a server
    may fork before it. They stop with its shutdown, unless `shutdown_with_app` is False: then
    the caller calls `shutdown()`. `providers`, for tests, stand for those that export.
    """
    telemetry = Telemetry(settings, providers)
    app.state.telemetry = telemetry
    build = app.build_middleware_stack

    def build_outermost() -> ASGIApp:
        telemetry.start()
        return _Outermost(build(), app, telemetry, shutdown_with_app)

    # Not `add_middleware`: that stands inside the handler of unhandled errors, and would
    # see no status for them.
    app.build_middleware_stack = build_outermost  # type: ignore[method-assign]
    return telemetry


class Telemetry:
    """The telemetry of one application."""

    tracer: Tracer
    meter: Meter
    instruments: Instruments
    providers: Providers

    def __init__(self, settings: TelemetrySettings, providers: Providers | None) -> None:
        self.settings = settings
        self._given = providers
        self._stop_logging: Callable[[], None] | None = None

    def start(self) -> None:
        """Build the exporters and everything that records to them; a second call does nothing."""
        if self._stop_logging is not None:
            return
        settings = self.settings
        self.providers = self._given or _global(build_providers(settings))
        version = settings.service_version
        self.tracer = self.providers.tracer_provider.get_tracer(SCOPE, version)
        self.meter = self.providers.meter_provider.get_meter(SCOPE, version)
        self.instruments = Instruments(self.meter, settings.known_models)
        observe_process(self.meter)
        observe_console(self.meter)
        hide_access_lines(settings.quiet_paths)
        self._stop_logging = start_logging(self.providers.logger_provider, settings.log_level)

    def start_answer(self, request: ModelRequest, *, started: float) -> Answer:
        """Begin one answer of a model; `started` is the perf_counter of its question's arrival."""
        return Answer(
            request,
            started=started,
            tracer=self.tracer,
            instruments=self.instruments,
            prices=self.settings.prices,
            capture_content=self.settings.capture_content,
        )

    def shutdown(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued and stop, within `seconds`; False when not all of it was sent."""
        if self._stop_logging is None:
            return True
        self._stop_logging()
        self._stop_logging = None
        return self.providers.shutdown(min(seconds, SHUTDOWN_SECONDS))


class _Outermost:
    """What a server calls: each kind of ASGI event goes to the telemetry made for it."""

    def __init__(
        self, app: ASGIApp, starlette: Starlette, telemetry: Telemetry, shutdown_with_app: bool
    ) -> None:
        self._app = app
        self._telemetry = telemetry
        self._shutdown_with_app = shutdown_with_app
        self._quiet_paths = telemetry.settings.quiet_paths
        find_route = RouteFinder(starlette)
        self._http: ASGIApp
        if telemetry.settings.http_instrumentation == "stock":
            # Not imported by default: it is slow to import, and an optional part of the package.
            from chatscope.stock_asgi import StockHttpTelemetry  # noqa: PLC0415

            self._http = StockHttpTelemetry(app, starlette.routes, telemetry.providers)
        else:
            metrics = HttpMetrics(telemetry.meter, tallied=True)
            self._http = HttpTelemetry(app, find_route, telemetry.tracer, metrics)
        self._websocket = WebSocketTelemetry(
            app, find_route, telemetry.tracer, telemetry.instruments
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["path"] in self._quiet_paths:
            await self._app(scope, receive, send)
            return
        use_tracer(self._telemetry.tracer)
        handler = self._http if scope["type"] == "http" else self._websocket
        await handler(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_after_shutdown(message: Message) -> None:
            ended = message["type"].startswith("lifespan.shutdown")
            if ended and self._shutdown_with_app:
                await asyncio.to_thread(self._telemetry.shutdown)
            await send(message)

        with watch_event_loop(self._telemetry.meter):
            await self._app(scope, receive, send_after_shutdown)


def _global(providers: Providers) -> Providers:
    """Let code that asks OpenTelemetry's API, not us, reach the same providers."""
    trace.set_tracer_provider(providers.tracer_provider)
    metrics.set_meter_provider(providers.meter_provider)
    set_logger_provider(providers.logger_provider)
    return providers
