"""HTTP parser that ignores upgrade offers other than WebSocket handshakes.

httptools ends a request at any offer, before its body, and would parse the body as the next
request. A server may ignore an offer (RFC 9110, section 7.8); the body then belongs to the
request. Tested with httptools 0.9.0.
"""

from typing import Any, Protocol

import httptools

from app.transport.handshake import check_handshake, request_head
from app.wire.errors import HttpError

_Header = tuple[bytes, bytes]


class ParserEvents(Protocol):
    """Callbacks of the parser, and the request that they build."""

    url: bytes
    headers: list[_Header]

    def on_message_begin(self) -> None:
        """The first byte of a request."""

    def on_url(self, url: bytes) -> None:
        """A part of the target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""

    def on_headers_complete(self) -> None:
        """The end of the head."""

    def on_body(self, body: bytes) -> None:
        """A part of the body."""

    def on_message_complete(self) -> None:
        """The end of the request."""

    @property
    def may_switch(self) -> bool:
        """Whether no earlier request of the connection is still in progress."""


class RequestParser:
    """A parser with the interface of `httptools.HttpRequestParser`."""

    def __init__(self, events: ParserEvents) -> None:
        self._events = events
        self._ignored: list[_Header] | None = None  # headers of a request to be parsed again
        self._accepted = False
        # Directly, without another Python call.
        self.on_message_begin = events.on_message_begin
        self.on_url = events.on_url
        self.on_header = events.on_header
        self.on_body = events.on_body
        self._parser = self._new()

    def should_upgrade(self) -> bool:
        """Whether the current request is a WebSocket handshake that will be accepted."""
        return self._accepted

    def should_keep_alive(self) -> bool:
        """Whether the client allows another request on the connection."""
        return bool(self._parser.should_keep_alive())

    def get_http_version(self) -> str:
        """Return "1.1" or another version."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """Return the method of the current request."""
        return bytes(self._parser.get_method())

    def feed_data(self, data: bytes) -> None:
        """Parse. Raise httptools' errors; HttpParserUpgrade only for an accepted handshake."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self._ignored is None:
                    raise
                data = data[offer.args[0] :]
                self._parse_again(self._ignored)
            else:
                return

    def on_headers_complete(self) -> None:
        """Accept or ignore an upgrade offer; forward every other request."""
        self._accepted = False
        events = self._events
        if self._ignored is not None:  # parsed again: restore the headers that the client sent
            events.headers[:] = self._ignored
            self._ignored = None
        elif self._parser.should_upgrade():
            if self.get_method() == b"CONNECT":
                raise ValueError("CONNECT is not supported")
            if not self._is_handshake():
                self._ignored = list(events.headers)
                return
            self._accepted = True
        events.on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request, unless it is parsed again."""
        if self._ignored is None:
            self._events.on_message_complete()

    def _is_handshake(self) -> bool:
        events = self._events
        try:
            check_handshake(self.get_method(), events.url, events.headers, self.get_http_version())
        except HttpError:
            return False
        return events.may_switch

    def _parse_again(self, headers: list[_Header]) -> None:
        kept = [header for header in headers if header[0] != b"upgrade"]
        version = self.get_http_version().encode()
        head = request_head(self.get_method(), self._events.url, kept, version)
        self._parser = self._new()
        self._parser.feed_data(head)

    def _new(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # As in uvicorn: data after a request with `connection: close` must not end its response.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser
