"""HTTP spans and metrics by the stock ASGI middleware, told what it cannot know itself."""

import copy
from collections.abc import Sequence

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import names
from .routes import route_template
from .setup import Providers
from .tracing import current_trace_id

TRACE_ID_HEADER = "x-trace-id"
# Where the application's own scope waits while the stock middleware sees a copy.
_REAL_SCOPE = "chatscope.scope"


class HttpTelemetry:
    """Around an application: a span and the HTTP metrics for each request."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], providers: Providers) -> None:
        self._routes = routes
        self._stock = OpenTelemetryMiddleware(
            _Inner(app),
            default_span_details=self._span_details,
            tracer_provider=providers.tracer_provider,
            meter_provider=providers.meter_provider,
            # A span for each chunk of a streamed answer would be all that anyone sees.
            exclude_spans=["receive", "send"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The query may hold secrets, and the stock middleware would record it.
        seen = {**scope, "query_string": b"", _REAL_SCOPE: scope}
        # It keeps the content length of an answer on itself, for the next one to find.
        middleware = copy.copy(self._stock)
        await middleware(seen, receive, send)

    def _span_details(self, scope: Scope) -> tuple[str, dict[str, str]]:
        method = scope["method"]
        route = route_template(self._routes, scope)
        if route is None:
            return method, {}
        return f"{method} {route}", {names.HTTP_ROUTE: route}


class _Inner:
    """Gives the application its own scope back, and its answers their trace id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_trace_id(message: Message) -> None:
            if message["type"] == "http.response.start" and (trace_id := current_trace_id()):
                MutableHeaders(scope=message)[TRACE_ID_HEADER] = trace_id
            await send(message)

        await self._app(scope[_REAL_SCOPE], receive, send_with_trace_id)
