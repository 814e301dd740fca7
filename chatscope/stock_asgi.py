"""HTTP spans and metrics by the stock ASGI middleware, with some of its faults corrected.

Each request is served by a copy of the middleware, because it keeps the size of a response on
itself; so the copy has that of one response only, and it can be corrected before it is recorded.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from typing import cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.http import sanitize_method
from starlette.datastructures import URL, MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatscope import names
from chatscope.asgi import TRACE_ID_HEADER
from chatscope.logs.bridge import remember_context
from chatscope.providers import Providers
from chatscope.routes import route_template
from chatscope.stable_http import stable_middleware
from chatscope.tracing import current_trace_id

_DEFAULT_PORTS = {"http": 80, "https": 443}
# The key in the scope of what the stock middleware must not see, for the application.
_REQUEST = "chatscope.request"


class StockHttpTelemetry:
    """An ASGI application around `app` that records each HTTP request."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], providers: Providers) -> None:
        self._routes = routes
        self._stock = stable_middleware(
            _Inner(app),
            default_span_details=self._span_details,
            tracer_provider=providers.tracer_provider,
            meter_provider=providers.meter_provider,
            # Or each chunk of a stream would have a span.
            exclude_spans=["receive", "send"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        middleware = copy.copy(self._stock)
        request = _Request(scope, middleware)
        middleware.duration_histogram_new = request
        # The query may hold secrets, and the stock middleware would record it.
        seen = {
            **scope,
            "query_string": b"",
            "headers": [(name, _utf8(value)) for name, value in scope["headers"]],
            _REQUEST: request,
        }
        await middleware(seen, receive, send)

    def _span_details(self, scope: Scope) -> tuple[str, dict[str, str | int]]:
        # What the client asked for; the stock middleware has where the server listens.
        url = URL(scope=scope)
        attributes: dict[str, str | int] = {
            names.SERVER_ADDRESS: url.hostname or "",
            names.SERVER_PORT: url.port or _DEFAULT_PORTS.get(url.scheme, 0),
        }
        method = sanitize_method(scope["method"])
        name = "HTTP" if method == names.OTHER else method
        route = route_template(self._routes, scope)
        if route is None:
            return name, attributes
        return f"{name} {route}", {**attributes, names.HTTP_ROUTE: route}


def _utf8(value: bytes) -> bytes:
    """Return a value as UTF-8; the stock middleware raises for some that are not."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


class _Request:
    """One request, in the place of the middleware's duration histogram."""

    def __init__(self, scope: Scope, middleware: OpenTelemetryMiddleware) -> None:
        self.scope = scope
        self._middleware = middleware
        self._histogram = cast(Histogram, middleware.duration_histogram_new)
        self._started = time.perf_counter()
        self._seconds: float | None = None
        self._body_bytes = 0
        self._started_response = False
        self._error: dict[str, str | int] | None = None

    def record(self, seconds: float, attributes: Mapping[str, str | int], context: Context) -> None:
        """Record the duration until the last byte, as the span has it."""
        until_last_byte = seconds if self._seconds is None else self._seconds
        if self._error is not None:
            attributes = {**attributes, **self._error}
        self._histogram.record(until_last_byte, attributes, context)

    def sent(self, message: Message) -> None:
        """Count a message that was sent."""
        if message["type"] == "http.response.start":
            self._started_response = True
        elif message["type"] == "http.response.body":
            self._body_bytes += len(message.get("body", b""))
            # The bytes that were sent, not the announced ones. (Its type is inferred from its first
            # value, None.)
            self._middleware.content_length_header = self._body_bytes  # type: ignore[assignment]
            if not message.get("more_body", False):
                self._seconds = time.perf_counter() - self._started

    def failed(self, error: Exception) -> None:
        """Count an exception that leaves the application: the server responds with 500."""
        self._error = {names.ERROR_TYPE: type(error).__qualname__}
        if not self._started_response:
            self._error[names.HTTP_RESPONSE_STATUS_CODE] = 500
        span = trace.get_current_span()
        span.set_attributes(self._error)
        span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))


class _Inner:
    """Hands the application its own scope, and adds the trace ID to its responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: _Request = scope[_REQUEST]

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and (trace_id := current_trace_id()):
                MutableHeaders(scope=message)[TRACE_ID_HEADER.decode()] = trace_id
            await send(message)
            request.sent(message)

        try:
            await self._app(request.scope, receive, watched_send)
        except Exception as error:
            remember_context(error)
            request.failed(error)
            raise
