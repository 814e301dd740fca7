"""Where an answer goes over HTTP: as server-sent events, or in one piece."""

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.chat.turn import ClientGone, Ending, Outlet, Turn, run_turn
from app.errors import ServiceError
from app.http.connection import while_connected
from app.http.wire import Completion, event
from chatscope.telemetry import Telemetry

_EVENT_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # else nginx collects the stream
]


class TurnResponse:
    """Runs a turn and answers with it: an ASGI application, as a Starlette response is."""

    def __init__(self, telemetry: Telemetry, turn: Turn) -> None:
        self._telemetry = telemetry
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, for as long as client and server are there."""
        request = self._turn.request
        completion = Completion(self._turn.entry.model, include_usage=request.include_usage)
        http = _Http(scope, receive, send)
        outlet: Outlet = (EventStream if request.stream else OnePiece)(http, completion)
        turn = run_turn(self._telemetry, self._turn, outlet)
        await while_connected(receive, turn, answered=lambda: http.ended)


class _Http:
    """The sending side of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.ended = False  # the last byte of the answer went out

    async def respond(self, response: Response) -> None:
        await response(self._scope, self._receive, self.send)

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:
            raise ClientGone from error
        if message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)


class EventStream:
    """Server-sent events; the status waits for the first of them, so that an early failure
    still has one of its own."""

    def __init__(self, http: _Http, completion: Completion) -> None:
        self._http = http
        self._completion = completion
        self._started = False

    async def delta(self, text: str) -> None:
        """One chunk."""
        await self._write(self._completion.delta(text))

    async def completed(self, ending: Ending) -> None:
        """The last chunks."""
        await self._write(self._completion.last(ending), more=False)

    async def cancelled(self, ending: Ending) -> None:
        """Over HTTP only a client that left cancels."""

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """An error answer, or an event where the stream is already on its way."""
        if self._started:
            await self._write(event(error.body(trace_id)), more=False)
        else:
            await self._http.respond(error.to_response(trace_id))

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await self._http.send(
                {"type": "http.response.start", "status": 200, "headers": list(_EVENT_STREAM)}
            )
            data = self._completion.first() + data
        await self._http.send({"type": "http.response.body", "body": data, "more_body": more})


class OnePiece:
    """Collects the answer, and sends it when it is whole."""

    def __init__(self, http: _Http, completion: Completion) -> None:
        self._http = http
        self._completion = completion
        self._text: list[str] = []

    async def delta(self, text: str) -> None:
        """Kept until the end."""
        self._text.append(text)

    async def completed(self, ending: Ending) -> None:
        """The answer."""
        body = self._completion.whole("".join(self._text), ending)
        await self._http.respond(Response(body, media_type="application/json"))

    async def cancelled(self, ending: Ending) -> None:
        """Over HTTP only a client that left cancels."""

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """An error answer in its place."""
        await self._http.respond(error.to_response(trace_id))
