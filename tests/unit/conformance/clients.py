"""The client of a case for each transport: sends the request, acts, and reports the result."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.unit.conformance.cases import Case, Client, Way
from tests.unit.conformance.scripts import MODEL, Stage

_URL = "/v1/chat/completions"
_ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
LEFT = "left"

Stop = Callable[[], object]


async def talk(case: Case, server: str, stage: Stage, stop: Stop) -> str:
    """Return the result for the client of `case`; `stop` stops the server."""
    if case.way is Way.SOCKET:
        return await _talk_over_socket(case, server, stage, stop)
    async with httpx2.AsyncClient(
        base_url=f"http://{server}", trust_env=False, timeout=30
    ) as client:
        ask = _one_piece if case.way is Way.HTTP else _stream
        asking = asyncio.create_task(ask(client, stage, case.script.pieces))
        if case.client is Client.READS:
            return await asking
        await stage.silent.wait()
        if case.client is Client.STAYS:
            stop()
            return await asking
        await stage.read.wait()
        asking.cancel()
        await asyncio.wait({asking})
        return LEFT


async def _one_piece(client: httpx2.AsyncClient, stage: Stage, _: int) -> str:
    stage.read.set()  # there is nothing to read before the end
    response = await client.post(_URL, json=_ASK)
    if response.status_code == 200:
        return f"200 {response.json()['choices'][0]['finish_reason']}"
    return _refusal(response)


async def _stream(client: httpx2.AsyncClient, stage: Stage, pieces: int) -> str:
    ends: list[str] = []
    texts = 0
    if not pieces:
        stage.read.set()
    async with client.stream("POST", _URL, json={**_ASK, "stream": True}) as response:
        if response.status_code != 200:
            await response.aread()
            return _refusal(response)
        try:
            async for line in response.aiter_lines():
                event = _event(line)
                texts += bool(_text(event))
                if texts == pieces:
                    stage.read.set()
                ends += _end(event)
        except httpx2.RemoteProtocolError:
            ends.append("cut")
    return " ".join(["200", *ends])


def _event(line: str) -> Any:
    data = line.removeprefix("data: ")
    return json.loads(data) if data not in ("", "[DONE]") else {}


def _text(event: Any) -> str:
    return "".join(choice["delta"].get("content", "") for choice in event.get("choices", ()))


def _end(event: Any) -> list[str]:
    if "error" in event:
        return [f"error {event['error']['code']}"]
    reasons = [choice["finish_reason"] for choice in event.get("choices", ())]
    return [reason for reason in reasons if reason]


def _refusal(response: httpx2.Response) -> str:
    error = response.json()["error"]
    assert error["trace_id"] == response.headers["x-trace-id"]
    again = response.headers.get("retry-after")
    return f"{response.status_code} {error['code']}" + (f" retry-after {again}" if again else "")


async def _talk_over_socket(case: Case, server: str, stage: Stage, stop: Stop) -> str:
    async with connect(f"ws://{server}/ws/chat", proxy=None) as socket:
        await socket.send(json.dumps({"type": "message", "content": "hello"}))
        if case.client is Client.READS:
            return await _last(socket)
        for _ in range(case.script.pieces):
            assert json.loads(await socket.recv())["type"] == "delta"
        await stage.silent.wait()
        return await _ACTS[case.client](socket, stop)


async def _last(socket: ClientConnection) -> str:
    """Return what follows the text: the last message of a turn, and nothing but a pong."""
    seen = []
    try:
        while (message := json.loads(await socket.recv()))["type"] != "pong":
            if message["type"] != "delta":
                assert len(message["trace_id"]) == 32
                reason = message.get("finish_reason") or message["error"]["code"]
                seen.append(f"{message['type']} {reason}")
                with suppress(ConnectionClosed):
                    await socket.send('{"type": "ping"}')
    except ConnectionClosed as closed:
        seen.append(f"closed {closed.rcvd.code if closed.rcvd else None}")
    return ", ".join(seen)


async def _leave(socket: ClientConnection, _: Stop) -> str:
    await socket.close()
    return LEFT


async def _vanish(socket: ClientConnection, _: Stop) -> str:
    socket.transport.abort()
    return LEFT


async def _cancel(socket: ClientConnection, _: Stop) -> str:
    await socket.send('{"type": "cancel"}')
    return await _last(socket)


async def _stay(socket: ClientConnection, stop: Stop) -> str:
    stop()
    return await _last(socket)


_ACTS: dict[Client, Callable[[ClientConnection, Stop], Awaitable[str]]] = {
    Client.LEAVES: _leave,
    Client.VANISHES: _vanish,
    Client.CANCELS: _cancel,
    Client.STAYS: _stay,
}
