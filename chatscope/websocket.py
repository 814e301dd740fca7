"""WebSocket spans and metrics: a short span for the handshake, a trace for each message.

A connection is not one long span: the span of the handshake ends when it is accepted or refused.
Each message's root span is a new trace that links to it; both have one connection ID.
"""

import time
import uuid
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagate import extract
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)

from chatscope import exception_texts, names
from chatscope.asgi import App, Message, Receive, Scope, Send
from chatscope.guard import guarded
from chatscope.http_attributes import HEADERS, headers_of, text_of
from chatscope.instruments import Instruments
from chatscope.logs.bridge import remember_context
from chatscope.logs.own import OwnLog
from chatscope.routes import FindRoute

_STATE_KEY: Final = "chatscope_socket"
# RFC 6455, section 7.4.1, and the two that IANA added since; any other is recorded as _OTHER.
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1005, 1006, *range(1007, 1016)})
_ABNORMAL: Final = 1006


class WebSocketTelemetry:
    """An ASGI application around `app` that records each WebSocket connection."""

    def __init__(
        self,
        app: App,
        find_route: FindRoute,
        tracer: Tracer,
        instruments: Instruments,
        log: OwnLog,
    ) -> None:
        self._log = log
        self._app = app
        self._find_route = find_route
        self._tracer = tracer
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket connection."""
        connection: SocketConnection | None = None
        with guarded("starting the span of a WebSocket handshake"):
            connection = SocketConnection(
                scope, self._find_route, self._tracer, self._instruments, self._log
            )
            scope.setdefault("state", {})[_STATE_KEY] = connection
        if connection is None:
            await self._app(scope, receive, send)
            return

        async def watched_receive() -> Message:
            message = await receive()
            with guarded("recording a WebSocket message"):
                connection.saw_received(message)
            return message

        async def watched_send(message: Message) -> None:
            await send(message)
            with guarded("recording a WebSocket message"):
                connection.saw_sent(message)

        with connection.context():
            try:
                await self._app(scope, watched_receive, watched_send)
            except BaseException as error:
                if isinstance(error, Exception):
                    # The server logs it when the span is no longer current.
                    remember_context(error)
                with guarded("recording a WebSocket error"):
                    connection.saw_error(error)
                raise
            finally:
                with guarded("recording the end of a WebSocket connection"):
                    connection.finish()


class SocketConnection:
    """One WebSocket connection, from its handshake to its close."""

    def __init__(
        self,
        scope: Scope,
        find_route: FindRoute,
        tracer: Tracer,
        instruments: Instruments,
        log: OwnLog,
    ) -> None:
        self._log = log
        self.id = uuid.uuid4().hex
        self._scope = scope
        self._find_route = find_route
        # Known when the application accepts or refuses.
        self._route = ""
        self._tracer = tracer
        self._instruments = instruments
        self._accepted: float | None = None
        self._close_code = _ABNORMAL
        self._span: Span = self._start_handshake(scope)
        self._context = trace.set_span_in_context(self._span)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Add the connection ID to all log records, and the trace of the handshake to those
        outside of a message's trace."""
        token = attach(trace.set_span_in_context(self._span))
        try:
            with self._log.adding({names.CONNECTION_ID: self.id}):
                yield
        except GeneratorExit:
            # The garbage collector ends the task, in a context where the token is not valid.
            raise
        except BaseException:
            detach(token)
            raise
        detach(token)

    @contextmanager
    def turn(self, name: str) -> Iterator[Span]:
        """Start a new trace for one message, with a link to the span of the handshake.

        Its root span is the current span inside; use it in a task of its own.
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
        """Record a message from the client."""
        if message["type"] == "websocket.receive":
            self._count("receive")
        elif message["type"] == "websocket.disconnect":
            self._close_code = message.get("code") or _ABNORMAL

    def saw_sent(self, message: Message) -> None:
        """Record a message that the application has sent."""
        match message["type"]:
            case "websocket.accept":
                self._accept()
            case "websocket.send":
                self._count("transmit")
            case "websocket.close":
                self._saw_close(message.get("code", 1000))
            case "websocket.http.response.start":
                self._end_handshake(message["status"])

    def saw_error(self, error: BaseException) -> None:
        """Record an exception of the application; before the accept it is a 500 response."""
        if not self._span.is_recording() or isinstance(error, CancelledError | GeneratorExit):
            return
        exception_texts.record(self._span, error)
        self._end_handshake(HTTPStatus.INTERNAL_SERVER_ERROR)

    def finish(self) -> None:
        """Record the end of the connection, once."""
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
        found = {names.CLOSE_CODE: self._close_code, "seconds": round(seconds, 3)}
        self._log.log("INFO", "socket closed", found)

    def _start_handshake(self, scope: Scope) -> Span:
        headers = headers_of(scope)
        attributes = {
            names.HTTP_REQUEST_METHOD: "GET",
            names.URL_PATH: scope["path"],
            names.NETWORK_PROTOCOL_NAME: "websocket",
            names.CONNECTION_ID: self.id,
        }
        optional = (
            (names.URL_SCHEME, scope.get("scheme")),
            (names.NETWORK_PROTOCOL_VERSION, scope.get("http_version")),
            (names.CLIENT_ADDRESS, scope["client"][0] if scope.get("client") else None),
            (names.USER_AGENT, text_of(headers.get(b"user-agent", b"")) or None),
        )
        attributes.update((name, value) for name, value in optional if value is not None)
        return self._tracer.start_span(
            "GET", extract(headers, Context(), HEADERS), SpanKind.SERVER, attributes
        )

    def _accept(self) -> None:
        self._end_handshake(HTTPStatus.SWITCHING_PROTOCOLS)
        self._accepted = time.perf_counter()
        self._instruments.record_socket_connection(1, self._context)
        self._log.log("INFO", "socket opened", {})

    def _saw_close(self, code: int) -> None:
        if self._accepted is None:
            self._end_handshake(HTTPStatus.FORBIDDEN)
        else:
            self._close_code = code

    def _end_handshake(self, status: int | None) -> None:
        self._route = self._route or self._find_route(self._scope) or ""
        if not self._span.is_recording():
            return
        if self._route:
            self._span.update_name(f"GET {self._route}")
            self._span.set_attribute(names.HTTP_ROUTE, self._route)
        if status is not None:
            self._span.set_attribute(names.HTTP_RESPONSE_STATUS_CODE, int(status))
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._span.set_attribute(names.ERROR_TYPE, str(int(status)))
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
        self._forget_handshake()

    def _forget_handshake(self) -> None:
        """Keep the IDs of the ended span only, as long as the connection: it has 3 kB."""
        ended = self._span
        self._span = NonRecordingSpan(ended.get_span_context())
        self._context = trace.set_span_in_context(self._span)
        if trace.get_current_span() is ended:
            # Until `context` ends, which restores what was current before it.
            attach(trace.set_span_in_context(self._span))

    def _count(self, direction: str) -> None:
        self._instruments.websocket_messages.add(
            1, {names.HTTP_ROUTE: self._route, names.DIRECTION: direction}, self._context
        )


def socket_connection(scope: Scope) -> SocketConnection:
    """Return the connection of a WebSocket scope."""
    connection = scope["state"][_STATE_KEY]
    assert isinstance(connection, SocketConnection)  # noqa: S101
    return connection
