"""Conversion of every exception of a request into a response of the same format."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import InternalError, ServiceError, ShuttingDown, shorten
from app.domain.turn import ClientDisconnected
from app.transport.refusal_log import RefusalLog
from app.transport.response import ResponseWriter
from app.wire.errors import HttpError, error_object, http_headers, http_status
from app.wire.formats import format_of
from chatscope import current_trace_id


class ErrorMiddleware:
    """Outermost middleware of the application. Requests that are refused are logged and counted
    here; all other exceptions are bugs."""

    def __init__(self, app: ASGIApp, refusals: RefusalLog) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = ResponseWriter(scope, _with_trace_id(scope["path"], send))
        try:
            await self._app(scope, receive, writer)
        except (ClientDisconnect, ClientDisconnected):
            text = "client disconnected before its request was complete"
            self._refusals.log_disconnect(text)
        except Exception as error:
            if writer.started:
                # The shutdown has cut the response, which ended with this error.
                if not (isinstance(error, ShuttingDown) and writer.complete):
                    logger.exception("request failed")
                return
            response = self._refusal(scope, error)
            if response is None:
                logger.exception("request failed")
                response = _error_response(InternalError(), scope)
            with suppress(ClientDisconnected):
                await response(scope, receive, writer)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A handshake can be refused with an HTTP response; the server handles all else."""
        try:
            await self._app(scope, receive, send)
        except (ServiceError, HTTPException) as error:
            if response := self._refusal(scope, error):
                await response(scope, receive, send)

    def _refusal(self, scope: Scope, error: Exception) -> Response | None:
        """Return the response to a request that was refused; None for a bug."""
        if isinstance(error, HTTPException):
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and scope["method"] == "OPTIONS":
                return Response(status_code=204, headers=_headers(error))
            error = _of_framework(scope, error)
        if not isinstance(error, ServiceError):
            return None
        self._refusals.log("request refused", error)
        return _error_response(error, scope)


def error_response(error: ServiceError, body: Mapping[str, Any]) -> JSONResponse:
    """Return the error as an HTTP response with this body."""
    return JSONResponse(body, http_status(error), http_headers(error))


def _error_response(error: ServiceError, scope: Scope) -> JSONResponse:
    """Return the error in the format of the requested path."""
    chosen, trace_id = format_of(scope["path"]), current_trace_id()
    body = chosen.error(error, trace_id) if chosen else error_object(error, trace_id)
    return error_response(error, body)


def _with_trace_id(path: str, send: Send) -> Send:
    """Return a `send` that adds the trace ID in the header that clients of the format read."""
    chosen = format_of(path)
    if chosen is None or chosen.trace_header is None:
        return send
    header = (chosen.trace_header.encode(), current_trace_id().encode())

    async def send_with_trace_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), header]}
        await send(message)

    return send_with_trace_id


class UnknownPath:
    """Refuses requests for unknown paths; the message lists the endpoints."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._endpoints = ", ".join(endpoint for route in routes for endpoint in _endpoints(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise HttpError, also for a WebSocket handshake."""
        method = "WS" if scope["type"] == "websocket" else shorten(scope["method"])
        raise HttpError(
            404,
            f"Unknown endpoint: {method} {shorten(scope['path'], 100)}. "
            f"Available endpoints: {self._endpoints}.",
            code="not_found",
        )


def _of_framework(scope: Scope, error: HTTPException) -> HttpError:
    status = HTTPStatus(error.status_code)
    method = scope.get("method", "GET")
    return HttpError(
        status,
        f"{status.phrase}: {shorten(method)} {shorten(scope['path'])}",
        code=status.phrase.lower().replace(" ", "_"),
        headers=_headers(error),
    )


def _headers(error: HTTPException) -> dict[str, str]:
    """Return the headers of a framework's error; `allow` is sorted and includes OPTIONS."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted({*headers["allow"].split(", "), "OPTIONS"}))
    return headers


def _endpoints(route: BaseRoute) -> list[str]:
    """Return entries such as `GET /v1/models/{model}`; none for a route outside the API."""
    if isinstance(route, WebSocketRoute):
        return [f"WS {route.path}"]
    if not isinstance(route, Route) or not route.include_in_schema:
        return []
    methods = sorted((route.methods or set()) - {"HEAD"})
    return [f"{method} {route.path_format}" for method in methods]
