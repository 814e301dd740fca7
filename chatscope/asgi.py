"""HTTP server spans and metrics around any ASGI application, on the public API of OpenTelemetry.

A request has one span, from its arrival until the last byte of its response, and the HTTP server
metrics. The query is recorded nowhere. An error in here never fails a request, and what the
application raises passes unchanged.
"""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from opentelemetry.context import attach, detach
from opentelemetry.trace import (
    Span,
    Status,
    StatusCode,
    set_span_in_context,
)

from chatscope import exception_texts
from chatscope.direct_spans import DirectSpan, DirectTracer
from chatscope.guard import report
from chatscope.http_attributes import (
    content_length,
    headers_of,
    kind_of,
    request_attributes,
)
from chatscope.http_metrics import HttpMetrics
from chatscope.logs.bridge import remember_context
from chatscope.propagation import extract_parent
from chatscope.routes import FindRoute

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TRACE_ID_HEADER: Final = b"x-trace-id"
# Values of error.type for responses that did not end.
CANCELLED: Final = "cancelled"  # the client disconnected, or the server cancelled the request
INCOMPLETE: Final = "incomplete_response"  # the application returned before its last byte

_SERVER_ERROR: Final = 500
_NO_BODY: Final = b""
_FILES: Final = ("http.response.pathsend", "http.response.zerocopysend")


class HttpTelemetry:
    """An ASGI application around `app` that records each HTTP request."""

    def __init__(
        self, app: App, find_route: FindRoute, tracer: DirectTracer, metrics: HttpMetrics
    ) -> None:
        self._app = app
        self.find_route = find_route
        self.tracer = tracer
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        try:
            request = _Request(self, scope, receive, send)
        except Exception as error:
            report("starting the span of an HTTP request", error)
            await self._app(scope, receive, send)
            return
        token = attach(request.context)
        try:
            await self._app(scope, request.receive, request.send)
        except GeneratorExit:
            # The garbage collector ends the task, in a context where the token is not valid.
            request.end(CANCELLED)
            raise
        except BaseException as error:
            if isinstance(error, Exception):
                # The server logs it when the span is no longer current.
                remember_context(error)
            detach(token)
            request.fail(error)
            raise
        detach(token)
        request.end(INCOMPLETE)


class _Request:
    """One request: what the application receives and sends, until the response has ended."""

    __slots__ = (
        "_disconnected",
        "_ended",
        "_has_trailers",
        "_is_head",
        "_kind",
        "_last_byte",
        "_length",
        "_outer",
        "_receive",
        "_received",
        "_scope",
        "_send",
        "_sends_file",
        "_sent",
        "_span",
        "_started",
        "_status",
        "context",
    )

    def __init__(self, outer: HttpTelemetry, scope: Scope, receive: Receive, send: Send) -> None:
        self._started = time.perf_counter()
        self._outer = outer
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status: int | None = None
        self._received = 0
        self._sent = 0
        self._sends_file = False
        self._has_trailers = False
        self._disconnected = False
        self._ended = False
        # Of a response with an error status: perf_counter and time_ns when it had been sent.
        self._last_byte: tuple[float, int] | None = None
        self._is_head = scope["method"] == "HEAD"
        headers = headers_of(scope)
        self._length = content_length(headers)
        self._kind = kind = kind_of(scope)
        parent = extract_parent(headers)
        self._span: Span = outer.tracer.start_server_span(
            kind.span_name, parent, *request_attributes(scope, kind, headers)
        )
        self.context = set_span_in_context(self._span, parent)
        outer.metrics.start(kind)

    async def receive(self) -> Message:
        """Receive a message for the application."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body") or _NO_BODY)
        elif message["type"] == "http.disconnect" and self._last_byte is None:
            self._disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the application.

        No coroutine of its own, because a stream sends thousands of chunks.
        """
        kind = message["type"]
        if kind == "http.response.body":
            try:  # noqa: SIM105 - a context manager takes longer than all of this
                self._sent += len(message["body"])
            except (KeyError, TypeError):
                pass  # it may be left out; other types are refused by the server
            if message.get("more_body") or self._has_trailers:
                return self._send(message)
            return self._send_last(message)
        if kind == "http.response.start":
            return self._send(self._begin(message))
        if kind in _FILES:
            self._sends_file = True
        if _is_last(message, self._has_trailers):
            return self._send_last(message)
        return self._send(message)

    def fail(self, error: BaseException) -> None:
        """End with an exception of the application."""
        if self._ended:
            return  # background work after the response
        if isinstance(error, CancelledError) or (self._disconnected and _is_disconnect(error)):
            self.end(CANCELLED)
            return
        try:
            exception_texts.record(self._span, error)
        except Exception as problem:
            report("recording an exception", problem)
        self.end(exception_texts.type_name(error))

    def end(self, error_type: str | None = None) -> None:
        """End the span and record the metrics, once.

        `error_type` is the reason for a response that has not ended.
        """
        if self._ended:
            return
        self._ended = True
        try:
            self._record(error_type)
        except Exception as error:
            report("recording an HTTP request", error)
        finally:
            # The request has ended, even if recording failed above.
            try:
                self._outer.metrics.stop(self._kind)
                if self._span.is_recording():
                    self._span.end()
            except Exception as error:
                report("ending the span of an HTTP request", error)

    def _begin(self, message: Message) -> Message:
        """Return the start of the response with the trace ID in a header."""
        try:
            self._status = int(message["status"])
            self._has_trailers = bool(message.get("trailers"))
            context = self._span.get_span_context()
            if not context.is_valid:
                return message
            # A copy: the application may send the same message to each client.
            headers = [each for each in message.get("headers", ()) if each[0] != TRACE_ID_HEADER]
            headers.append((TRACE_ID_HEADER, b"%032x" % context.trace_id))
            return {**message, "headers": headers}
        except Exception as error:
            report("reading the start of a response", error)
            return message

    async def _send_last(self, message: Message) -> None:
        await self._send(message)
        if self._status is not None and self._status >= _SERVER_ERROR:
            # The exception behind it is raised after the response.
            self._last_byte = (time.perf_counter(), time.time_ns())
        else:
            self.end()

    def _record(self, error_type: str | None) -> None:
        seconds, end_time = time.perf_counter() - self._started, None
        if self._last_byte is not None:
            seconds, end_time = self._last_byte[0] - self._started, self._last_byte[1]
        status, span = self._status, self._span
        if error_type == INCOMPLETE and self._disconnected:
            error_type = CANCELLED
        if status is None and error_type not in (None, CANCELLED, INCOMPLETE):
            # An exception: the response is that of the server, or of a middleware further out.
            status = _SERVER_ERROR
        elif status is not None and status >= _SERVER_ERROR:
            error_type = str(status)
        series = self._outer.metrics.series(
            self._kind, self._outer.find_route(self._scope), status, error_type
        )
        if span.is_recording():
            if error_type is not None and error_type != CANCELLED:
                span.set_status(Status(StatusCode.ERROR))
            if type(span) is DirectSpan:
                span.finish(series.span_name, series.span_attributes, end_time)
            else:
                span.update_name(series.span_name)
                span.set_attributes(series.span_attributes)
                span.end(end_time)
        self._outer.metrics.record(
            series,
            seconds,
            (self._received or None) if self._length is None else self._length,
            self._sent_bytes(),
            self.context if span.get_span_context().trace_flags.sampled else None,
        )

    def _sent_bytes(self) -> int | None:
        """Return the size of the response's body; None for a file, which the server reads."""
        if self._is_head:
            return 0
        return None if self._sends_file else self._sent


def _is_last(message: Message, has_trailers: bool) -> bool:
    """Return whether a message other than a body is the last of a response."""
    match message["type"]:
        case "http.response.trailers":
            return not message.get("more_trailers")
        case "http.response.pathsend":
            return not has_trailers
        case "http.response.zerocopysend":
            return not message.get("more_body") and not has_trailers
    return False


def _is_disconnect(error: BaseException) -> bool:
    # Starlette's own exception, which other frameworks do not have.
    return isinstance(error, OSError) or type(error).__name__ == "ClientDisconnect"
