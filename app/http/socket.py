"""WS /ws/chat: questions in, pieces of answers out, with the memory of one connection.

In:  {"type": "message", "content", "model"?}, {"type": "cancel"}, {"type": "ping"}
Out: {"type": "delta", "content"}, then one of
     {"type": "done", "model", "finish_reason", "usage", "cost", "seconds", "trace_id"} and
     {"type": "error", "error": {...}, "trace_id"}; and {"type": "pong"}
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

from loguru import logger
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from app.chat.catalog import Catalog
from app.chat.conversation import Conversation
from app.chat.parsing import check, parse_json
from app.chat.request import ChatRequest, SocketQuestion
from app.chat.turn import ClientGone, Ending, Turn, run_turn
from app.errors import InternalError, InvalidRequest, ServiceError
from app.http.origins import check_origin
from app.http.wire import usage_object
from app.settings import Settings
from app.telemetry import names
from app.telemetry.instrument import Telemetry
from app.telemetry.tracing import current_trace_id, step
from app.telemetry.websocket import socket_connection


class ChatSocket:
    """The endpoint."""

    def __init__(self, settings: Settings, catalog: Catalog, telemetry: Telemetry) -> None:
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry

    async def serve(self, websocket: WebSocket) -> None:
        """Talk until either side closes."""
        check_origin(websocket, self._settings.frontend_url)
        await websocket.accept()
        session = _Session(websocket, self._settings, self._catalog, self._telemetry)
        try:
            await session.read()
        finally:
            await session.stop()


class _Socket:
    """The sending side."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, message: dict[str, Any]) -> None:
        try:
            await self._websocket.send_json(message)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise ClientGone from error

    async def refuse(self, error: ServiceError) -> None:
        await self.send(error.to_socket_message(current_trace_id()))


class _Session:
    """One connection: it reads on while an answer is on its way."""

    def __init__(
        self, websocket: WebSocket, settings: Settings, catalog: Catalog, telemetry: Telemetry
    ) -> None:
        self._websocket = websocket
        self._socket = _Socket(websocket)
        self._limits = {"max_message_chars": settings.max_message_chars}
        self._catalog = catalog
        self._telemetry = telemetry
        self._connection = socket_connection(websocket.scope)
        self._conversation = Conversation(settings.history_messages)
        self._outlet: SocketOutlet | None = None
        self._turn: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Take messages until the client leaves."""
        with suppress(ClientGone):
            while (message := await self._websocket.receive())["type"] == "websocket.receive":
                try:
                    await self._take(message.get("text"))
                except ServiceError as error:
                    logger.info("socket message refused", code=error.code, param=error.param)
                    await self._socket.refuse(error)

    async def stop(self) -> None:
        """Give up the answer on its way, and wait until it is recorded."""
        if self._turn:
            self._turn.cancel()
            await asyncio.wait({self._turn})

    async def _take(self, text: str | None) -> None:
        arrived = time.perf_counter()
        if text is None:
            raise InvalidRequest("A message must be text.", code="binary_message")
        match parse_json(text):
            case {"type": "message"} as data:
                await self._start_turn(data, arrived)
            case {"type": "cancel"}:
                self._cancel_turn()
            case {"type": "ping"}:
                await self._socket.send({"type": "pong"})
            case _:
                raise InvalidRequest(
                    "Invalid 'type': accepted are 'message', 'cancel' and 'ping'.",
                    code="unknown_type",
                    param="type",
                )

    def _cancel_turn(self) -> None:
        # A cancel may cross the end of its answer on the way: then there is nothing to do.
        # A second one would cut off the message that the first one leads to.
        if self._turn and not self._turn.cancelling():
            self._turn.cancel()

    async def _start_turn(self, data: dict[str, Any], arrived: float) -> None:
        if self._turn and not self._turn.done():
            if self._outlet is None or not self._outlet.ended:
                raise InvalidRequest(
                    "An answer is on its way; wait for its end, or cancel it.",
                    code="turn_in_progress",
                )
            await asyncio.wait({self._turn})
        self._outlet = SocketOutlet(self._socket)
        self._turn = asyncio.create_task(self._run(data, arrived, self._outlet))
        # A task that is cancelled before its first step never runs, and would tell no end.
        await asyncio.sleep(0)

    async def _run(self, data: dict[str, Any], arrived: float, outlet: "SocketOutlet") -> None:
        with self._connection.turn("message"), suppress(ClientGone):
            try:
                await self._answer(data, arrived, outlet)
            except ServiceError as error:
                logger.info("socket message refused", code=error.code, param=error.param)
                await outlet.failed(error, current_trace_id())
            except Exception:
                logger.exception("socket message failed")
                await outlet.failed(InternalError(), current_trace_id())

    async def _answer(self, data: dict[str, Any], arrived: float, outlet: "SocketOutlet") -> None:
        with step("validate"):
            question = check(SocketQuestion, data, self._limits)
            entry = self._catalog.find(question.model)
        with step("history"):
            messages = self._conversation.with_question(question.content)
            request = ChatRequest(model=entry.model, messages=messages, stream=True)
        turn = Turn(
            entry=entry, request=request, started=arrived, conversation_id=self._connection.id
        )
        try:
            await run_turn(self._telemetry, turn, outlet)
        finally:
            self._conversation.remember(question.content, outlet.text)


class SocketOutlet:
    """One answer as messages; keeps its text for the conversation."""

    def __init__(self, socket: _Socket) -> None:
        self._socket = socket
        self._sent: list[str] = []
        self.ended = False  # the last message of the turn went out

    @property
    def text(self) -> str:
        """What the client got."""
        return "".join(self._sent)

    async def delta(self, text: str) -> None:
        """One piece."""
        await self._socket.send({"type": "delta", "content": text})
        self._sent.append(text)

    async def completed(self, ending: Ending) -> None:
        """The end, with what the answer took."""
        await self._end(
            {
                "type": "done",
                "model": ending.model,
                "finish_reason": ending.finish_reason,
                "usage": usage_object(ending.usage),
                "cost": ending.cost,
                "seconds": round(ending.seconds, 3),
                "trace_id": ending.trace_id,
            }
        )

    async def cancelled(self, ending: Ending) -> None:
        """The same, for an answer cut short."""
        await self.completed(ending)

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """The end, with why; a failure of ours shows on the turn's span as on an HTTP one."""
        if error.status >= 500:
            span = trace.get_current_span()
            span.set_attribute(names.ERROR_TYPE, error.code)
            span.set_status(Status(StatusCode.ERROR, error.code))
        await self._end(error.to_socket_message(trace_id))

    async def _end(self, message: dict[str, Any]) -> None:
        self.ended = True
        await self._socket.send(message)
