"""WebSocket as no client library speaks it, too much of it at the same time, and silence."""

import asyncio
import json
import os
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.domain.turn import ClientDisconnected
from app.transport.websocket import Sender
from tests.memory import Memory
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import PATIENCE_SECONDS, Live, Raw, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_TEXT, _BINARY, _CLOSE, _RESERVED = 1, 2, 8, 3
_FIN, _COMPRESSED = 0x80, 0x40
_MASK = b"\1\2\3\4"


def _frame(opcode: int, data: bytes, *, flags: int = _FIN, masked: bool = True) -> bytes:
    size = struct.pack("!BH", 126 | masked << 7, len(data))
    if masked:
        data = _MASK + bytes(byte ^ _MASK[i % 4] for i, byte in enumerate(data))
    return bytes([flags | opcode]) + size + data


def _compressed() -> bytes:
    squeeze = zlib.compressobj(wbits=-12)
    return (squeeze.compress(b'{"type":"ping"}') + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


@asynccontextmanager
async def _opened(server: Live) -> AsyncIterator[Raw]:
    """A WebSocket connection, past its handshake."""
    async with server.raw() as client:
        await client.send(
            "GET /ws/chat?token=a-secret HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
            "connection: Upgrade\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "sec-websocket-extensions: permessage-deflate\r\n\r\n"
        )
        response = await client.reader.readuntil(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 101")
        assert b"permessage-deflate" not in response
        yield client


async def _close_code(client: Raw) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        opcode, size = await client.reader.readexactly(2)
        data = await client.reader.readexactly(size)
    assert opcode == _FIN | _CLOSE
    return int.from_bytes(data[:2])


@asynccontextmanager
async def _talking(server: Live, **more: Any) -> AsyncIterator[ClientConnection]:
    async with connect(server.socket_url, proxy=None, **more) as socket:
        yield socket


async def _hear(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))


async def _ask(socket: ClientConnection, content: str = "hi") -> None:
    await socket.send(json.dumps({"type": "message", "content": content}))


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (_frame(_TEXT, b"{}", masked=False), 1002),
        (_frame(_RESERVED, b""), 1002),
        (_frame(_TEXT, b"{}", flags=_FIN | 0x10), 1002),
        (_frame(0, b"{}"), 1002),
        (_frame(_TEXT, b"\xff"), 1007),
        (_frame(_TEXT, b'"\xe2', flags=0) + _frame(0, b'\x28"'), 1007),
        (_frame(_TEXT, b"x" * 5000), 1009),
        (_frame(_TEXT, b"x" * 3000, flags=0) + _frame(0, b"x" * 3000), 1009),
        (_frame(_TEXT, _compressed(), flags=_FIN | _COMPRESSED), 1002),
        (_frame(_CLOSE, b"\0"), 1002),
        (_frame(_TEXT, b"\xff") * 2, 1007),
        (_frame(_TEXT, b"\xff") + _frame(_CLOSE, b"\x03\xe8"), 1000),
    ],
    ids=[
        "not masked",
        "unknown opcode",
        "reserved bit",
        "continues nothing",
        "no text",
        "no text in pieces",
        "too long",
        "too long in pieces",
        "compressed",
        "half a close code",
        "no text twice",
        "no text, and the end",
    ],
)
async def test_a_bad_frame_closes_its_connection_with_its_code_and_no_other(
    memory: Memory, frames: bytes, code: int
) -> None:
    async with live(memory, max_body_bytes=4096) as server, _talking(server) as other:
        async with _opened(server) as client:
            await client.send(frames)
            assert await _close_code(client) == code
            assert await client.closed()
        await _ask(other)
        while (message := await _hear(other))["type"] == "delta":
            pass
        assert message["type"] == "done"
    closed = [
        p.attributes["chatscope.websocket.close_code"]
        for p in memory.points("chatscope.websocket.connection.duration")
    ]
    assert str(code) in closed
    assert not [r for r in memory.logs if r.log_record.severity_text == "ERROR"]
    reached = memory.value("chatscope.limit.reached", chatscope__limit="body_bytes")
    assert reached == (1 if code == 1009 else 0)


async def test_a_bad_frame_amid_an_answer_cancels_it(memory: Memory) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    async with live(memory, provider) as server, _opened(server) as client:
        await client.send(_frame(_TEXT, b'{"type":"message","content":"hi"}'))
        await asyncio.wait_for(provider.asked.wait(), PATIENCE_SECONDS)
        await client.send(_frame(_RESERVED, b""))
        await asyncio.wait_for(provider.left.wait(), PATIENCE_SECONDS)
    memory.log("answer cancelled")


async def test_a_connection_that_breaks_off_is_recorded_as_such(memory: Memory) -> None:
    async with live(memory) as server:
        async with _opened(server) as client:
            client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while memory.value("socket_connections") != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    (point,) = memory.points("chatscope.websocket.connection.duration")
    assert point.attributes["chatscope.websocket.close_code"] == "1006"


async def test_the_query_of_a_handshake_is_nowhere_in_telemetry(memory: Memory) -> None:
    async with live(memory) as server, _opened(server):
        pass
    records = [record.to_json() for record in memory.logs]
    assert any("WebSocket /ws/chat 101" in record for record in records)
    assert "a-secret" not in str([*records, *(span.to_json() for span in memory.spans)])


async def test_one_connection_too_many_is_refused_at_its_handshake(memory: Memory) -> None:
    async with live(memory, max_connections=1) as server:
        async with _talking(server) as first:
            with pytest.raises(InvalidStatus) as caught:
                async with _talking(server):
                    pass
            response = caught.value.response
            assert (response.status_code, response.headers["retry-after"]) == (503, "2")
            error = json.loads(response.body or b"")["error"]
            assert error["code"] == "too_many_connections"
            assert "maximum 1" in error["message"]
            await first.send('{"type":"ping"}')
            assert await _hear(first) == {"type": "pong"}
        async with _talking(server):
            pass  # there is a place again
    assert memory.value("chatscope.limit.reached", chatscope__limit="connections") == 1
    assert memory.value("socket_connections") == 0
    record = memory.log("request refused").log_record
    assert record.severity_text == "WARN"
    assert f"{record.trace_id:032x}" == error["trace_id"]


async def test_one_answer_too_many_is_refused_and_its_connection_goes_on(memory: Memory) -> None:
    release = asyncio.Event()
    provider = Scripted(release, "a", END)
    async with (
        live(memory, provider, max_answers=1) as server,
        _talking(server) as first,
        _talking(server) as second,
    ):
        await _ask(first)
        await asyncio.wait_for(provider.asked.wait(), PATIENCE_SECONDS)
        await _ask(second)
        refusal = await _hear(second)
        assert refusal["error"]["code"] == "too_many_answers"
        assert "maximum 1" in refusal["error"]["message"]
        release.set()
        assert [(await _hear(first))["type"] for _ in range(2)] == ["delta", "done"]
        await _ask(second)
        assert [(await _hear(second))["type"] for _ in range(2)] == ["delta", "done"]
    assert memory.value("chatscope.limit.reached", chatscope__limit="answers") == 1
    assert memory.value("llm_response_time") == 2
    assert memory.value("message_count", role="user") == 2
    (refused,) = [s for s in memory.spans if (s.attributes or {}).get("error.type")]
    assert f"{refused.context.trace_id:032x}" == refusal["trace_id"]


async def test_a_connection_on_which_nobody_says_anything_is_closed(memory: Memory) -> None:
    async with live(memory, socket_idle_seconds=0.2) as server, _talking(server) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1000, "idle for 0.2 s")
    assert memory.value("chatscope.limit.reached", chatscope__limit="idle_seconds") == 1


async def test_a_connection_that_waits_for_its_answer_is_not_idle(memory: Memory) -> None:
    release = asyncio.Event()
    provider = Scripted("a", release, "b", END)
    async with (
        live(memory, provider, socket_idle_seconds=0.1) as server,
        _talking(server) as quiet,
        _talking(server) as asking,
    ):
        await _ask(asking)
        assert (await _hear(asking))["type"] == "delta"
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(quiet.recv(), PATIENCE_SECONDS)
        release.set()
        assert [(await _hear(asking))["type"] for _ in range(2)] == ["delta", "done"]


async def test_a_client_that_does_not_read_is_cut(memory: Memory) -> None:
    # More than the kernel's buffers.
    provider = Scripted(*[os.urandom(10_000).hex()] * 2000, END)
    async with (
        live(memory, provider, send_timeout_seconds=0.2) as server,
        _opened(server) as client,
    ):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(_frame(_TEXT, b'{"type":"message","content":"hi"}'))
        await asyncio.wait_for(provider.left.wait(), PATIENCE_SECONDS)
    assert memory.value("chatscope.limit.reached", chatscope__limit="send_seconds") == 1
    memory.log("answer cancelled")


@pytest.mark.parametrize(
    ("bounds", "reached"),
    [
        ({"history_messages": 2}, {"history_messages": 2}),
        ({"history_messages": 0}, {}),
        ({"max_message_chars": 4, "max_request_chars": 6}, {"request_chars": 1}),
        ({}, {}),
    ],
)
async def test_forgetting_counts_the_limit_that_was_reached(
    memory: Memory, bounds: dict[str, int], reached: dict[str, int]
) -> None:
    async with live(memory, Scripted("a", END), **bounds) as server, _talking(server) as socket:
        for _ in range(3):
            await _ask(socket)
            assert [(await _hear(socket))["type"] for _ in range(2)] == ["delta", "done"]
        await socket.send('{"type":"ping"}')
        await _hear(socket)
    points = memory.points("chatscope.limit.reached")
    assert {p.attributes["chatscope.limit"]: p.value for p in points if p.value} == reached


async def test_every_limit_shows_its_value_and_that_it_was_not_reached(memory: Memory) -> None:
    async with live(memory, max_answers=7):
        shown = {
            str(point.attributes["chatscope.limit"]): point.value
            for point in memory.points("chatscope.limit.value")
        }
        reached = {
            str(point.attributes["chatscope.limit"]): point.value
            for point in memory.points("chatscope.limit.reached")
        }
    assert shown["answers"] == 7
    assert shown.keys() == reached.keys()
    assert set(reached.values()) == {0}


async def test_a_connection_that_the_server_closed_already_is_a_client_that_is_gone() -> None:
    async def send(_: Message) -> None:
        raise RuntimeError("Unexpected ASGI message 'websocket.send'")

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    websocket = WebSocket({"type": "websocket"}, receive, send)
    websocket.application_state = WebSocketState.CONNECTED
    with pytest.raises(ClientDisconnected):
        await Sender(websocket, send).send("{}")
