"""The length of the path of a streamed chunk: from the provider's generator to uvicorn's `send`.

Each Python frame costs each chunk of each response; a wrapper around `send` is added easily, and
seen by nobody.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect

from app.domain.provider import Chunk, Event
from app.domain.request import ChatRequest
from tests.memory import Memory
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import URL, live

pytestmark = pytest.mark.anyio
_MAX_FRAMES = 7
_EVENT_LOOP = str(Path(asyncio.__file__).parent)
_TEXT = "some words"


def _callers(frame: FrameType | None) -> list[str]:
    """Return the functions on the stack above `frame`, up to the event loop."""
    names = []
    while (frame := frame and frame.f_back) and not frame.f_code.co_filename.startswith(
        _EVENT_LOOP
    ):
        names.append(frame.f_code.co_qualname)
    return names


class _Provider(Scripted):
    """Streams chunks and notes what reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[str] = []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        for _ in range(3):
            # Chunks that come together are sent together.
            await asyncio.sleep(0.01)
            self.readers = _callers(sys._getframe())
            yield Chunk(_TEXT)
        yield END


def _record_senders(monkeypatch: pytest.MonkeyPatch, protocol: type[Any]) -> list[list[str]]:
    """Note what calls the protocol's `send` for each chunk."""
    senders: list[list[str]] = []
    send = protocol.send

    def recording(self: Any, message: dict[str, Any]) -> Any:
        # A plain function, called by the sender as the coroutine function would be.
        if _TEXT in str(message.get("body") or message.get("text")):
            senders.append(_callers(sys._getframe()))
        return send(self, message)

    monkeypatch.setattr(protocol, "send", recording)
    return senders


def _assert_short(provider: _Provider, senders: list[list[str]]) -> None:
    assert len(senders) == 3
    assert provider.readers
    for frames in senders:
        path = [*provider.readers, *reversed(frames)]
        assert len(path) <= _MAX_FRAMES, path


async def test_streamed_chunk_takes_few_frames_over_http(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    senders = _record_senders(monkeypatch, RequestResponseCycle)
    provider = _Provider()
    origin = "https://chat.example"
    async with live(memory, provider, frontend_url=(origin,)) as server:
        client = httpx2.AsyncClient(base_url=f"http://{server.address}", trust_env=False)
        async with client:
            ask = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            response = await client.post(URL, json=ask, headers={"origin": origin})
    assert response.headers["access-control-allow-origin"] == origin
    _assert_short(provider, senders)


async def test_streamed_chunk_takes_few_frames_over_websocket(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    senders = _record_senders(monkeypatch, WebSocketsSansIOProtocol)
    provider = _Provider()
    async with live(memory, provider) as server, connect(server.socket_url, proxy=None) as socket:
        await socket.send(json.dumps({"type": "message", "content": "hi"}))
        while json.loads(await socket.recv())["type"] != "done":
            pass
    _assert_short(provider, senders)
