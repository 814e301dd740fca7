"""A client that does not read: its provider waits with it, and nothing is held but buffers."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from websockets.asyncio.client import connect

from app.domain.provider import Chunk, Event
from app.domain.request import ChatRequest
from app.main import create_app
from tests.memory import Memory
from tests.unit.conformance.invariant import Spans, answered
from tests.unit.conformance.scripts import END, MODEL
from tests.unit.scripted import catalog_of
from tests.unit.serving import quick, serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
# Together far more than a connection's socket buffers take (some megabytes each way).
_PIECES = 1000
_PIECE = "x" * 65_536
_Unread = Callable[[str], AbstractAsyncContextManager[None]]
_ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}


class _Endless:
    """Always has more, and counts what was asked for."""

    name = "endless"
    models = (MODEL,)
    server = None
    in_process = True

    def __init__(self) -> None:
        self.pulled = 0

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        for _ in range(_PIECES):
            self.pulled += 1
            yield Chunk(_PIECE)
        yield END

    async def close(self) -> None:
        pass


class _EndlessBlocking(_Endless):
    def stream(self, request: ChatRequest) -> Generator[Event]:  # type: ignore[override]
        for _ in range(_PIECES):
            self.pulled += 1
            yield Chunk(_PIECE)
        yield END


@asynccontextmanager
async def _unread_stream(server: str) -> AsyncIterator[None]:
    url = f"http://{server}/v1/chat/completions"
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("POST", url, json=_ASK) as response,
    ):
        assert response.status_code == 200
        yield


@asynccontextmanager
async def _unread_socket(server: str) -> AsyncIterator[None]:
    url = f"ws://{server}/ws/chat"
    async with connect(url, proxy=None, compression=None, max_queue=1) as socket:
        await socket.send(json.dumps({"type": "message", "content": "hello"}))
        await socket.recv()
        yield
        # A close would wait for all that was sent.
        socket.transport.abort()


async def _settled(server: str, provider: _Endless) -> None:
    """Until the server, which serves others all the time, asks for no more pieces."""
    async with httpx2.AsyncClient(
        base_url=f"http://{server}", trust_env=False, timeout=30
    ) as client:
        before = -1
        while provider.pulled != before:
            before = provider.pulled
            for _ in range(20):
                assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize("provider", [_Endless, _EndlessBlocking])
@pytest.mark.parametrize("unread", [_unread_stream, _unread_socket])
async def test_no_more_is_asked_of_the_provider_than_buffers_take(
    memory: Memory, unread: _Unread, provider: type[_Endless]
) -> None:
    endless = provider()
    spans = Spans()
    memory.providers.tracer_provider.add_span_processor(spans)
    app = create_app(quick(), catalog=catalog_of(endless), providers=memory.providers)
    async with serving(app) as server:
        async with unread(server):
            await _settled(server, endless)
        await answered(spans)
    assert 0 < endless.pulled < _PIECES / 2
    memory.log("answer cancelled")
    assert spans.open == {}
