"""uvicorn's protocols with limits that it lacks: on the size of a request's head, on clients that
send or read slowly, and on data after a response."""

import asyncio
import json
import logging
import socket
import struct
from asyncio import TimerHandle
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from app.settings import Settings
from app.transport.inbox import Gate, Inbox
from app.transport.parser import RequestParser
from app.transport.refusal_log import ACCESS_LOGGER, OnLimit, RefusalLog, ServerLog
from app.transport.response import SECURITY_HEADERS
from app.wire.errors import HttpError, error_object

_TRACE_CONTEXT: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})
_ABNORMAL: Final = 1006
_INVALID_TEXT: Final = 1007
_TOO_BIG: Final = 1009


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one connection."""

    header_bytes: int
    receive_seconds: float
    send_seconds: float
    trusted: Sequence[IPv4Network | IPv6Network]
    on_limit: OnLimit  # called with the name of a limit that was reached
    refusals: RefusalLog

    @classmethod
    def from_settings(
        cls, settings: Settings, on_limit: OnLimit, refusals: RefusalLog
    ) -> "ConnectionLimits":
        """Return the configured limits."""
        return cls(
            settings.max_header_bytes,
            settings.receive_timeout_seconds,
            settings.send_timeout_seconds,
            tuple(map(ip_network, settings.trusted_peers)),
            on_limit,
            refusals,
        )

    def trusts(self, client: tuple[str, int] | None) -> bool:
        """Whether the trace context of a connected client is accepted."""
        try:
            address = ip_address(client[0]) if client else None
        except ValueError:
            return False
        return address is None or any(address in network for network in self.trusted)


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection of one client.

    Input refused here never becomes a request: it has no trace, and the `trace_id` of its error
    is empty.
    """

    def __init__(self, *, limits: ConnectionLimits, **server: Any) -> None:
        super().__init__(**server)
        self._limits = limits
        self.logger = ServerLog("uvicorn.error", limits.refusals)  # type: ignore[assignment]
        self.access_logger = ServerLog(ACCESS_LOGGER, limits.refusals)  # type: ignore[assignment]
        self.parser = RequestParser(self)  # type: ignore[assignment]
        self._head_open = False  # between a request's first byte and its last header
        self._unparsed_bytes = 0  # since the parser last completed a head or a part of a body
        self._progressed = False
        self._head_too_large = False
        self._trusted = True
        self._head_timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for the first head."""
        super().connection_made(transport)
        self._trusted = self._limits.trusts(self.client)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        _cancel(self._head_timer)
        _cancel(self._send_timer)
        super().connection_lost(exc)

    @property
    def may_switch(self) -> bool:
        """Whether no earlier request of the connection is still in progress."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Parse; refuse endless headers, trailers and chunk extensions."""
        self._progressed = False
        super().data_received(data)
        if not self._progressed and not self.transport.is_closing():
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > self._limits.header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head_open = True
        self._mark_progress()
        if self._head_timer is None:
            self._start_head_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; drop a trailer, which must not change the request (RFC 9110, 6.5.1)."""
        if self._head_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the size of the head, which may have arrived in one read."""
        self._head_open = False
        self._mark_progress()
        _cancel(self._head_timer)
        self._head_timer = None
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.header_bytes:
            self._head_too_large = True
            raise ValueError("the head is too large")  # uvicorn then calls `send_400_response`
        if not self._trusted:
            # In place: uvicorn has handed the list to the request.
            self.headers[:] = [each for each in self.headers if each[0] not in _TRACE_CONTEXT]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._mark_progress()
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Close if the response did not read the whole body: the rest may be endless."""
        has_unread_body = self.cycle.more_body and not self.pipeline
        super().on_response_complete()
        if has_unread_body:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse a head that is malformed or too large."""
        if self._head_too_large:
            self._refuse_head()
        else:
            self._refuse(400, "invalid_http", f"{msg} Only HTTP/1.1 is accepted.")

    def pause_writing(self) -> None:
        """The client does not read: its buffer is limited already; start the time limit."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._limits.send_seconds, self._cut)

    def resume_writing(self) -> None:
        """The client reads again."""
        _cancel(self._send_timer)
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        # The parser reports accepted handshakes only; uvicorn reads only one of several headers.
        return True

    def _mark_progress(self) -> None:
        self._progressed, self._unparsed_bytes = True, 0

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.receive_seconds, self._head_timed_out)

    def _head_timed_out(self) -> None:
        if not self._head_open:
            self.transport.close()  # no request was started
            return
        self._limits.on_limit("receive_seconds")
        self._refuse(
            408,
            "request_timeout",
            f"The headers did not arrive within {self._limits.receive_seconds:g} s.",
        )

    def _refuse_head(self) -> None:
        self._limits.on_limit("header_bytes")
        self._refuse(
            431,
            "headers_too_large",
            f"URL and headers are larger than {self._limits.header_bytes} bytes together.",
        )

    def _refuse(self, status: int, code: str, message: str) -> None:
        error = HttpError(status, message, code=code)
        self._limits.refusals.log("request refused", error)
        if self._may_respond:
            self.transport.write(_response(error))
        self.transport.close()

    @property
    def _may_respond(self) -> bool:
        """Whether the next bytes to the client are the beginning of a response."""
        if self.may_switch:
            return True
        # The body of the current request is malformed, and the application still reads it.
        return self.cycle.more_body and not self.cycle.response_started and not self.pipeline

    def _cut(self) -> None:
        self._limits.on_limit("send_seconds")
        _abort(self.transport)


class LimitedWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket connection of one client; reports the close code, whichever side closed it."""

    def __init__(self, *, limits: ConnectionLimits, **server: Any) -> None:
        super().__init__(**server)
        # Its log lines on each handshake and close repeat those of the application. With uvicorn's
        # logger they would be printed.
        self.logger = ServerLog("uvicorn.error", limits.refusals)  # type: ignore[assignment]
        self.conn.logger = logging.getLogger("websockets.server")
        self.queue = Inbox()  # type: ignore[assignment]
        self.writable = Gate()  # type: ignore[assignment]
        self._limits = limits
        self._send_timer: TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the code first: uvicorn reports 1005 for a connection that was cut."""
        _cancel(self._send_timer)
        closed = self.conn.close_rcvd or self.conn.close_sent
        code = closed.code if closed else _ABNORMAL
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        """Refuse invalid UTF-8 as the client's mistake: uvicorn would log an exception."""
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.frames = []
            if self.conn.state is not State.OPEN:  # another frame of the same read has closed it
                return
            self.conn.send_close(_INVALID_TEXT, "a text message must be UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def start_keepalive(self) -> None:
        """Send pings, outside of the trace of the handshake: a timer keeps its context."""
        Context().run(super().start_keepalive)

    async def send(self, message: Any) -> None:
        """Send. A response that refuses the handshake completes it, which uvicorn does not note."""
        await super().send(message)
        match message["type"]:
            case "websocket.accept":  # the next 7 kB are not needed any more
                self.request.headers.clear()  # the parser keeps the request itself
                del self.request, self.response
            case "websocket.http.response.body" if not message.get("more_body"):
                self.handshake_complete = True

    def handle_parser_exception(self) -> None:
        """A frame that violates the protocol, or a message that is too large."""
        if self.conn.close_sent is not None and self.conn.close_sent.code == _TOO_BIG:
            self._limits.on_limit("body_bytes")
        super().handle_parser_exception()

    def pause_writing(self) -> None:
        """The client does not read: its buffer is limited already; start the time limit."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._limits.send_seconds, self._cut)

    def resume_writing(self) -> None:
        """The client reads again."""
        _cancel(self._send_timer)
        super().resume_writing()

    def _cut(self) -> None:
        self._limits.on_limit("send_seconds")
        _abort(self.transport)


def _abort(transport: asyncio.Transport) -> None:
    """Close and discard the kernel's buffer, which could keep megabytes for a client that does not
    read for an unlimited time."""
    discard = struct.pack("ii", 1, 0)
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, discard)
    transport.abort()


def _response(error: HttpError) -> bytes:
    body = json.dumps(error_object(error, "")).encode()
    headers = {
        **SECURITY_HEADERS,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
