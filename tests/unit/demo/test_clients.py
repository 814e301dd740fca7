"""Requests by each transport: responses, and error codes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from app.domain.provider import ProviderError
from demo.clients import (
    DISCONNECTED,
    TIMED_OUT,
    Conversation,
    HttpClient,
    Message,
    RequestError,
    Response,
)
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted
from tests.unit.transport.live import PATIENCE_SECONDS, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
T = TypeVar("T")
_MESSAGES: list[Message] = [{"role": "user", "content": "hello"}]
_BROKEN = ProviderError("server_error", "It failed.")
_NOBODY = "http://127.0.0.1:9"
_WAYS = ("http", "sse", "websocket")


def _ask(way: str, url: str, model: str = MODEL, timeout: float = PATIENCE_SECONDS) -> Response:
    """Send one request with a new client, in the current thread."""
    if way == "websocket":
        with Conversation(url, timeout) as conversation:
            return conversation.ask("hello", model)
    client = HttpClient(url, timeout)
    try:
        return (client.ask if way == "http" else client.stream)(_MESSAGES, model)
    finally:
        client.close()


async def _failure(call: Callable[[], object]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await asyncio.to_thread(call)
    return caught.value


@pytest.mark.parametrize(("way", "streamed"), [("http", False), ("sse", True), ("websocket", True)])
async def test_response_is_whole_and_a_streamed_one_has_its_first_token_time(
    memory: Memory, way: str, streamed: bool
) -> None:
    async with live(memory, Scripted("a ", "b", END)) as server:
        answer = await asyncio.to_thread(_ask, way, f"http://{server.address}")
    assert answer.text == "a b"
    assert (answer.first_token is not None) == streamed


async def test_models_are_those_of_the_service(memory: Memory) -> None:
    async with live(memory) as server:
        client = HttpClient(f"http://{server.address}")
        assert await asyncio.to_thread(client.models) == {"simulated-1": "simulated"}
        client.close()


async def test_disconnect_halfway_reaches_the_service(memory: Memory) -> None:
    scripted = Scripted("a", "b", asyncio.Event())
    async with live(memory, scripted) as server:
        client = HttpClient(f"http://{server.address}")
        answer = await asyncio.to_thread(client.stream, _MESSAGES, MODEL, 2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scripted.left.wait()
        client.close()
    assert answer.text == "ab"


async def test_cancelled_response_ends_and_the_connection_continues(memory: Memory) -> None:
    async with live(memory, Scripted("a", "b", asyncio.Event())) as server:

        def talk() -> list[str]:
            with Conversation(f"http://{server.address}") as conversation:
                return [conversation.ask("hello", MODEL, 2).text for _ in range(2)]

        assert await asyncio.to_thread(talk) == ["ab", "ab"]


async def test_a_conversation_is_remembered(memory: Memory) -> None:
    scripted = Scripted("a", END)
    async with live(memory, scripted) as server:

        def talk() -> None:
            with Conversation(f"http://{server.address}") as conversation:
                conversation.ask("one", MODEL)
                conversation.ask("two", MODEL)

        await asyncio.to_thread(talk)
    assert [said["content"] for said in scripted.requests[1].messages] == ["one", "a", "two"]


@pytest.mark.parametrize("script", [(_BROKEN,), ("a", _BROKEN)], ids=["at once", "amid it"])
@pytest.mark.parametrize("way", _WAYS)
async def test_failure_has_its_code_and_trace_id(
    memory: Memory, way: str, script: tuple[Any, ...]
) -> None:
    async with live(memory, Scripted(*script)) as server:
        failure = await _failure(lambda: _ask(way, f"http://{server.address}"))
    assert failure.code == "server_error"
    assert failure.trace_id in {f"{span.context.trace_id:032x}" for span in memory.spans}


@pytest.mark.parametrize("way", _WAYS)
async def test_rejection_has_its_code(memory: Memory, way: str) -> None:
    async with live(memory) as server:
        failure = await _failure(lambda: _ask(way, f"http://{server.address}", "no-such-model"))
    assert (failure.code, len(failure.trace_id)) == ("model_not_found", 32)


async def test_rejected_connection_has_its_code(memory: Memory) -> None:
    async with live(memory, max_connections=1) as server:
        url = f"http://{server.address}"
        first = await asyncio.to_thread(Conversation, url)
        failure = await _failure(lambda: Conversation(url))
        await asyncio.to_thread(first.__exit__, None, None, None)
    assert failure.code == "too_many_connections"


@pytest.mark.parametrize("way", _WAYS)
async def test_unreachable_service_is_a_connection_error(way: str) -> None:
    assert (await _failure(lambda: _ask(way, _NOBODY))).code == DISCONNECTED


@pytest.mark.parametrize("way", ["http", "websocket"])
async def test_a_model_that_is_silent_for_too_long_is_a_time_out(memory: Memory, way: str) -> None:
    async with live(memory, Scripted(asyncio.Event())) as server:
        url = f"http://{server.address}"
        failure = await _failure(lambda: _ask(way, url, timeout=0.2))
    assert failure.code == TIMED_OUT


@asynccontextmanager
async def _breaking_off(*lines: str) -> AsyncIterator[str]:
    """Run a server that sends the same lines to every client, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join((*lines, "")).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_stream_that_breaks_off_is_a_lost_connection() -> None:
    head = ("HTTP/1.1 200 OK", "content-type: text/event-stream", "content-length: 999", "")
    async with _breaking_off(*head, "data: {") as url:
        assert (await _failure(lambda: _ask("sse", url))).code == DISCONNECTED


async def test_foreign_error_response_is_reported_by_its_status() -> None:
    head = ("HTTP/1.1 418 No", "content-type: text/plain", "content-length: 2", "", "no")
    async with _breaking_off(*head) as url:
        assert (await _failure(lambda: _ask("websocket", url))).code == "status_418"
        assert (await _failure(lambda: _ask("http", url))).code == "APIStatusError"
