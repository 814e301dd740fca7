"""A large body keeps no other request waiting."""

import json
import threading
from typing import Any

import anyio
import httpx2
import pytest
from websockets.asyncio.client import connect

from app.transport import completions, embeddings, feedback, token_count
from app.transport.large import LARGE
from app.wire import websocket
from tests.memory import Memory
from tests.unit.transport.live import PATIENCE_SECONDS, live

pytestmark = pytest.mark.anyio

_LONG = "word " * (LARGE // 5 + 1)
_CHAT = {"messages": [{"role": "user", "content": _LONG}]}
_BODIES: dict[str, tuple[Any, Any]] = {
    "/v1/chat/completions": (completions, _CHAT),
    "/v1/messages": (completions, {**_CHAT, "model": "m", "max_tokens": 9}),
    "/v1/messages/count_tokens": (token_count, _CHAT),
    "/v1/embeddings": (embeddings, {"input": _LONG}),
    "/v1/feedback": (feedback, {"comment": _LONG}),
}


def _slow(monkeypatch: pytest.MonkeyPatch, module: Any) -> tuple[threading.Event, threading.Event]:
    """Let the parser of a module wait, in its own thread; return its beginning and its end."""
    begun, go_on = threading.Event(), threading.Event()
    parse = module.parse_json

    def waiting(body: bytes) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return parse(body)

    monkeypatch.setattr(module, "parse_json", waiting)
    return begun, go_on


async def _healthy_meanwhile(
    client: httpx2.AsyncClient, begun: threading.Event, go_on: threading.Event
) -> None:
    while not begun.is_set():
        assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/healthz")).status_code == 200
    go_on.set()


@pytest.mark.parametrize("path", _BODIES)
async def test_other_requests_are_served_while_a_large_body_is_read(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    module, body = _BODIES[path]
    slow = _slow(monkeypatch, module)
    async with live(memory) as server:
        address = f"http://{server.address}"
        async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=240) as client:

            async def post() -> None:
                answer = await client.post(path, json=body)
                assert answer.status_code < 500

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post)
                tasks.start_soon(_healthy_meanwhile, client, *slow)


async def test_other_requests_are_served_while_a_large_message_is_read(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = _slow(monkeypatch, websocket)
    async with live(memory) as server, connect(server.socket_url, proxy=None) as socket:
        address = f"http://{server.address}"
        async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=240) as client:
            await socket.send(json.dumps({"type": "ping", "content": _LONG}))
            await _healthy_meanwhile(client, *slow)
            assert json.loads(await socket.recv())["type"] == "pong"
