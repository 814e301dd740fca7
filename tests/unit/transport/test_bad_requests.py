"""Requests as no client library sends them: each is told what was wrong; others do not notice."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from app.domain.errors import ModelNotFound
from tests.memory import Memory
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import PATIENCE_SECONDS, URL, Live, head, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_PAIRS = [b'"%d":1' % number for number in range(400)]
_HI = b'{"messages":[{"role":"user","content":"hi"}]}'
_LIMITS: dict[str, Any] = {
    "max_body_bytes": 4096,
    "max_message_chars": 100,
    "max_request_messages": 400,
    "max_request_chars": 200,
    "max_header_bytes": 1024,
}


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _messages(*contents: str, **more: Any) -> bytes:
    return json.dumps({"messages": [_user(content) for content in contents], **more}).encode()


async def _still_serves(server: Live) -> None:
    async with server.raw() as other:
        await other.send(head(len(_HI)), _HI)
        assert (await other.response())[0] == 200


def _assert_error(
    response: tuple[int, dict[str, str], Any], status: int, code: str, text: str
) -> None:
    told, headers, body = response
    error = body["error"]
    assert (told, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code", "trace_id"}
    assert text in error["message"]
    assert len(error["message"]) < 1000
    assert error["trace_id"] == headers.get("x-trace-id", "")


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (b"{", 400, "invalid_json", "not valid JSON"),
        (b'{"messages": [\xff]}', 400, "invalid_json", "not valid JSON"),
        (b'{"user": "\\ud800"}', 400, "invalid_json", "not valid JSON"),
        (b'{"user": "\x00"}', 400, "invalid_json", "not valid JSON"),
        (b"[" * 2000, 400, "invalid_json", "recursion limit"),
        (b'{"seed": ' + b"9" * 4000, 400, "invalid_json", "not valid JSON"),
        (b'{"seed": ' + b"9" * 4000 + b"}", 400, "invalid_request", "messages"),
        (b'{"' + b"x" * 4000 + b'": 1}', 400, "invalid_request", "Invalid 'messages': it is req"),
        (b"{" + b",".join(_PAIRS) + b"}", 400, "invalid_request", "'messages': it is required"),
        (b'{"messages":[' + b",".join([b"1"] * 400) + b"]}", 400, "invalid_request", "395 more"),
        (b'{"messages":[{"role":"' + b"x" * 4000 + b'","content":1}],"stream":1}',
         400, "invalid_request", "'stream': it must be true or false (got 1)"),
        (b"null", 400, "invalid_request", "must be an object"),
        (_messages("x" * 101), 400, "too_many_message_chars", "101 characters, the maximum is"),
        (b'{"messages":[' + b",".join([b"1"] * 401) + b"]}", 400, "too_many_request_messages",
         "401 messages, the maximum"),
        (_messages(*["x" * 90] * 3), 400, "too_many_request_chars", "the maximum is 200"),
        (_messages("x", model="nope"), 404, "model_not_found", "Available models: simulated-1"),
        (_messages("x" * 5000), 413, "request_too_large", "larger than 4096 bytes"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes | str) else str(value),
)  # fmt: skip
async def test_a_wrong_body_is_told_and_others_do_not_notice(
    memory: Memory, body: bytes, status: int, code: str, text: str
) -> None:
    async with live(memory, **_LIMITS) as server:
        async with server.raw() as client:
            await client.send(head(len(body)), body)
            _assert_error(await client.response(), status, code, text)
            if status != 413:
                # The same connection goes on.
                await client.send(head(len(_HI)), _HI)
                assert (await client.response())[0] == 200
        await _still_serves(server)
    attributes = memory.log("request refused").log_record.attributes or {}
    assert attributes["code"] == code
    statuses = [(s.attributes or {}).get("http.response.status_code") for s in memory.spans]
    assert statuses.count(status) == 1
    # No answer, no record of one: only those that were given.
    assert memory.value("gen_ai.client.inference.duration") == statuses.count(200)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"messages":[{"role":"user","content":"a\\u0000b"}]}', "a\0b"),
        (b'{"messages":[],"messages":[{"role":"user","content":"last wins"}]}', "last wins"),
        (_messages("\U0001f600 \u202e"), "\U0001f600 \u202e"),
    ],
)  # fmt: skip
async def test_what_json_allows_is_taken_as_it_is(memory: Memory, body: bytes, asked: str) -> None:
    provider = Scripted("ok", END)
    async with live(memory, provider) as server, server.raw() as client:
        await client.send(head(len(body)), body)
        assert (await client.response())[0] == 200
    assert provider.requests[0].messages[0]["content"] == asked


@pytest.mark.parametrize(
    ("lines", "kind", "code", "text"),
    [
        ((), "text/plain", "unsupported_media_type", "'text/plain' is not supported"),
        ((), "x" * 500, "unsupported_media_type", "accepted: application/json"),
        (("content-encoding: gzip",), "application/json", "unsupported_content_encoding", "gzip"),
    ],
)
async def test_a_wrong_kind_of_body_is_not_read(
    memory: Memory, lines: tuple[str, ...], kind: str, code: str, text: str
) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(head(None, *lines, kind=kind))
        _assert_error(await client.response(), 415, code, text)
        assert await client.closed()


async def test_a_body_without_end_is_refused_and_not_read_on(memory: Memory) -> None:
    async with live(memory, **_LIMITS) as server, server.raw() as client:
        await client.send(head(None))
        assert await client.flood(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await _still_serves(server)
    assert memory.value("chatscope.limit.reached", chatscope__limit="body_bytes") == 1


async def test_a_body_without_end_gets_its_answer(memory: Memory) -> None:
    async with live(memory, **_LIMITS) as server, server.raw() as client:
        await client.send(head(None), *[b"400\r\n" + b"x" * 1024 + b"\r\n"] * 5)
        response = await client.response()
        _assert_error(response, 413, "request_too_large", "larger than 4096 bytes")
        assert response[1]["connection"] == "close"
        assert await client.closed()


async def test_a_route_that_reads_no_body_does_not_swallow_one_without_end(
    memory: Memory,
) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(head(None).replace(URL, "/nope"))
        assert (await client.response())[0] == 404
        assert await client.closed()


async def test_an_http_client_that_sends_too_much_gets_its_answer(memory: Memory) -> None:
    async with (
        live(memory, **_LIMITS) as server,
        httpx2.AsyncClient(trust_env=False, timeout=30) as client,
    ):
        url = f"http://{server.address}{URL}"
        json_type = {"content-type": "application/json"}
        response = await client.post(url, content=b"x" * 3_000_000, headers=json_type)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


async def test_a_body_that_does_not_arrive_is_not_waited_for(memory: Memory) -> None:
    async with live(memory, receive_timeout_seconds=0.2) as server, server.raw() as client:
        await client.send(head(len(_HI)), _HI[:10])
        response = await client.response()
        _assert_error(response, 408, "request_timeout", "within 0.2 s")
        assert await client.closed()
    assert memory.value("chatscope.limit.reached", chatscope__limit="receive_seconds") == 1
    assert (memory.span(f"POST {URL}").attributes or {})["http.response.status_code"] == 408


async def test_headers_that_do_not_arrive_are_not_waited_for(memory: Memory) -> None:
    async with live(memory, receive_timeout_seconds=0.2) as server, server.raw() as client:
        await client.send("GET / HTTP/1.1\r\nhost:")
        _assert_error(await client.response(), 408, "request_timeout", "headers")
        assert await client.closed()
    assert memory.value("chatscope.limit.reached", chatscope__limit="receive_seconds") == 1


async def test_statuses_are_recorded_as_plain_numbers(memory: Memory) -> None:
    """A member of an enumeration, as the framework has them, may be encoded in other ways."""
    async with live(memory) as server, server.raw() as client:
        for start in ("GET /nope", "DELETE /v1/models", "OPTIONS /v1/models"):
            await client.send(f"{start} HTTP/1.1\r\nhost: x\r\n\r\n")
            await client.reader.readuntil(b"\r\n\r\n")
    records = [dict(record.log_record.attributes or {}) for record in memory.logs]
    found = [a["http.response.status_code"] for a in records if "http.response.status_code" in a]
    assert found == [404, 405, 204]
    assert {type(status) for status in found} == {int}


async def test_a_client_that_never_asks_is_closed(memory: Memory) -> None:
    async with live(memory, receive_timeout_seconds=0.2) as server, server.raw() as client:
        assert await client.closed()


async def test_very_many_headers_are_refused(memory: Memory) -> None:
    lines = [f"x-{number}: {number}\r\n" for number in range(500)]
    async with live(memory, **_LIMITS) as server:
        async with server.raw() as client:
            await client.send("GET / HTTP/1.1\r\n", *lines, "\r\n")
            _assert_error(
                await client.response(), 431, "headers_too_large", "larger than 1024 bytes"
            )
            assert await client.closed()
        await _still_serves(server)
    assert memory.value("chatscope.limit.reached", chatscope__limit="header_bytes") == 1


async def test_headers_without_end_are_refused(memory: Memory) -> None:
    async with live(memory, **_LIMITS) as server, server.raw() as client:
        await client.send("GET / HTTP/1.1\r\n")
        assert await client.flood(b"x: y\r\n" * 0x1000)
    assert memory.value("chatscope.limit.reached", chatscope__limit="header_bytes") == 1


async def test_a_header_without_end_is_refused(memory: Memory) -> None:
    async with live(memory, **_LIMITS) as server, server.raw() as client:
        await client.send("GET / HTTP/1.1\r\nx: ")
        assert await client.flood(b"x" * 0x10000)
    assert memory.value("chatscope.limit.reached", chatscope__limit="header_bytes") == 1


@pytest.mark.parametrize("sent", ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"])
async def test_what_is_no_http_is_told_so(memory: Memory, sent: str) -> None:
    async with live(memory) as server:
        async with server.raw() as client:
            await client.send(sent)
            _assert_error(await client.response(), 400, "invalid_http", "Only HTTP/1.1 is accepted")
            assert await client.closed()
        await _still_serves(server)


async def test_one_connection_is_good_for_many_requests(memory: Memory) -> None:
    """The bounds on a head and a body do not add up over a connection's life."""
    async with live(memory, **_LIMITS) as server, server.raw() as client:
        for _ in range(10):
            await client.send("POST ")
            await asyncio.sleep(0.01)  # so that the head comes in pieces
            await client.send(head(len(_HI), "x: " + "x" * 300)[len("POST ") : -2])
            await asyncio.sleep(0.01)
            await client.send("\r\n", _HI)
            assert (await client.response())[0] == 200


async def test_a_request_that_waits_behind_another_is_answered(memory: Memory) -> None:
    async with live(memory) as server, server.raw() as client:
        await client.send(head(len(_HI)), _HI, head(len(_HI)), _HI)
        for _ in range(2):
            assert (await client.response())[0] == 200


async def test_a_client_that_does_not_read_is_cut(memory: Memory) -> None:
    provider = Scripted(*["x" * 10_000] * 2000, END)
    async with live(memory, provider, send_timeout_seconds=0.2) as server, server.raw() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        ask = json.dumps({"stream": True, "messages": [_user("hi")]}).encode()
        await client.send(head(len(ask)), ask)
        await asyncio.wait_for(provider.left.wait(), PATIENCE_SECONDS)
    assert memory.value("chatscope.limit.reached", chatscope__limit="send_seconds") == 1
    memory.log("answer cancelled")


def test_refusals_repeat_little_of_what_was_sent() -> None:
    assert len(ModelNotFound("x" * 100_000, ["a"]).message) < 200
