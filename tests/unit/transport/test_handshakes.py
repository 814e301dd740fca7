"""WebSocket handshakes that are refused: one record, one answer in the shape of all errors."""

import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.memory import Memory
from tests.unit.transport.live import Live, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_GOOD = {
    "host": "x",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": _KEY,
}
_INVALID = (400, "invalid_handshake")
_NO_UPGRADE = (426, "upgrade_required")
_VERSION = (426, "unsupported_websocket_version")


def _handshake(
    *, start: str = "GET /ws/chat HTTP/1.1", body: bytes = b"", **changes: str | None
) -> bytes:
    given = {**_GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join((start, *lines, "", "")).encode("latin-1") + body


def _assert_one_record(memory: Memory, trace_id: str, level: str) -> None:
    refused = [r.log_record for r in memory.logs if r.log_record.body == "request refused"]
    assert [(r.severity_text, f"{r.trace_id:032x}") for r in refused] == [(level, trace_id)]
    others = [r.log_record for r in memory.logs if r.log_record.body != "request refused"]
    bad = [str(r.body) for r in others if r.severity_text in ("WARN", "ERROR", "FATAL")]
    assert bad == []
    assert [r.body for r in others if "connection rejected" in str(r.body)] == []
    assert [r.body for r in others if "HTTP response sent" in str(r.body)] == []


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (_handshake(start="GET /ws/nope HTTP/1.1"), (404, "not_found")),
        (_handshake(start="GET /ws/chat/ HTTP/1.1"), (404, "not_found")),
        (_handshake(start="GET /v1/models HTTP/1.1"), (404, "not_found")),
        (_handshake(start="POST /ws/chat HTTP/1.1"), (405, "method_not_allowed")),
        (_handshake(start="DELETE /ws/chat HTTP/1.1"), (405, "method_not_allowed")),
        (_handshake(sec_websocket_key=None), _INVALID),
        (_handshake(sec_websocket_key=""), _INVALID),
        (_handshake(sec_websocket_key="short"), _INVALID),
        (_handshake(sec_websocket_key="\xff" * 24), _INVALID),
        (_handshake(sec_websocket_key=f"{_KEY}\r\nsec-websocket-key: {_KEY}"), _INVALID),
        (_handshake(sec_websocket_version=None), _INVALID),
        (_handshake(sec_websocket_version="8"), _VERSION),
        (_handshake(sec_websocket_version="x" * 500), _VERSION),
        (_handshake(sec_websocket_extensions=";;"), _INVALID),
        (_handshake(cookie="x" * 9000), _INVALID),
        (_handshake(cookie="x\r\n" + "x: y\r\n" * 200 + "x: z"), _INVALID),
        (_handshake(content_length="2", body=b"hi"), _INVALID),
        (_handshake(transfer_encoding="chunked", body=b"2\r\nhi\r\n0\r\n\r\n"), _INVALID),
        (_handshake(upgrade=None), _NO_UPGRADE),
        (_handshake(connection=None), _NO_UPGRADE),
        (_handshake(upgrade="h2c"), _NO_UPGRADE),
        (_handshake(upgrade="websocket, h2c"), _NO_UPGRADE),
        (_handshake(connection="\xff"), _INVALID),
        (_handshake(start="GET /ws/chat HTTP/1.0"), _NO_UPGRADE),
        (_handshake(origin="https://evil.example"), (403, "origin_not_allowed")),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[1],
)  # fmt: skip
async def test_a_refused_handshake_has_one_record_and_one_answer(
    memory: Memory, sent: bytes, expected: tuple[int, str]
) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(sent)
        status, headers, body = await client.response()
        error = body["error"]
        assert (status, error["code"]) == expected, error
        assert error.keys() == {"message", "type", "param", "code", "trace_id"}
        assert len(error["message"]) < 500
        assert headers["content-type"] == "application/json"
        if status == 426:
            assert headers["upgrade"] == "websocket"
        if status == 405:
            assert headers["allow"] == "get, head, options"
    _assert_one_record(memory, error["trace_id"], "INFO")
    assert memory.value("socket_connections") == 0
    spans = [s for s in memory.spans if (s.attributes or {}).get("http.response.status_code")]
    assert [(s.attributes or {})["http.response.status_code"] for s in spans] == [status]
    assert f"{spans[0].context.trace_id:032x}" == error["trace_id"]


async def test_a_header_in_two_lines_is_a_valid_handshake(memory: Memory) -> None:
    sent = _handshake(connection="Upgrade\r\nconnection: keep-alive")
    async with live(memory) as server, server.raw() as client:
        await client.send(sent)
        assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 101")


async def test_a_full_service_refuses_with_one_warning(memory: Memory) -> None:
    async with live(memory, max_connections=1) as server, _open(server):
        error = await _refused(server)
    assert (error["status"], error["code"]) == (503, "too_many_connections")
    _assert_one_record(memory, error["trace_id"], "WARN")
    assert memory.value("chatscope.limit.reached", chatscope__limit="connections") == 1


def _open(server: Live) -> connect:
    return connect(server.socket_url, proxy=None)


async def _refused(server: Live) -> dict[str, Any]:
    with pytest.raises(InvalidStatus) as caught:
        await _open(server)
    response = caught.value.response
    error: dict[str, Any] = json.loads(response.body or b"")["error"]
    return {"status": response.status_code, **error}
