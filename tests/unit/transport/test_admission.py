"""Places for answers over HTTP, and what a shutdown does to those who have one."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from opentelemetry.trace import StatusCode
from websockets.asyncio.client import ClientConnection, connect

from tests.memory import Memory
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import PATIENCE_SECONDS, URL, Live, head, live

pytestmark = pytest.mark.anyio
_HI = [{"role": "user", "content": "hi"}]
_LONG = 3600.0


def _client(server: Live) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{server.address}", trust_env=False, timeout=30)


async def _soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_SECONDS)


async def _hear(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))


async def _close_code(socket: ClientConnection) -> int:
    await asyncio.wait_for(socket.wait_closed(), PATIENCE_SECONDS)
    assert socket.close_code is not None
    return socket.close_code


@pytest.mark.parametrize("stream", [True, False])
async def test_one_answer_too_many_is_refused_and_leaves_no_record_of_one(
    memory: Memory, stream: bool
) -> None:
    release = asyncio.Event()
    provider = Scripted(release, "a", END)
    async with live(memory, provider, max_answers=1) as server, _client(server) as client:
        ask = {"messages": _HI, "stream": stream}
        first = asyncio.create_task(client.post(URL, json=ask))
        await _soon(provider.asked)
        refused = await client.post(URL, json=ask)
        release.set()
        assert (await first).status_code == 200
        assert (await client.post(URL, json=ask)).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    error = refused.json()["error"]
    assert error["code"] == "too_many_answers"
    assert error["trace_id"] == refused.headers["x-trace-id"]
    assert memory.value("chatscope.limit.reached", chatscope__limit="answers") == 1
    assert memory.value("llm_response_time") == 2
    assert memory.value("message_count", role="user") == 2
    record = memory.log("request refused").log_record
    assert (record.severity_text, f"{record.trace_id:032x}") == ("WARN", error["trace_id"])
    of_refused = [s for s in memory.spans if f"{s.context.trace_id:032x}" == error["trace_id"]]
    (span,) = [s for s in of_refused if s.name == f"POST {URL}"]
    assert (span.attributes or {})["http.response.status_code"] == 503
    assert not [s for s in of_refused if s.name.startswith("chat ")]


async def test_an_answer_on_its_way_ends_before_the_service_does(memory: Memory) -> None:
    release = asyncio.Event()
    provider = Scripted("a", release, "b", END)
    async with (
        live(memory, provider, shutdown_grace_seconds=_LONG) as server,
        connect(server.socket_url, proxy=None) as socket,
    ):
        await socket.send('{"type":"message","content":"hi"}')
        assert (await _hear(socket))["type"] == "delta"
        async with _client(server) as client:
            answer = asyncio.create_task(client.post(URL, json={"messages": _HI}))
            while len(provider.requests) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            # A connection for later: the stopping service accepts none.
            assert (await client.get("/readyz")).status_code == 200
            server.stop()
            # It takes nothing new meanwhile, wherever that comes from.
            while (await client.get("/readyz")).status_code != 503:
                pass
            refused = await client.post(URL, json={"messages": _HI})
            assert refused.json()["error"]["code"] == "shutting_down"
            release.set()
            assert (await answer).json()["choices"][0]["message"]["content"] == "ab"
        assert (await _hear(socket))["content"] == "b"
        assert (await _hear(socket))["type"] == "done"
        assert (await _hear(socket))["error"]["code"] == "shutting_down"
        assert await _close_code(socket) == 1001
    assert memory.value("llm_response_time") == 2


async def test_an_idle_connection_does_not_wait_for_the_answers_of_others(memory: Memory) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    async with (
        live(memory, provider, shutdown_grace_seconds=_LONG) as server,
        _client(server) as client,
        connect(server.socket_url, proxy=None) as socket,
    ):
        ask = {"messages": _HI, "stream": True}
        async with client.stream("POST", URL, json=ask) as response:
            await anext(response.aiter_lines())
            server.stop()
            assert (await _hear(socket))["error"]["code"] == "shutting_down"
            assert await _close_code(socket) == 1001
    memory.log("answer cancelled")


async def test_an_idle_connection_is_told_that_the_service_stops(memory: Memory) -> None:
    async with live(memory) as server, connect(server.socket_url, proxy=None) as socket:
        await socket.send('{"type":"ping"}')
        await _hear(socket)
        server.stop()
        told = await _hear(socket)
        assert (told["type"], told["error"]["code"]) == ("error", "shutting_down")
        assert await _close_code(socket) == 1001
        assert told["trace_id"] == f"{memory.span('GET /ws/chat').context.trace_id:032x}"
    (point,) = memory.points("chatscope.websocket.connection.duration")
    assert point.attributes["chatscope.websocket.close_code"] == "1001"


async def test_an_answer_that_outlasts_the_grace_is_cut_and_told_so(memory: Memory) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    async with (
        live(memory, provider) as server,
        connect(server.socket_url, proxy=None) as socket,
        _client(server) as client,
    ):
        await socket.send('{"type":"message","content":"hi"}')
        assert (await _hear(socket))["type"] == "delta"
        ask = {"messages": _HI, "stream": True}
        async with client.stream("POST", URL, json=ask) as response:
            lines = response.aiter_lines()
            await anext(lines)
            whole = asyncio.create_task(client.post(URL, json={"messages": _HI}))
            while len(provider.requests) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
            server.stop()
            rest = [line async for line in lines]
        answer = await whole
        told = await _hear(socket)
        assert [message async for message in socket] == []  # told once
        assert await _close_code(socket) == 1001
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert (told["type"], told["error"]["code"]) == ("error", "shutting_down")
    spans = [span for span in memory.spans if span.name.startswith("chat ")]
    assert [(span.attributes or {})["error.type"] for span in spans] == ["shutting_down"] * 3
    assert [r for r in memory.logs if r.log_record.severity_text == "ERROR"] == []
    stopping = memory.log("shutting down").log_record.attributes or {}
    assert (stopping["answers"], stopping["connections"]) == (3, 1)
    cut = memory.log("responses cut by the shutdown").log_record.attributes or {}
    assert cut["answers"] == 3
    assert memory.value("llm_response_time") == 3


async def test_a_body_that_is_still_arriving_does_not_delay_the_end(memory: Memory) -> None:
    async with (
        live(memory, receive_timeout_seconds=_LONG, shutdown_grace_seconds=_LONG) as server,
        server.raw() as client,
    ):
        await client.send(head(100), "{")
        while not server.app.state.admission._receiving:  # noqa: ASYNC110
            await asyncio.sleep(0)
        server.stop()
        status, headers, body = await client.response()
        assert (status, body["error"]["code"]) == (503, "shutting_down")
        assert headers["connection"] == "close"
        assert await client.closed()
    assert memory.span(f"POST {URL}").status.status_code is StatusCode.ERROR


async def test_a_connection_that_is_closed_anyway_does_not_disturb_the_end(
    memory: Memory,
) -> None:
    async with live(memory) as server, connect(server.socket_url, proxy=None) as socket:
        server.stop()
        await socket.close()
        await asyncio.wait_for(socket.wait_closed(), PATIENCE_SECONDS)
    assert [r for r in memory.logs if r.log_record.severity_text == "ERROR"] == []
    assert memory.value("socket_connections") == 0
