"""Responses over HTTP as ASGI messages."""

import json
from typing import Any

import pytest
from starlette.types import Message, Scope

from app.domain.provider import Chunk, ProviderError
from app.domain.turn import ClientDisconnected, Summary
from app.transport.outputs import EventStream, WholeResponse
from app.transport.response import ResponseWriter
from app.wire.completion import Completion
from app.wire.errors import error_object
from chatscope.genai.request import Usage

pytestmark = pytest.mark.anyio
_SUMMARY = Summary(
    model="m", finish_reason="stop", usage=Usage(3, 2), cost=None, seconds=1.0, trace_id="t"
)
_FAILURE = ProviderError("timeout", "late", retry_after="7")


class _Server:
    """Keeps what is sent, until the client is gone."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.gone = False
        self.scope: Scope = {"type": "http", "method": "POST", "headers": []}
        self.writer = ResponseWriter(self.scope, self._send)

    async def receive(self) -> Message:
        raise AssertionError("the request was read")

    async def _send(self, message: Message) -> None:
        if self.gone:
            raise OSError
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


@pytest.fixture
def server() -> _Server:
    return _Server()


def _stream(server: _Server) -> EventStream:
    return EventStream(
        server.scope, server.receive, server.writer, Completion("m", include_usage=False)
    )


def _whole(server: _Server) -> WholeResponse:
    return WholeResponse(
        server.scope, server.receive, server.writer, Completion("m", include_usage=False)
    )


def _last(body: bytes) -> Any:
    return json.loads(body.split(b"\n\n")[-2].removeprefix(b"data: "))


async def test_stream_is_sent_chunk_by_chunk_past_caches_and_buffers(server: _Server) -> None:
    stream = _stream(server)
    await stream.delta(Chunk("a"))
    assert [message["type"] for message in server.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    assert server.status == 200
    assert server.headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
    }
    assert server.sent[-1]["body"].count(b"\n\n") == 2  # the role and the text
    assert not server.writer.complete
    await stream.delta(Chunk("b"))
    assert server.sent[-1]["body"].count(b"\n\n") == 1
    await stream.completed(_SUMMARY)
    assert [message.get("more_body", False) for message in server.sent[1:]] == [True, True, False]
    assert server.body.endswith(b"data: [DONE]\n\n")
    assert server.writer.complete


async def test_chunks_of_a_burst_are_sent_together(server: _Server) -> None:
    stream = _stream(server)
    await stream.delta(Chunk("a"), more=True)
    await stream.delta(Chunk("b"), more=True)
    assert server.sent == []
    await stream.delta(Chunk("c"))
    [_, body] = server.sent
    assert body["body"].count(b"\n\n") == 4  # the role and three texts
    await stream.delta(Chunk("d"), more=True)
    await stream.completed(_SUMMARY)
    assert len(server.sent) == 3
    assert b'"content":"d"' in server.sent[-1]["body"]


async def test_chunks_that_were_held_back_are_sent_before_an_error(server: _Server) -> None:
    stream = _stream(server)
    await stream.delta(Chunk("a"), more=True)
    await stream.failed(_FAILURE, "t" * 32)
    assert server.status == 200
    assert b'"content":"a"' in server.body
    assert _last(server.body) == error_object(_FAILURE, "t" * 32)


async def test_stream_that_fails_before_its_first_chunk_has_a_status(server: _Server) -> None:
    await _stream(server).failed(_FAILURE, "t" * 32)
    assert (server.status, server.headers[b"retry-after"]) == (504, b"7")
    assert json.loads(server.body) == error_object(_FAILURE, "t" * 32)
    assert server.writer.complete


async def test_stream_that_fails_later_ends_with_an_error_event(server: _Server) -> None:
    stream = _stream(server)
    await stream.delta(Chunk("a"))
    await stream.failed(_FAILURE, "t" * 32)
    assert server.status == 200
    assert _last(server.body) == error_object(_FAILURE, "t" * 32)
    assert server.writer.complete


async def test_response_in_one_piece_is_sent_when_it_is_whole(server: _Server) -> None:
    response = _whole(server)
    await response.delta(Chunk("a"))
    await response.delta(Chunk("b"))
    assert server.sent == []
    await response.completed(_SUMMARY)
    assert (server.status, server.headers[b"content-type"]) == (200, b"application/json")
    found = json.loads(server.body)
    assert found["choices"][0]["message"]["content"] == "ab"
    assert found["usage"]["total_tokens"] == 5


async def test_failure_takes_the_place_of_the_whole_response(server: _Server) -> None:
    response = _whole(server)
    await response.delta(Chunk("a"))
    await response.failed(_FAILURE, "t" * 32)
    assert server.status == 504
    assert json.loads(server.body) == error_object(_FAILURE, "t" * 32)


async def test_nothing_is_sent_to_a_client_that_cancels(server: _Server) -> None:
    await _stream(server).cancelled(_SUMMARY)
    await _whole(server).cancelled(_SUMMARY)
    assert server.sent == []


async def test_client_that_is_gone_ends_the_turn(server: _Server) -> None:
    server.gone = True
    with pytest.raises(ClientDisconnected):
        await _stream(server).delta(Chunk("a"))
