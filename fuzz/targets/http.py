"""HTTP heads and bodies, WebSocket handshakes and frames, and headers that the service reads."""

import asyncio
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any, Final

import httptools
import uvicorn
from opentelemetry import baggage, trace
from opentelemetry.propagate import inject
from starlette.datastructures import Headers
from starlette.requests import Request
from uvicorn.server import ServerState
from websockets.speedups import apply_mask

from app.domain.identity import Identity
from app.transport.authentication import _presented
from app.transport.body import _check_type
from app.transport.handshake import check_handshake, request_head
from app.transport.origins import Origins
from app.transport.parser import RequestParser
from app.transport.protocol import ConnectionLimits, LimitedHttpProtocol, LimitedWebSocketProtocol
from app.transport.refusal_log import RefusalLog
from app.wire.errors import HttpError
from chatscope.propagation import extract_parent
from fuzz.source import Source
from fuzz.target import Target, ensure

_KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="
_HANDSHAKE: Final = (
    b"GET /ws/chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + _KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _ignore(limit: str) -> None:
    """Count nothing."""


_LIMITS: Final = ConnectionLimits(2_000, 30.0, 30.0, (), _ignore, RefusalLog(1, _ignore))
_WORDS: Final = (
    *("GET", "POST", "HEAD", "CONNECT", "OPTIONS", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "HTTP/2.0"),
    *("Host: a\r\n", "Content-Length: 3\r\n", "Content-Length: 0\r\n", "Expect: 100-continue\r\n"),
    *("Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: Upgrade\r\n"),
    *("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", "Sec-WebSocket-Version: 13\r\n", "\r\n\r\n"),
    *(
        "0\r\n\r\n",
        "3\r\nabc\r\n",
        "ffffffff\r\n",
        "3;a=b\r\n",
        "Trailer: x\r\n",
        "/v1/models",
        "%zz",
    ),
)


class _Recorder:
    """The requests that a parser reports."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.requests: list[tuple[Any, ...]] = []
        self.may_switch = True
        self._body = b""
        self.parser: RequestParser | None = None
        self._in_head = False

    def on_message_begin(self) -> None:
        self.url, self.headers, self._body, self._in_head = b"", [], b"", True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self.parser
        self.requests.append((self.parser.get_method(), self.url, tuple(self.headers), self._body))


def _parsed(pieces: Sequence[bytes]) -> tuple[list[tuple[Any, ...]], str]:
    recorder = _Recorder()
    recorder.parser = parser = RequestParser(recorder)
    for piece in pieces:
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            return recorder.requests, "upgrade"
        except httptools.HttpParserError:
            return recorder.requests, "error"
    return recorder.requests, ""


def _check_parser(data: bytes) -> None:
    """The same requests, however the input is divided."""
    source = Source(data)
    pieces = source.pieces(source.take(len(data) - min(8, len(data))))
    whole, divided = _parsed([b"".join(pieces)]), _parsed(pieces)
    ensure(whole == divided, "requests do not depend on how the input is divided")
    for _, url, headers, _ in whole[0]:
        ensure(not set(b"\r\n ") & set(url), "a target is one word")
        for name, value in headers:
            ensure(b"\n" not in name + value and b"\0" not in name + value, "a header is a line")


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0


class _App:
    """Reads a request and responds; keeps the messages of a WebSocket."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                self.messages.append(message)
            self.messages.append(message)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        self.messages.append({"path": scope["raw_path"], "body": body})
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


class _Connection:
    """One connection to a protocol, in an event loop that is never left."""

    loop: Final = asyncio.new_event_loop()
    faults: Final[list[str]] = []

    def __init__(self) -> None:
        self.app = _App()
        self.transport = _Transport()
        self.config = copy(_config())
        self.config.loaded_app = self.app

    def run(self, kind: type, pieces: Sequence[bytes]) -> tuple[bytes, list[dict[str, Any]]]:
        """Feed the pieces; return what was sent and the messages of the application."""
        self.faults.clear()
        self.loop.set_exception_handler(lambda loop, context: self.faults.append(str(context)))
        self.loop.run_until_complete(self._feed(kind, pieces))
        ensure(not self.faults, f"no exception is left to the event loop: {self.faults[:1]}")
        return bytes(self.transport.sent), self.app.messages

    async def _feed(self, kind: type, pieces: Sequence[bytes]) -> None:
        protocol = kind(
            limits=_LIMITS,
            config=self.config,
            server_state=ServerState(),
            app_state={},
            _loop=self.loop,
        )
        self.transport.protocol = protocol
        protocol.connection_made(self.transport)
        for piece in pieces:
            if self.transport.closed:
                break
            self.transport.protocol.data_received(piece)
            await _settled()
        self.transport.protocol.connection_lost(None)
        await _settled()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            self.faults.append("a task is left")


@cache
def _config() -> uvicorn.Config:
    config = uvicorn.Config(
        _App(),
        log_config=None,
        lifespan="off",
        ws_max_size=4_096,
        ws_ping_interval=None,
        ws=_web_socket,  # type: ignore[arg-type]
        http="httptools",
    )
    config.load()
    return config


async def _settled() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def _web_socket(**given: Any) -> LimitedWebSocketProtocol:
    return LimitedWebSocketProtocol(limits=_LIMITS, **given)


def _check_connection(data: bytes) -> None:
    """Each response is HTTP with the length that it names."""
    source = Source(data)
    sent, _ = _Connection().run(LimitedHttpProtocol, source.pieces(source.rest()[:-1]))
    while sent.startswith(b"HTTP/1.1 100"):
        sent = sent.partition(b"\r\n\r\n")[2]
    while sent and not sent.startswith(b"HTTP/1.1 101"):
        ensure(sent.startswith((b"HTTP/1.1 ",)), "a response begins with its status")
        head, _, sent = sent.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        if not sent[:length].startswith((b"ok", b"{")) and length:
            break  # the response to HEAD has no body
        sent = sent[length:]
        while sent.startswith(b"HTTP/1.1 100"):
            sent = sent.partition(b"\r\n\r\n")[2]


def _frames(source: Source) -> bytes:
    """Frames of a client, most of them valid."""
    found = b""
    while not source.ended:
        first, kind = source.byte(), source.byte()
        payload = source.take(source.below(40)) * (1 if first & 0x40 else 1 + source.below(3) * 60)
        mask = b"\x01\x02\x03\x04"
        length = len(payload)
        if kind % 16 == 0:
            length += source.below(256) - 128
        head = bytes([(first & 0x8F) | (first & 0x70 if kind % 8 == 1 else 0)])
        masked = 0 if kind % 16 == 2 else 0x80
        if 0 <= length < 126:
            head += bytes([masked | length])
        elif length < 65_536:
            head += bytes([masked | 126]) + (length % 65_536).to_bytes(2, "big")
        body = apply_mask(payload, mask) if masked else payload
        found += head + (mask if masked else b"") + body
    return found


_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1016)})


def _check_frames(data: bytes) -> None:
    """Texts are texts, however the frames arrive; what is sent is valid for a client."""
    source = Source(data)
    raw = source.byte() == 255
    frames = source.rest() if raw else _frames(source)
    pieces = Source(data[::-1]).pieces(frames)
    results = []
    for parts in ([frames], pieces):
        connection = _Connection()
        sent, messages = connection.run(LimitedHttpProtocol, [_HANDSHAKE, *parts])
        head, _, out = sent.partition(b"\r\n\r\n")
        ensure(head.startswith(b"HTTP/1.1 101"), "a valid handshake is accepted")
        received = [each for each in messages if each["type"] == "websocket.receive"]
        for each in received:
            ensure(isinstance(each.get("text", ""), str), "a message is a text, or bytes")
        _check_sent(out)
        results.append(received)
    # Of a read with a frame that violates the protocol, nothing is passed on.
    length = min(map(len, results))
    ensure(results[0][:length] == results[1][:length], "messages do not depend on the division")


def _check_sent(out: bytes) -> None:
    """Check the frames of a server: complete, not masked, with a documented code at the end."""
    while out:
        kind, length = out[0] & 0x0F, out[1]
        ensure(kind in (1, 2, 8, 9, 10) and length < 126, "a frame is one of a server")
        payload, out = out[2 : 2 + length], out[2 + length :]
        ensure(len(payload) == length, "a frame is complete")
        if kind == 8 and payload:
            code = int.from_bytes(payload[:2], "big")
            ensure(code in _CODES or 3000 <= code < 5000, f"{code} is a code of a client or ours")
            payload[2:].decode()


def _check_handshake(data: bytes) -> None:
    """A handshake is refused with a response, or accepted by the server that then gets it."""
    source = Source(data)
    headers = [
        (b"host", b"a"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", _KEY),
        (b"sec-websocket-version", b"13"),
    ]
    for _ in range(source.below(4)):
        position = source.below(len(headers) + 1)
        name = source.choice(
            [name for name, _ in headers]
            + [b"content-length", b"sec-websocket-extensions", b"sec-websocket-protocol", b"origin"]
        )
        value = source.take(source.below(30)).translate(None, b"\r\n\0")
        headers[position : position + source.below(2)] = [(name, value)]
    method = source.choice([b"GET", b"POST", b"HEAD"])
    target = b"/ws/chat" + source.take(source.below(9)).translate(None, b"\r\n \0")
    version = source.choice(["1.1", "1.0"])
    try:
        check_handshake(method, target, headers, version)
    except HttpError as error:
        ensure(error.status in (400, 426) and len(error.message) < 600, "it is the client's fault")
        return
    ensure(request_head(method, target, headers).endswith(b"\r\n\r\n"), "it is a head")


async def _none(*_: Any) -> Any:
    """Neither receive nor send."""


class _Reached(Exception):
    """A request has passed the middleware."""


async def _reach(scope: Any, receive: Any, send: Any) -> None:
    raise _Reached


_ORIGINS: Final = Origins(_reach, ("https://a.example",), frozenset({"localhost", "*.b.example"}))
_NAMES: Final = (
    *("host", "origin", "content-type", "content-encoding", "content-length", "authorization"),
    *("x-api-key", "api-key", "x-user-id", "x-session-id", "x-conversation-id", "cookie"),
)
_VALUES: Final = (
    *("localhost", "a.b.example:80", "[::1]:3000", "127.0.0.1", "https://a.example", "null"),
    *("application/json", "application/json; charset=utf-8", "identity", "gzip", "Bearer key"),
    *("http://localhost", "999999999999999999999999", "0x10", "-1"),
)


def _check_headers(data: bytes) -> None:
    source = Source(data)
    headers = [
        (source.choice(_NAMES).encode(), source.text(_VALUES).encode("latin-1", "replace"))
        for _ in range(source.below(6))
    ]
    scope = {
        "type": "http",
        "http_version": source.choice(["1.1", "1.0"]),
        "headers": headers,
        "method": "POST",
        "path": "/",
        "query_string": b"",
    }
    for check in (
        lambda: _ORIGINS(scope, _none, _none).send(None),
        lambda: _check_type(Request(scope)),
    ):
        try:
            check()
        except _Reached:
            pass
        except HttpError as error:
            ensure(400 <= error.status < 500 and len(error.message) < 600, "it is refused, shortly")
    list(_presented(scope))
    identity = Identity.of({}, {}, Headers(scope=scope))
    for text in (identity.user_id, identity.session_id, identity.conversation_id):
        ensure(
            text is None or (0 < len(text) <= 256 and text.isprintable()), "an identity is a word"
        )


_PARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_PROPAGATION: Final = (
    *("traceparent", "tracestate", "baggage"),
    *(_PARENT, "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "ff" + _PARENT[2:], "a=1,b=2", "k=v;p=q"),
    *("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=%20%zz", ",,", "=", "a" * 300 + "=1"),
)


def _check_propagation(data: bytes) -> None:
    """A context is valid and can be sent on, or it is ignored."""
    source = Source(data)
    headers = {}
    for name in (b"traceparent", b"tracestate", b"baggage"):
        if source.below(8):
            parts = [source.text(_PROPAGATION) for _ in range(1 + source.below(3))]
            headers[name] = ",".join(parts).encode("utf-8", "replace")
            if source.below(8) == 0:
                headers[name] = headers[name].replace(b",", b"-")
    context = extract_parent(headers)
    span = trace.get_current_span(context).get_span_context()
    if span.is_valid:
        ensure(0 < span.trace_id < 2**128 and 0 < span.span_id < 2**64, "IDs have their size")
    carrier: dict[str, str] = {}
    inject(carrier, context=context)
    for sent in carrier.values():
        ensure("\n" not in sent and "\r" not in sent, "a header is one line")
    for key, found in baggage.get_all(context).items():
        ensure(isinstance(key, str) and isinstance(found, str), "baggage is text")


_HOST: Final = b"Host: a\r\n"
_REQUESTS: Final = (
    b"GET /v1/models HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\n" + _HOST + b"Content-Length: 3\r\n\r\nabc"
    b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Content-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Expect: 100-continue\r\nConnection: close\r\n"
    b"Content-Length: 1\r\n\r\na",
    _HANDSHAKE,
)
_TAIL: Final = b"\x00\x40\x80\xc0\x02\x03\x04\x05"
TARGETS: Final = (
    Target("http_parser", _check_parser, tuple(each + _TAIL for each in _REQUESTS), _WORDS, 400),
    Target(
        "http_connection", _check_connection, tuple(each + b"\0" for each in _REQUESTS), _WORDS, 400
    ),
    Target(
        "websocket_frames",
        _check_frames,
        (
            b"\0\x81\5\5hello",
            b"\0\1\3\3abc\x80\3\3def\x89\3\1p\x88\3\2\x03\xe8",
            b"\0\x81\3\3\xff\xfe\xfd",
            b"\xff\x82\x80\0\0\0\0",
            b"\0\x81\x01\x27" + b"a" * 39 + b"\xff",
        ),
        (),
        300,
    ),
    Target(
        "websocket_handshake",
        _check_handshake,
        (b"", b"\1\3\3\5abcde"),
        ("permessage-deflate",),
        200,
    ),
    Target("request_headers", _check_headers, (b"\1\0\0\0", b"\2\0\0\0\1\0\4"), _VALUES, 200),
    Target("propagation", _check_propagation, (b"\1\0\3\0\1\0\6\0\1\0\x08",), _PROPAGATION, 300),
)
