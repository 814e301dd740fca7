"""Output of a turn over HTTP: as server-sent events, or as a whole response."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope

from app.domain.errors import ServiceError
from app.domain.provider import Chunk
from app.domain.turn import Summary
from app.transport.errors import error_response
from app.transport.response import ResponseWriter

_EVENT_STREAM: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # otherwise nginx buffers the stream
]


class Rendering(Protocol):
    """The bytes of one response in the client's format."""

    def whole(self, text: str, summary: Summary) -> bytes:
        """Return the response without streaming; `text` is that of all chunks."""

    def delta(self, chunk: Chunk) -> bytes:
        """Return the events of a chunk; empty if the client receives nothing of it."""

    def last(self, summary: Summary) -> bytes:
        """Return the events at the end of a stream."""

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """Return the error that ends a stream."""

    def error_body(self, error: ServiceError, trace_id: str) -> dict[str, Any]:
        """Return the body of an error response."""


class _HttpOutput:
    """Common part: responses that are sent as a whole."""

    def __init__(
        self, scope: Scope, receive: Receive, writer: ResponseWriter, rendering: Rendering
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._writer = writer
        self._rendering = rendering
        self._headers: Mapping[str, str] = {}

    def started(self, headers: Mapping[str, str]) -> None:
        """Note the provider's headers."""
        self._headers = headers

    async def cancelled(self, summary: Summary) -> None:
        """Send nothing: over HTTP a client cancels by disconnecting."""

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """Send an error response."""
        body = self._rendering.error_body(error, trace_id)
        await self._respond(error_response(error, body))

    async def _respond(self, response: Response) -> None:
        await response(self._scope, self._receive, self._writer)


class EventStream(_HttpOutput):
    """Server-sent events. The status is sent with the first of them, so that an early failure
    has a status of its own."""

    def __init__(
        self, scope: Scope, receive: Receive, writer: ResponseWriter, rendering: Rendering
    ) -> None:
        super().__init__(scope, receive, writer, rendering)
        self._held: list[bytes] = []

    async def delta(self, chunk: Chunk, *, more: bool = False) -> None:
        """Send a chunk, and those held back: several in one write cost little more than one."""
        if data := self._rendering.delta(chunk):
            self._held.append(data)
        if more or not self._held:
            return
        if not self._writer.started:
            await self._start()
        body = self._taken()
        await self._writer({"type": "http.response.body", "body": body, "more_body": True})

    async def completed(self, summary: Summary) -> None:
        """Send the last chunks."""
        self._held.append(self._rendering.last(summary))
        if not self._writer.started:
            await self._start()
        await self._end(self._taken())

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """Send an error response, or an error event if the stream has started."""
        if self._held and not self._writer.started:
            await self._start()
        if self._writer.started:
            self._held.append(self._rendering.error(error, trace_id))
            await self._end(self._taken())
        else:
            await super().failed(error, trace_id)

    def _taken(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)

    async def _start(self) -> None:
        """Send the status and the headers."""
        passed = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        headers = [*_EVENT_STREAM, *passed]
        await self._writer({"type": "http.response.start", "status": 200, "headers": headers})

    async def _end(self, data: bytes) -> None:
        await self._writer({"type": "http.response.body", "body": data})


class WholeResponse(_HttpOutput):
    """Collects the text and sends it when it is complete."""

    def __init__(
        self, scope: Scope, receive: Receive, writer: ResponseWriter, rendering: Rendering
    ) -> None:
        super().__init__(scope, receive, writer, rendering)
        self._text: list[str] = []

    async def delta(self, chunk: Chunk, *, more: bool = False) -> None:
        """Keep the text of a provider that gives nothing else."""
        self._text.append(chunk.text)

    async def completed(self, summary: Summary) -> None:
        """Send the response."""
        body = self._rendering.whole("".join(self._text), summary)
        headers = dict(self._headers)
        await self._respond(Response(body, media_type="application/json", headers=headers))
