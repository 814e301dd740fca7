"""Offers to upgrade that are ignored, and requests whose end could be understood in two ways."""

import asyncio
import json
import subprocess
from itertools import pairwise

import pytest

from tests.memory import Memory
from tests.unit.transport.live import PATIENCE_SECONDS, URL, Live, Raw, head, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_HI = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
_SECOND = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
_H2C = (
    "connection: Upgrade, HTTP2-Settings",
    "upgrade: h2c",
    "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA",
)
_WEBSOCKET = (
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)
_OFFERS = {
    "h2c": _H2C,
    "TLS": ("connection: upgrade", "upgrade: TLS/1.0"),
    "list": ("connection: upgrade", "upgrade: websocket, h2c"),
    "two lines": ("connection: keep-alive", "connection: upgrade", "upgrade: h2c"),
    "twice": ("connection: upgrade", "upgrade: h2c", "upgrade: h2c"),
    "websocket by POST": _WEBSOCKET,
}


_AMBIGUOUS = (
    head(None, "content-length: 5").encode() + b"0\r\n\r\n" + _SECOND,
    head(5, "transfer-encoding: chunked").encode() + b"0\r\n\r\n" + _SECOND,
    head(5, "content-length: 5").encode() + b"hello" + _SECOND,
    head(5, "content-length: 6").encode() + b"hello" + _SECOND,
    head(None).replace("chunked", "chunked, identity").encode() + _SECOND,
    head(None).replace("chunked", "xchunked").encode() + _SECOND,
    head(None, "transfer-encoding: chunked").encode() + b"0\r\n\r\n" + _SECOND,
    head(5).replace("content-length: 5", "content-length: 5, 5").encode() + _SECOND,
    head(5).replace("content-length: 5", "content-length: +5").encode() + _SECOND,
    head(5).replace("content-length: 5", "content-length : 5").encode() + _SECOND,
    head(5).replace("content-length: 5", "content-length: 5\r\n 6").encode() + _SECOND,
    head(5, "x: a\r\n transfer-encoding: chunked").encode() + b"hello" + _SECOND,
    head(5).replace("\r\n", "\n").encode() + b"hello" + _SECOND,
    head(5, "x: a\ny: b").encode() + b"hello" + _SECOND,
    head(5, "x: a\ry: b").encode() + b"hello" + _SECOND,
    head(None).encode() + b"2\nab\r\n0\r\n\r\n" + _SECOND,
    head(None).encode() + b"2;a\nab\r\n0\r\n\r\n" + _SECOND,
    head(None).encode() + b"-2\r\nab\r\n0\r\n\r\n" + _SECOND,
    head(None).encode() + b"0x2\r\nab\r\n0\r\n\r\n" + _SECOND,
    head(None).encode() + b"2\r\nabc\r\n0\r\n\r\n" + _SECOND,
    head(None).encode() + b"0\r\ncontent-length: 5\r\n\r\n" + _SECOND,
    b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n" + _SECOND,
    b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello" + _SECOND,
)  # fmt: skip


def _chunked(body: bytes) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


async def _completed(client: Raw) -> None:
    status, _, body = await client.response()
    assert (status, body["object"]) == (200, "chat.completion"), body


async def _send_in_segments(client: Raw, data: bytes, cuts: list[int]) -> None:
    for start, end in pairwise([0, *cuts, len(data)]):
        await client.send(data[start:end])
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("lines", _OFFERS.values(), ids=_OFFERS)
async def test_an_ignored_offer_leaves_the_body_with_its_request(
    memory: Memory, lines: tuple[str, ...], chunked: bool
) -> None:
    start = head(None if chunked else len(_HI), *lines).encode()
    body = _chunked(_HI) if chunked else _HI
    data = start + body + _SECOND
    end = len(start)
    segments: tuple[list[int], ...] = (
        [],
        [end],
        [end, end + len(body)],
        [20, end - 2, end + 5, end + len(body) - 1],
    )
    async with live(memory) as server:
        for cuts in segments:
            async with server.raw() as client:
                await _send_in_segments(client, data, cuts)
                await _completed(client)
                assert (await client.response())[2]["object"] == "list"
        assert _problems(memory) == []
    assert _paths(memory) == sorted([URL, "/v1/models"] * len(segments))


@pytest.mark.parametrize("lines", [(), _H2C], ids=["plain", "h2c"])
async def test_a_body_in_its_own_segment_is_never_a_request(
    memory: Memory, lines: tuple[str, ...]
) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(head(len(_SECOND), *lines))
        await asyncio.sleep(0.05)
        await client.send(_SECOND)
        status, _, body = await client.response()
        assert (status, body["error"]["code"]) == (400, "invalid_json")
        await client.send(_SECOND)
        assert (await client.response())[2]["object"] == "list"
    assert _paths(memory) == [URL, "/v1/models"]


async def test_an_ignored_offer_waits_for_100_continue(memory: Memory) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(head(len(_HI), *_H2C, "expect: 100-continue"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(_HI)
        await _completed(client)


async def test_requests_with_offers_may_be_pipelined(memory: Memory) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(*[head(len(_HI), *_H2C).encode() + _HI, _SECOND] * 3)
        for _ in range(3):
            await _completed(client)
            assert (await client.response())[2]["object"] == "list"


async def test_each_pipelined_request_has_its_own_trace(memory: Memory) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(head(len(_HI)), _HI, _SECOND, _SECOND)
        told = [(await client.response())[1]["x-trace-id"] for _ in range(3)]
    assert len(set(told)) == 3
    assert _paths(memory) == [URL, "/v1/models", "/v1/models"]


async def test_a_handshake_behind_an_open_request_is_refused(memory: Memory) -> None:
    """Switched at once, the two answers would mix on the connection."""
    handshake = "\r\n".join(("GET /ws/chat HTTP/1.1", "host: x", *_WEBSOCKET, "", ""))
    async with live(memory, simulated_first_token_seconds=0.1) as server, server.raw() as client:
        await client.send(head(len(_HI)), _HI, handshake)
        await _completed(client)
        status, _, body = await client.response()
        assert (status, body["error"]["code"]) == (400, "invalid_handshake")
        # Once all is answered, the connection may still become a WebSocket.
        await client.send(handshake)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("prior", [["--http2"], ["--http1.1", "-H", "Expect: 100-continue"]])
async def test_curl_gets_its_answer(memory: Memory, prior: list[str]) -> None:
    async with live(memory) as server:
        url = f"http://{server.address}{URL}"
        kind = ["-H", "content-type: application/json"]
        curl = ["curl", "--silent", "--max-time", "10", *prior, *kind, "-d", _HI.decode(), url]
        result = await asyncio.to_thread(subprocess.run, curl, capture_output=True, check=True)
    assert json.loads(result.stdout)["object"] == "chat.completion"


@pytest.mark.parametrize("offer", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"])
async def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_served(
    memory: Memory, offer: bytes
) -> None:
    async with live(memory) as server:
        for request in _AMBIGUOUS:
            async with server.raw() as client:
                await client.send(request.replace(b"host: x\r\n", b"host: x\r\n" + offer, 1))
                status, _, body = await client.response()
                assert (status, body["error"]["code"]) == (400, "invalid_http"), request
                assert await client.closed(), request
    assert "/v1/models" not in _paths(memory)


async def test_chunk_extensions_and_trailers_change_nothing(memory: Memory) -> None:
    body = b'%x;a=b;c="d"\r\n%s\r\n0;e\r\ncontent-type: text/plain\r\nx-b: c\r\n\r\n' % (
        len(_HI),
        _HI,
    )
    async with live(memory) as server, server.raw() as client:
        await client.send(head(None), body, _SECOND)
        await _completed(client)
        assert (await client.response())[2]["object"] == "list"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"0\r\n", b"x: y\r\n" * 0x400),
        (b"0\r\nx: ", b"x" * 0x1000),
        (b"0\r\n", b"x" * 0x1000),
        (b"1;", b"x" * 0x1000),
    ],
    ids=["trailers", "trailer", "trailer name", "chunk extension"],
)
async def test_a_body_that_only_has_framing_is_refused(
    memory: Memory, start: bytes, piece: bytes
) -> None:
    async with live(memory, max_header_bytes=16_384) as server:
        async with server.raw() as client:
            await client.send(head(None), start)
            assert await client.flood(piece)
        await _serves(server)
    assert memory.value("chatscope.limit.reached", chatscope__limit="header_bytes") == 1


async def _serves(server: Live) -> None:
    async with server.raw() as client:
        await client.send(head(len(_HI)), _HI)
        await _completed(client)


def _paths(memory: Memory) -> list[str]:
    """Paths of the requests that were served, sorted: pipelined ones may end in any order."""
    found = [span.attributes or {} for span in memory.spans if span.kind.name == "SERVER"]
    return sorted(str(attributes.get("url.path")) for attributes in found)


def _problems(memory: Memory) -> list[str]:
    bad = ("WARN", "ERROR", "FATAL")
    return [str(r.log_record.body) for r in memory.logs if r.log_record.severity_text in bad]
