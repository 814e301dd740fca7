"""WebSocket clients that break the protocol: rejected handshakes, and invalid frames."""

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from websockets.sync.client import connect

from tests.elapsed import overload
from tests.hostile.outcome import (
    Attack,
    Group,
    attack,
    ends,
    group,
    healthy,
    no_errors,
    nothing_is_active,
)
from tests.hostile.service import ANSWER_SECONDS, Answer, Service, read_all, read_answer

_SEND_SECONDS = 1.0
_BUSY_SECONDS = 2.0
_MOST_CONNECTIONS = 20
_MOST_BYTES = 100_000
_KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_VERSION = b"sec-websocket-version: 13\r\n"
_UPGRADE = b"connection: Upgrade\r\nupgrade: websocket\r\n"
_OFFER = _UPGRADE + _VERSION + _KEY
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


def _handshake(
    more: bytes = b"",
    *,
    path: bytes = b"/ws/chat",
    offer: bytes = _OFFER,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    host: bytes = b"x",
) -> bytes:
    line = method + b" " + path + b" HTTP/" + version + b"\r\nhost: " + host + b"\r\n"
    return line + b"@" + offer + more + b"\r\n"


@dataclass(frozen=True)
class Case:
    """A handshake, its response, and whether it reached the application."""

    data: bytes
    status: int
    code: str | None
    seen: bool = True


_HANDSHAKES = {
    "a stranger's Origin": Case(
        _handshake(b"origin: http://evil.example\r\n"), 403, "origin_not_allowed"
    ),
    "a broken Origin": Case(_handshake(b"origin: http://[\r\n"), 403, "origin_not_allowed"),
    "an Origin that is not ASCII": Case(
        _handshake(b"origin: http://\xff\r\n"), 403, "origin_not_allowed"
    ),
    "an Origin with a broken port": Case(
        _handshake(b"origin: http://x:abc\r\n"), 403, "origin_not_allowed"
    ),
    "an opaque Origin": Case(_handshake(b"origin: null\r\n"), 403, "origin_not_allowed"),
    "an empty Origin": Case(_handshake(b"origin:\r\n"), 403, "origin_not_allowed"),
    "two Origins": Case(
        _handshake(b"origin: http://evil.example\r\norigin: http://x\r\n"), 400, None, seen=False
    ),
    "a huge header": Case(_handshake(b"a: " + b"a" * 50_000 + b"\r\n"), 431, None, seen=False),
    "many headers": Case(
        _handshake(b"".join(b"h%d: v\r\n" % number for number in range(1_000))),
        431,
        None,
        seen=False,
    ),
    "a very long path": Case(_handshake(path=b"/ws/" + b"a" * 50_000), 414, None, seen=False),
    "a body": Case(
        _handshake(b"content-length: 2\r\n") + b"hi", 400, None, seen=False
    ),
    "an unknown path": Case(_handshake(path=b"/ws/nothing"), 404, "not_found"),
    "a path of HTTP": Case(_handshake(path=b"/v1/models"), 404, "not_found"),
    "a path of HTTP's POST": Case(_handshake(path=b"/v1/chat/completions"), 404, "not_found"),
    "an escape that is not UTF-8": Case(_handshake(path=b"/ws/%ff"), 404, "not_found"),
    "no key": Case(_handshake(offer=_UPGRADE + _VERSION), 400, None, seen=False),
    "two keys": Case(_handshake(_KEY), 400, None, seen=False),
    "a short key": Case(
        _handshake(offer=_UPGRADE + _VERSION + b"sec-websocket-key: YQ==\r\n"),
        400,
        None,
        seen=False,
    ),
    "an old version": Case(
        _handshake(offer=_OFFER.replace(b"13", b"8")), 400, None, seen=False
    ),
    "no version": Case(_handshake(offer=_UPGRADE + _KEY), 400, None, seen=False),
    "a broken extension": Case(
        _handshake(b"sec-websocket-extensions: permessage-deflate; x=99;;\r\n"),
        400,
        None,
        seen=False,
    ),
    "a broken subprotocol": Case(
        _handshake(b"sec-websocket-protocol: ,, ;\r\n"), 400, None, seen=False
    ),
    "a POST": Case(_handshake(method=b"POST"), 405, None, seen=False),
    "a POST with a body": Case(
        _handshake(b"content-length: 2\r\n", method=b"POST") + b"hi", 405, None, seen=False
    ),
}  # fmt: skip

_HOSTILE_FRAMES = {
    "a frame without a mask": (bytes([_TEXT, 2]) + b"hi", 1002),
    "a reserved opcode": (lambda: _frame(0x83, b"hi"), 1002),
    "a reserved control opcode": (lambda: _frame(0x8F, b""), 1002),
    "a reserved bit": (lambda: _frame(_TEXT | 0x20, b"hi"), 1002),
    "a fragmented ping": (lambda: _frame(_PING & 0x7F, b"hi"), 1002),
    "a long ping": (lambda: _frame(_PING, b"x" * 126), 1002),
    "a continuation of nothing": (lambda: _frame(0x80, b"hi"), 1002),
    "a text amid a text": (lambda: _frame(0x01, b"hi") + _frame(_TEXT, b"hi"), 1002),
    "a close with half a code": (lambda: _frame(_CLOSE, b"\x03"), 1002),
    "a close with a reserved code": (lambda: _frame(_CLOSE, struct.pack(">H", 1005)), 1002),
    "a close with a reason that is not UTF-8": (
        lambda: _frame(_CLOSE, struct.pack(">H", 1000) + b"\xff"),
        1007,
    ),
    "a text that is not UTF-8": (lambda: _frame(_TEXT, b"\xff\xfe"), 1007),
    "a text with a surrogate": (lambda: _frame(_TEXT, b'"\xed\xa0\x80"'), 1007),
    "a text that is cut amid a character": (
        lambda: _frame(0x01, b"\xf0\x9f") + _frame(0x80, b""),
        1007,
    ),
    "a length of 2**63": (bytes([_TEXT, 0xFF]) + struct.pack(">Q", 2**63) + b"mask", None),
    "a length of 2**63 - 1": (bytes([_TEXT, 0xFF]) + struct.pack(">Q", 2**63 - 1) + b"mask", 1009),
    "a message that is too long": (lambda: _frame(_TEXT, b"x" * (_MOST_BYTES + 1)), 1009),
    "fragments that are too long together": (
        lambda: _frame(0x01, b"x" * 60_000) + _frame(0x80, b"x" * 60_000),
        1009,
    ),
    "HTTP": (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 1002),
    "random bytes": (lambda: os.urandom(4096), None),
}

_MESSAGES = {
    "no JSON": (b"hi", "invalid_json"),
    "an empty text": (b"", "invalid_json"),
    "open brackets": (b"[" * 50_000, "invalid_json"),
    "a long number": (b"9" * 50_000, None),
    "NaN": (b'{"type":NaN}', "invalid_json"),
    "a lone surrogate": (b'{"type":"message","content":"\\ud800"}', "invalid_json"),
    "a list": (b"[]", "unknown_type"),
    "a type that is no text": (b'{"type":{"type":"message"}}', "unknown_type"),
    "a type that nobody knows": (b'{"type":"__proto__"}', "unknown_type"),
    "a content that is no text": (b'{"type":"message","content":{"$ne":1}}', "invalid_request"),
    "no content": (b'{"type":"message"}', "invalid_request"),
    "an unknown model": (b'{"type":"message","content":"a","model":"\\u0000"}', "model_not_found"),
    "a model that is no text": (b'{"type":"message","content":"a","model":[]}', "invalid_request"),
    "an unknown key": (b'{"type":"message","content":"a","x":1}', "invalid_request"),
}


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with group(
        tmp_path_factory.mktemp("sockets"),
        SEND_TIMEOUT_SECONDS=str(_SEND_SECONDS),
        MAX_CONNECTIONS=str(_MOST_CONNECTIONS),
        MAX_BODY_BYTES=str(_MOST_BYTES),
    ) as one:
        yield one
        service = one.service()
        no_errors(service)
        nothing_is_active(service)
        # It ends with connections that are silent, within a frame, or ignore a close.
        for data in (b"", b"\x81", _frame(_PING, b"hi")):
            _opened(service, data)
        ends(service)


@pytest.fixture
def service(sockets: Group) -> Service:
    return sockets.service()


@pytest.mark.parametrize("case", _HANDSHAKES.values(), ids=_HANDSHAKES)
def test_refused_handshake_is_answered_and_recorded(service: Service, case: Case) -> None:
    with attack(service) as it:
        answer = _ask(service, it, case.data)
        assert 400 <= answer.status < 500, answer
        assert answer.status == case.status or not case.seen
        error = json.loads(answer.body)["error"]
        assert error["code"] == case.code or case.code is None
        if case.seen:
            assert error["trace_id"] == it.trace_id
            it.leaves_span(http__response__status_code=case.status)
            it.leaves_log("request refused", trace_id=it.trace_id, code=case.code)
        else:
            it.leaves_log("refused", code=error["code"])


def test_handshake_of_a_health_check_is_refused(service: Service) -> None:
    with attack(service) as it:
        assert _ask(service, it, _handshake(path=b"/healthz")).status in (404, 403)
        it.leaves_log(None)


def test_handshake_of_a_full_service_is_refused_and_recorded(service: Service) -> None:
    with attack(service) as it:
        clients = [_opened(service) for _ in range(_MOST_CONNECTIONS)]
        answer = _ask(service, it, _handshake())
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
        it.leaves_span(http__response__status_code=503)
        it.leaves_log("request refused", trace_id=it.trace_id, code="too_many_connections")
        for client in clients:
            client.close()
        it.leaves("all closed", lambda: len(_closed(it)) == _MOST_CONNECTIONS)


def test_half_a_handshake_leaves_a_record(service: Service) -> None:
    """The client is gone before it gets the response."""
    with attack(service) as it:
        with service.connect() as client:
            client.sendall(_handshake().replace(b"@", it.header))
        it.leaves_span(http__route="/ws/chat")
        it.leaves_log(trace_id=it.trace_id)


@pytest.mark.parametrize(("frames", "code"), _HOSTILE_FRAMES.values(), ids=_HOSTILE_FRAMES)
def test_bad_frames_close_the_connection_with_their_code(
    service: Service, frames: object, code: int | None
) -> None:
    data = frames() if callable(frames) else frames
    assert isinstance(data, bytes)
    with attack(service) as it:
        client = _opened(service, it=it)
        client.sendall(data)
        closed = _close_code(read_all(client))
        assert closed == code or (code is None and closed in (1002, 1009, 1007))
        it.leaves_log("socket closed", trace_id=it.trace_id)


@pytest.mark.parametrize(("text", "code"), _MESSAGES.values(), ids=_MESSAGES)
def test_invalid_message_is_rejected_and_the_connection_continues(
    service: Service, text: bytes, code: str | None
) -> None:
    with attack(service) as it, connect(service.url.replace("http", "ws") + "/ws/chat") as chat:
        chat.send(text, text=True)
        error = json.loads(chat.recv(ANSWER_SECONDS))
        assert error["type"] == "error"
        if code:
            assert error["error"]["code"] == code
        chat.send('{"type":"message","content":"hi"}')
        while (message := json.loads(chat.recv(ANSWER_SECONDS)))["type"] == "delta":
            pass
        assert message["type"] == "done"
        it.leaves_log(trace_id=error["trace_id"], code=error["error"]["code"])
        it.leaves_span(trace_id=message["trace_id"], gen_ai__request__model="simulated-1")


def test_binary_message_is_refused(service: Service) -> None:
    with attack(service) as it, connect(service.url.replace("http", "ws") + "/ws/chat") as chat:
        chat.send(b"\x00\xff")
        error = json.loads(chat.recv(ANSWER_SECONDS))
        assert error["error"]["code"] == "binary_message"
        it.leaves_log(trace_id=error["trace_id"], code="binary_message")


def test_message_in_a_thousand_fragments_is_served(service: Service) -> None:
    text = b'{"type":"message","content":"hi"}'.ljust(1_000)
    fragments = [_frame(0x01, text[:1])]
    for index in range(1, len(text)):
        # Control frames may come in between.
        fragments += [_frame(0x00, text[index : index + 1]), _frame(_PONG, b"")]
    with attack(service) as it:
        client = _opened(service, b"".join([*fragments, _frame(0x80, b"")]), it=it)
        assert b'"done"' in read_all(client, quiet_seconds=1.0 * overload())
        client.close()
        it.leaves_log("answer completed")
        it.leaves_log("socket closed", trace_id=it.trace_id)


def test_compressed_message_is_refused_without_decompressing_it(service: Service) -> None:
    """Compression is offered, as by browsers, not accepted, and used: a few bytes of it are ten
    megabytes."""
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(b"x" * 10_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < _MOST_BYTES
    offer = b"sec-websocket-extensions: permessage-deflate\r\n"
    with attack(service) as it, service.connect() as client:
        client.sendall(_handshake(offer).replace(b"@", it.header))
        assert b"permessage-deflate" not in client.recv(4096)
        client.sendall(_frame(_TEXT | 0x40, bomb[:-4]))
        assert _close_code(read_all(client)) == 1002
        it.leaves_log("socket closed", trace_id=it.trace_id)


def test_flood_of_pings_is_bounded(service: Service) -> None:
    """Each ping requires a pong that the client does not read."""
    with attack(service) as it:
        client = _opened(service, it=it)
        flood = _frame(_PING, b"x" * 125) * 500
        ends = time.monotonic() + (_SEND_SECONDS + 4 * _BUSY_SECONDS) * overload()
        with pytest.raises(OSError):  # noqa: PT011, PT012
            while time.monotonic() < ends:
                client.sendall(flood)
                healthy(service)
        it.leaves_log("socket closed", trace_id=it.trace_id)


def test_client_that_vanishes_during_a_response_leaves_a_record(service: Service) -> None:
    with attack(service) as it:
        client = _opened(service, _frame(_TEXT, b'{"type":"message","content":"hi"}'), it=it)
        client.close()
        it.leaves_log("socket closed", trace_id=it.trace_id)


def test_many_questions_at_once_have_one_answer_each(service: Service) -> None:
    with attack(service) as it:
        question = _frame(_TEXT, b'{"type":"message","content":"hi"}')
        client = _opened(service, question * 200, it=it)
        answers = read_all(client, quiet_seconds=1.0 * overload())
        assert answers.count(b'"done"') + answers.count(b"turn_in_progress") == 200
        client.close()
        it.leaves_log("socket closed", trace_id=it.trace_id)


def _ask(service: Service, it: Attack, data: bytes) -> Answer:
    with service.connect() as client:
        client.sendall(data.replace(b"@", it.header, 1))
        return read_answer(client)


def _opened(service: Service, data: bytes = b"", it: Attack | None = None):  # type: ignore[no-untyped-def]
    client = service.connect()
    client.sendall(_handshake().replace(b"@", it.header if it else b"", 1))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    client.sendall(data)
    return client


def _frame(first: int, payload: bytes) -> bytes:
    """Return a frame with a mask of zeros: the payload is unchanged."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack(">Q", size)
    return bytes([first]) + length + bytes(4) + payload


def _close_code(data: bytes) -> int | None:
    """Return the code of the last frame, if it is a close; else None."""
    while len(data) >= 2:
        first, size = data[0], data[1]
        start = 2
        if size == 126:
            size, start = struct.unpack(">H", data[2:4])[0], 4
        if first == _CLOSE:
            return int(struct.unpack(">H", data[start : start + 2])[0])
        data = data[start + size :]
    return None


def _closed(it: Attack) -> list[object]:
    return [log for log in it.logs if log.body == "socket closed"]
