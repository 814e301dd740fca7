"""Header values as no well-behaved client sends them: each gets an answer that is no failure."""

import pytest

from tests.memory import Memory
from tests.unit.transport.live import URL, Live, head, live

pytestmark = pytest.mark.anyio
_HI = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
_LISTED = "https://chat.example"
_REFUSED_ORIGINS = (
    b"http://[",
    b"http://[::1",
    b"null",
    b"",
    "http://é.example".encode(),
    b"\xff\\x",
    b"http://a:x",
    b"http://a:99999",
    b"http://x\r\norigin: http://x",
    f"{_LISTED}\r\norigin: http://evil.example".encode(),
    f"{_LISTED}, http://evil.example".encode(),
    b"ftp://x",
    b"http://x/",
    b"http://evil.example",
    b"http://" + b"x" * 7000,
)
_REFUSED_HOSTS = (
    b"[", b"[::1", b"a b", b"a:x", b"http://x", b"a/b", b"a@b", b"\xff\\x", b"x\r\nhost: x"
)  # fmt: skip
_VALUES = (
    b"\xff",
    b"\xff\\x",
    b"\xff\\N{",
    b"[",
    b",;=%,;=%zz",
    b"1.2.3.4:" + b"9" * 5000,
    b"",
    b'"',
)
_HEADERS = (
    b"user-agent",
    b"traceparent",
    b"tracestate",
    b"baggage",
    b"x-forwarded-for",
    b"accept",
    b"authorization",
    b"cookie",
    b"forwarded",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"access-control-request-headers",
    b"range",
    b"te",
)


def _request(kind: str, *lines: bytes, host: bytes = b"host: x") -> bytes:
    """A completion, or a WebSocket handshake, with more header lines."""
    if kind == "http":
        start, body = head(len(_HI)).encode().removesuffix(b"\r\n"), _HI
    else:
        start, body = (
            (
                b"GET /ws/chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            ),
            b"",
        )
    return b"".join((start.replace(b"host: x", host), *(line + b"\r\n" for line in lines))) + (
        b"\r\n" + body
    )


def _records(memory: Memory, *levels: str, start: int = 0) -> list[tuple[str, str]]:
    found = [record.log_record for record in memory.logs[start:]]
    return [(str(r.body), f"{r.trace_id:032x}") for r in found if r.severity_text in levels]


async def _passes(server: Live, sent: bytes) -> bool:
    async with server.raw() as client:
        await client.send(sent)
        start = await client.reader.readuntil(b"\r\n")
    return start in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switching Protocols\r\n")


async def _assert_refused(
    server: Live, memory: Memory, sent: bytes, status: int, code: str
) -> None:
    """The documented shape, and one INFO record with the trace ID of the response."""
    start = len(memory.logs)
    async with server.raw() as client:
        await client.send(sent)
        told, headers, body = await client.response()
    error = body["error"]
    assert (told, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code", "trace_id"}
    assert error["type"] == "invalid_request_error"
    assert error["trace_id"]
    assert headers.get("x-trace-id", error["trace_id"]) == error["trace_id"]
    assert len(error["message"]) < 500
    records = _records(memory, "INFO", start=start)
    assert [trace for text, trace in records if text == "request refused"] == [error["trace_id"]]
    assert _records(memory, "WARN", "ERROR", "FATAL", start=start) == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_an_origin_that_is_not_listed_is_refused_however_malformed(
    memory: Memory, kind: str
) -> None:
    async with live(memory, frontend_url=(_LISTED,)) as server:
        for origin in _REFUSED_ORIGINS:
            sent = _request(kind, b"origin: " + origin)
            await _assert_refused(server, memory, sent, 403, "origin_not_allowed")


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_listed_origin_and_our_own_pass(memory: Memory, kind: str) -> None:
    async with live(memory, frontend_url=(_LISTED,)) as server:
        for origin in (_LISTED, "http://x", "https://x", "HTTPS://Chat.Example", None):
            lines = [f"origin: {origin}".encode()] if origin else []
            assert await _passes(server, _request(kind, *lines)), origin


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_megabyte_of_origin_is_refused_by_its_size(memory: Memory, kind: str) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(_request(kind).split(b"\r\n\r\n")[0], b"\r\norigin: ")
        assert await client.flood(b"x" * 0x10000)
    assert memory.value("chatscope.limit.reached", chatscope__limit="header_bytes") == 1
    assert _records(memory, "ERROR", "FATAL") == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_an_invalid_host_is_refused(memory: Memory, kind: str) -> None:
    async with live(memory) as server:
        for host in _REFUSED_HOSTS:
            sent = _request(kind, host=b"host: " + host)
            await _assert_refused(server, memory, sent, 400, "invalid_host")


async def test_other_hosts_pass(memory: Memory) -> None:
    async with live(memory) as server:
        for host in (b"", b"x:", b"[::1]:3000", b"a_b.example:80", b"127.0.0.1"):
            assert await _passes(server, _request("http", host=b"host: " + host)), host


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_any_value_of_a_header_that_is_not_ours_gets_an_answer(
    memory: Memory, kind: str
) -> None:
    async with live(memory) as server:
        for name in _HEADERS:
            for value in _VALUES:
                line = name + b": " + value
                assert await _passes(server, _request(kind, line, line)), line
        assert _records(memory, "WARN", "ERROR", "FATAL") == []


_MALFORMED = [
    (b"content-type: \xff\\x", 415, "unsupported_media_type"),
    (b"content-type: ;;", 415, "unsupported_media_type"),
    (b"content-type:", 415, "unsupported_media_type"),
    (b"content-encoding: \xff\\x", 415, "unsupported_content_encoding"),
    (b"content-length: \xff", 400, "invalid_http"),
    (b"content-length: \xb2", 400, "invalid_http"),
    (b"content-length: " + b"9" * 5000, 400, "invalid_http"),
    (b"content-length: 18446744073709551616", 400, "invalid_http"),
    (b"content-length: 18446744073709551615", 413, "request_too_large"),
    (b"content-length: -1", 400, "invalid_http"),
    (b"content-length:", 400, "invalid_http"),
]


async def test_a_header_of_a_body_that_is_malformed_is_refused(memory: Memory) -> None:
    async with live(memory) as server:
        for line, status, code in _MALFORMED:
            name = line.partition(b":")[0]
            lines = [old for old in _request("http").split(b"\r\n") if not old.startswith(name)]
            async with server.raw() as client:
                await client.send(b"\r\n".join([lines[0], line, *lines[1:]]))
                told, _, body = await client.response()
            assert (told, body["error"]["code"]) == (status, code), line
    assert _records(memory, "ERROR", "FATAL") == []


async def test_text_that_is_not_utf_8_is_recorded_as_latin_1(memory: Memory) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(_request("http", b"user-agent: caf\xe9 \\x"))
        assert (await client.response())[0] == 200
    attributes = memory.span(f"POST {URL}").attributes or {}
    assert attributes["user_agent.original"] == "café \\x"
