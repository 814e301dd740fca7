"""Every error of a request becomes an answer in one shape, here and nowhere else."""

from collections.abc import Sequence
from http import HTTPStatus

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import InternalError, InvalidRequest, ServiceError, shorten
from chatscope.instruments import Instruments
from chatscope.tracing import current_trace_id


async def answer_error(connection: HTTPConnection, error: Exception) -> Response:
    """Render the error of a refused request, also of a WebSocket handshake, and record it."""
    if _asks_for_methods(connection, error):
        return Response(status_code=204, headers=_allow(error))
    refusal = error if isinstance(error, ServiceError) else _of_starlette(connection, error)
    record_refusal("request refused", refusal, connection.app.state.telemetry.instruments)
    return refusal.to_response(current_trace_id())


def record_refusal(text: str, error: ServiceError, instruments: Instruments) -> None:
    """Log a refusal, and count it if a limit was reached."""
    log_refusal(text, error)
    if error.limit:
        instruments.record_limit_reached(error.limit)


def log_refusal(text: str, error: ServiceError) -> None:
    """Log a refusal by its code; the message may repeat the client's own words."""
    logger.log(error.log_level, text, code=error.code, param=error.param)


class UnknownPath:
    """Refuses requests for paths without an endpoint, and names the endpoints that exist."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._endpoints = ", ".join(endpoint for route in routes for endpoint in _endpoints(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise InvalidRequest, 404, over HTTP and for a WebSocket handshake."""
        method = "WS" if scope["type"] == "websocket" else shorten(scope["method"])
        raise InvalidRequest(
            f"Unknown endpoint: {method} {shorten(scope['path'], 100)}. "
            f"Supported are {self._endpoints}.",
            code="not_found",
            status=404,
        )


class CatchAll:
    """Around the application, inside CORS: what nobody handled is our bug, logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an HTTP request through; answer 500 if it fails before its answer began."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            logger.info("client left before its request was complete")
        except Exception:
            logger.exception("request failed")
            if not started:
                await InternalError().to_response(current_trace_id())(scope, receive, send)


def _of_starlette(connection: HTTPConnection, error: Exception) -> ServiceError:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    method = connection.scope.get("method", "GET")
    return InvalidRequest(
        f"{status.phrase}: {shorten(method)} {shorten(connection.scope['path'])}",
        code=status.phrase.lower().replace(" ", "_"),
        # Not the enumeration: nobody downstream expects anything but a plain number.
        status=status.value,
        headers=_allow(error),
    )


def _asks_for_methods(connection: HTTPConnection, error: Exception) -> bool:
    wrong_method = getattr(error, "status_code", None) == HTTPStatus.METHOD_NOT_ALLOWED
    return wrong_method and connection.scope.get("method") == "OPTIONS"


def _allow(error: Exception) -> dict[str, str]:
    """The headers of a framework's error; `allow` is sorted and has OPTIONS."""
    headers = {
        name.lower(): value for name, value in (getattr(error, "headers", None) or {}).items()
    }
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted({*headers["allow"].split(", "), "OPTIONS"}))
    return headers


def _endpoints(route: BaseRoute) -> list[str]:
    """`GET /v1/models/{model}`; none for a route that is not part of the API."""
    if isinstance(route, WebSocketRoute):
        return [f"WS {route.path}"]
    if not isinstance(route, Route) or not route.include_in_schema:
        return []
    methods = sorted((route.methods or set()) - {"HEAD"})
    return [f"{method} {route.path_format}" for method in methods]
