"""uvicorn's protocols with bounds that it does not have: on what is sent to us before there is
a request, on clients that send slowly or do not read, and on what comes after an answer."""

import asyncio
import json
import logging
import socket
import struct
from asyncio import TimerHandle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from loguru import logger
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.domain.errors import InvalidRequest
from app.settings import Settings
from app.transport.parser import RequestParser

_ABNORMAL: Final = 1006
_INVALID_TEXT: Final = 1007
_TOO_BIG: Final = 1009


@dataclass(frozen=True)
class Bounds:
    """What a connection may cost, and whom to tell when it costs more."""

    header_bytes: int
    receive_seconds: float
    send_seconds: float
    reached: Callable[[str], None]  # with the name of the limit

    @classmethod
    def of(cls, settings: Settings, reached: Callable[[str], None]) -> "Bounds":
        """Those of the settings."""
        return cls(
            settings.max_header_bytes,
            settings.receive_timeout_seconds,
            settings.send_timeout_seconds,
            reached,
        )


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 of one client.

    What is refused here never becomes a request: it has no trace, and its error an empty
    `trace_id`.
    """

    def __init__(self, *, bounds: Bounds, **server: Any) -> None:
        super().__init__(**server)
        self._bounds = bounds
        self.parser = RequestParser(self)  # type: ignore[assignment]
        self._head_open = False  # between the first byte of a request and its last header
        self._loose_bytes = 0  # received since the parser last completed a head or a piece of body
        self._progressed = False
        self._too_long = False
        self._late: TimerHandle | None = None
        self._unread: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request's head, but not for ever."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        _cancel(self._late)
        _cancel(self._unread)
        super().connection_lost(exc)

    @property
    def may_switch(self) -> bool:
        """Whether no earlier request of the connection is still being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Parse; refuse headers, trailers and chunk extensions without end."""
        self._progressed = False
        super().data_received(data)
        if not self._progressed and not self.transport.is_closing():
            self._loose_bytes += len(data)
            if self._loose_bytes > self._bounds.header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head_open = True
        self._progress()
        if self._late is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; drop a trailer, which must not change the request (RFC 9110, 6.5.1)."""
        if self._head_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; one that came in one piece is measured now."""
        self._head_open = False
        self._progress()
        _cancel(self._late)
        self._late = None
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._bounds.header_bytes:
            self._too_long = True
            raise ValueError("the head is too long")  # uvicorn then asks for a 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._progress()
        super().on_body(body)

    def on_response_complete(self) -> None:
        """An answer that did not want the rest of its body: nor do we, it may have no end."""
        unread = self.cycle.more_body and not self.pipeline
        super().on_response_complete()
        if unread:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What the parser could not read, or we did not want to, answered in the one shape."""
        if self._too_long:
            self._refuse_head()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "invalid_http", f"{msg} Accepted is HTTP/1.1.")

    def pause_writing(self) -> None:
        """The client does not read; what we hold for it is bounded, and now the time too."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._bounds.send_seconds, self._cut)

    def resume_writing(self) -> None:
        """It read."""
        _cancel(self._unread)
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        # The parser reports no other upgrades; uvicorn reads only one of several headers.
        return True

    def _progress(self) -> None:
        self._progressed, self._loose_bytes = True, 0

    def _expect_head(self) -> None:
        self._late = self.loop.call_later(self._bounds.receive_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if not self._head_open:
            self.transport.close()  # it never asked for anything
            return
        self._bounds.reached("receive_seconds")
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            "request_timeout",
            "The headers did not arrive in time; accepted are up to "
            f"{self._bounds.receive_seconds:g} s.",
        )

    def _refuse_head(self) -> None:
        self._bounds.reached("header_bytes")
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "URL and headers are too large; accepted are up to "
            f"{self._bounds.header_bytes} bytes together.",
        )

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        error = InvalidRequest(message, code=code, status=status)
        logger.info("request refused", code=error.code)
        if self._may_answer:
            self.transport.write(_response(error))
        self.transport.close()

    @property
    def _may_answer(self) -> bool:
        """Whether the next bytes to the client are the beginning of a response."""
        if self.may_switch:
            return True
        # The body of the current request is malformed, and the application still reads it.
        return self.cycle.more_body and not self.cycle.response_started and not self.pipeline

    def _cut(self) -> None:
        self._bounds.reached("send_seconds")
        _abort(self.transport)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """WebSocket of one client; says by which code it was closed, whoever closed it."""

    def __init__(self, *, bounds: Bounds, **server: Any) -> None:
        super().__init__(**server)
        # Its lines on each handshake and close repeat ours; as uvicorn's own they would be shown.
        self.conn.logger = logging.getLogger("websockets.server")
        self._bounds = bounds
        self._unread: TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application first: uvicorn says 1005 where nothing was said at all."""
        _cancel(self._unread)
        closed = self.conn.close_rcvd or self.conn.close_sent
        code = closed.code if closed else _ABNORMAL
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        """A client's wrong bytes are its own fault: uvicorn logs an exception of ours."""
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(_INVALID_TEXT, "a text message must be UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        """Send; a response that refuses the handshake completes it, which uvicorn forgets."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def handle_parser_exception(self) -> None:
        """A frame that breaks the protocol, or a message that is too long."""
        if self.conn.close_sent is not None and self.conn.close_sent.code == _TOO_BIG:
            self._bounds.reached("body_bytes")
        super().handle_parser_exception()

    def pause_writing(self) -> None:
        """The client does not read; what we hold for it is bounded, and now the time too."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._bounds.send_seconds, self._cut)

    def resume_writing(self) -> None:
        """It read."""
        _cancel(self._unread)
        super().resume_writing()

    def _cut(self) -> None:
        self._bounds.reached("send_seconds")
        _abort(self.transport)


def _abort(transport: asyncio.Transport) -> None:
    """Close, and let the kernel forget as well: it would keep megabytes for a client that does not
    read, for as long as that goes on."""
    at_once = struct.pack("ii", 1, 0)
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    transport.abort()


def _response(error: InvalidRequest) -> bytes:
    body = json.dumps(error.body("")).encode()
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
