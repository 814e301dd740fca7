"""What a server calls: each kind of ASGI event goes to the telemetry made for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from chatscope.asgi import App, HttpTelemetry, Message, Receive, Scope, Send
from chatscope.guard import guarded
from chatscope.logs.bridge import leave
from chatscope.routes import RouteFinder
from chatscope.runtime import watch_event_loop
from chatscope.websocket import WebSocketTelemetry

if TYPE_CHECKING:
    from chatscope.telemetry import Telemetry

# In the scope of a request that a middleware further out has instrumented.
_SEEN: Final = "chatscope.instrumented"
_FLUSH_SECONDS: Final = 2.5


class TelemetryMiddleware:
    """Instruments one ASGI application.

    `app` is what is called; `application` is the framework's object, which knows the routes.
    """

    def __init__(
        self,
        app: App,
        telemetry: Telemetry,
        application: object = None,
        *,
        flush_with_app: bool = True,
    ) -> None:
        self.app = app
        self._telemetry = telemetry
        self._flush_with_app = flush_with_app
        self._quiet_paths = telemetry.settings.quiet_paths
        self._find_route = RouteFinder(application)
        self._http = self._http_telemetry(application)
        self._websocket: WebSocketTelemetry | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif (
            kind not in ("http", "websocket")
            or _SEEN in scope
            or scope["path"] in self._quiet_paths
        ):
            await self.app(scope, receive, send)
        else:
            scope[_SEEN] = True
            token = self._telemetry.enter_request()
            try:
                handler = self._http if kind == "http" else self._websockets()
                await handler(scope, receive, send)
            finally:
                leave(token)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the application, for servers and test clients that ask for one."""
        if name == "app":  # not set yet: this is a copy in the making
            raise AttributeError(name)
        return getattr(self.app, name)

    def _http_telemetry(self, application: object) -> App:
        telemetry = self._telemetry
        if telemetry.settings.http_instrumentation == "stock":
            # An optional part of the package, and slow to import.
            from chatscope.stock_asgi import StockHttpTelemetry  # noqa: PLC0415

            routes: Sequence[Any] = getattr(application, "routes", None) or ()
            return StockHttpTelemetry(self.app, routes, telemetry.providers)
        return HttpTelemetry(self.app, self._find_route, telemetry.tracer, telemetry.http_metrics)

    def _websockets(self) -> WebSocketTelemetry:
        """Return the WebSocket part, whose metrics exist from the first WebSocket on."""
        if self._websocket is None:
            telemetry = self._telemetry
            self._websocket = WebSocketTelemetry(
                self.app,
                self._find_route,
                telemetry.tracer,
                telemetry.instruments,
                telemetry.own_log("chatscope.websocket"),
            )
        return self._websocket

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifespan = _Lifespan(self._telemetry, receive, send, flush=self._flush_with_app)
        try:
            if self._telemetry.settings.event_loop_metrics:
                with watch_event_loop(self._telemetry.meter, self._telemetry.settings.prefix):
                    await self.app(scope, lifespan.receive, lifespan.send)
            else:
                await self.app(scope, lifespan.receive, lifespan.send)
        except Exception as error:
            if not lifespan.began:
                await lifespan.run_alone()
                return
            await lifespan.failed(error)
            raise


class _Lifespan:
    """Watches the start and the end of an application."""

    def __init__(self, telemetry: Telemetry, receive: Receive, send: Send, *, flush: bool) -> None:
        self._telemetry = telemetry
        self._receive = receive
        self._send = send
        self._flush = flush
        self.began = False
        self._starting = False

    async def receive(self) -> Message:
        self.began = True
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self._starting = True
            self._attach()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._starting = False
        elif kind == "lifespan.startup.failed":
            await self.failed(sys.exc_info()[1], message.get("message", ""))
        elif kind.startswith("lifespan.shutdown") and self._flush:
            await asyncio.to_thread(self._telemetry.flush_last, _FLUSH_SECONDS)
        await self._send(message)

    async def run_alone(self) -> None:
        """Start and end in place of an application without a lifespan.

        A server that has no lifespan to end may kill the process with telemetry in its queues.
        """
        for event in ("startup", "shutdown"):
            await self.receive()
            await self.send({"type": f"lifespan.{event}.complete"})

    async def failed(self, error: BaseException | None, text: str = "") -> None:
        """Report that the application did not start, and deliver that before the process ends."""
        if self._starting:
            self._starting = False
            details = f": {text}" if text and error is None else ""
            self._telemetry.log_error(f"application startup failed{details}", error)
            if self._flush:
                await asyncio.to_thread(self._telemetry.flush_last, _FLUSH_SECONDS)

    def _attach(self) -> None:
        with guarded("attaching log handlers"):
            self._telemetry.attach_logs()
