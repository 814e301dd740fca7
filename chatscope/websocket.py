"""WebSocket spans and metrics: a short span for the handshake, a trace for each message.

A connection is not one endless span: the handshake's ends at accept or refusal. Each
message's root span is a new trace that links to it; one connection id is on both.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from loguru import logger
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatscope import names
from chatscope.attributes import known
from chatscope.instruments import Instruments
from chatscope.routes import route_template

_STATE_KEY: Final = "chatscope_socket"
# RFC 6455, section 7.4.1, and the two that IANA added since; any other is one word.
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1005, 1006, *range(1007, 1016)})
_ABNORMAL: Final = 1006


class WebSocketTelemetry:
    """Around an application: what a WebSocket connection is made of."""

    def __init__(
        self, app: ASGIApp, routes: Sequence[BaseRoute], tracer: Tracer, instruments: Instruments
    ) -> None:
        self._app = app
        self._routes = routes
        self._tracer = tracer
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_template(self._routes, scope)
        connection = SocketConnection(scope, route, self._tracer, self._instruments)
        scope.setdefault("state", {})[_STATE_KEY] = connection

        async def watched_receive() -> Message:
            message = await receive()
            connection.saw_received(message)
            return message

        async def watched_send(message: Message) -> None:
            await send(message)
            connection.saw_sent(message)

        with connection.context():
            try:
                await self._app(scope, watched_receive, watched_send)
            except Exception as error:
                connection.saw_error(error)
                raise
            finally:
                connection.finish()


class SocketConnection:
    """One WebSocket connection, from its handshake to its close."""

    def __init__(
        self, scope: Scope, route: str | None, tracer: Tracer, instruments: Instruments
    ) -> None:
        self.id = uuid.uuid4().hex
        self._route = route or ""
        self._tracer = tracer
        self._instruments = instruments
        self._accepted: float | None = None
        self._close_code = _ABNORMAL
        self._span = self._start_handshake(scope)
        self._context = trace.set_span_in_context(self._span)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Put the connection's id on all log lines, and its handshake's trace on those
        that no message's trace claims."""
        with (
            logger.contextualize(**{names.CONNECTION_ID: self.id}),
            trace.use_span(self._span, record_exception=False, set_status_on_exception=False),
        ):
            yield

    @contextmanager
    def turn(self, name: str) -> Iterator[Span]:
        """The root span of a new trace for one message, linked to the handshake's span.

        Use it in the turn's own task: it is the current span inside.
        """
        with self._tracer.start_as_current_span(
            f"{name} {self._route}",
            context=Context(),
            kind=SpanKind.SERVER,
            links=[Link(self._span.get_span_context())],
            attributes={
                names.CONNECTION_ID: self.id,
                names.HTTP_ROUTE: self._route,
                names.NETWORK_PROTOCOL_NAME: "websocket",
            },
        ) as span:
            yield span

    def saw_received(self, message: Message) -> None:
        """A message from the server towards the application."""
        if message["type"] == "websocket.receive":
            self._count("receive")
        elif message["type"] == "websocket.disconnect":
            self._close_code = message.get("code") or _ABNORMAL

    def saw_sent(self, message: Message) -> None:
        """A message from the application that went out."""
        match message["type"]:
            case "websocket.accept":
                self._accept()
            case "websocket.send":
                self._count("transmit")
            case "websocket.close":
                self._saw_close(message.get("code", 1000))
            case "websocket.http.response.start":
                self._end_handshake(message["status"])

    def saw_error(self, error: Exception) -> None:
        """The application raised: before the accept, that is the handshake's answer."""
        if self._span.is_recording():
            self._span.record_exception(error)
            self._end_handshake(HTTPStatus.INTERNAL_SERVER_ERROR)

    def finish(self) -> None:
        """The application is done with the connection, however it ended."""
        if self._span.is_recording():
            self._end_handshake(None)
        if self._accepted is None:
            return
        seconds = time.perf_counter() - self._accepted
        self._accepted = None
        code = str(self._close_code) if self._close_code in _CLOSE_CODES else names.OTHER
        self._instruments.record_socket_connection(-1, self._context)
        self._instruments.websocket_duration.record(
            seconds,
            {names.HTTP_ROUTE: self._route, names.CLOSE_CODE: code},
            self._context,
        )
        logger.bind(**{names.CLOSE_CODE: self._close_code, "seconds": round(seconds, 3)}).info(
            "socket closed"
        )

    def _start_handshake(self, scope: Scope) -> Span:
        headers = Headers(scope=scope)
        return self._tracer.start_span(
            f"GET {self._route}".rstrip(),
            context=extract(headers),
            kind=SpanKind.SERVER,
            attributes=known(
                {
                    names.HTTP_REQUEST_METHOD: "GET",
                    names.HTTP_ROUTE: self._route or None,
                    names.URL_PATH: scope["path"],
                    names.URL_SCHEME: scope.get("scheme"),
                    names.NETWORK_PROTOCOL_NAME: "websocket",
                    names.NETWORK_PROTOCOL_VERSION: scope.get("http_version"),
                    names.CLIENT_ADDRESS: scope["client"][0] if scope.get("client") else None,
                    names.USER_AGENT: headers.get("user-agent"),
                    names.CONNECTION_ID: self.id,
                }
            ),
        )

    def _accept(self) -> None:
        self._end_handshake(HTTPStatus.SWITCHING_PROTOCOLS)
        self._accepted = time.perf_counter()
        self._instruments.record_socket_connection(1, self._context)
        logger.info("socket opened")

    def _saw_close(self, code: int) -> None:
        if self._accepted is None:
            self._end_handshake(HTTPStatus.FORBIDDEN)
        else:
            self._close_code = code

    def _end_handshake(self, status: int | None) -> None:
        if not self._span.is_recording():
            return
        if status is not None:
            self._span.set_attribute(names.HTTP_RESPONSE_STATUS_CODE, int(status))
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._span.set_attribute(names.ERROR_TYPE, str(int(status)))
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def _count(self, direction: str) -> None:
        self._instruments.websocket_messages.add(
            1, {names.HTTP_ROUTE: self._route, names.DIRECTION: direction}, self._context
        )


def socket_connection(scope: Scope) -> SocketConnection:
    """The connection that the middleware made for this scope."""
    connection = scope["state"][_STATE_KEY]
    assert isinstance(connection, SocketConnection)  # noqa: S101
    return connection
