"""WS /ws/chat: questions in, pieces of answers out, with the memory of one connection.

In:  {"type": "message", "content", "model"?}, {"type": "cancel"}, {"type": "ping"}
Out: {"type": "delta", "content"}, then one of
     {"type": "done", "model", "finish_reason", "usage", "cost", "seconds", "trace_id"} and
     {"type": "error", "error": {...}, "trace_id"}; and {"type": "pong"}
"""

import asyncio
import contextvars
import time
from contextlib import suppress
from typing import Any

from loguru import logger
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from pydantic_core import to_json
from starlette import status
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.chat.catalog import Catalog
from app.chat.conversation import Conversation
from app.chat.parsing import check, parse_json
from app.chat.request import ChatRequest, SocketQuestion
from app.chat.turn import ClientGone, Ending, Turn, run_turn
from app.errors import InternalError, InvalidRequest, ServiceError, ShuttingDown
from app.http.admission import Admission
from app.http.failures import record_refusal
from app.http.wire import usage_object
from app.settings import Settings
from chatscope import names
from chatscope.telemetry import Telemetry
from chatscope.tracing import current_trace_id, step
from chatscope.websocket import socket_connection


class ChatSocket:
    """The endpoint."""

    def __init__(
        self, settings: Settings, catalog: Catalog, telemetry: Telemetry, admission: Admission
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry
        self._admission = admission

    async def serve(self, websocket: WebSocket) -> None:
        """Talk until either side closes."""
        session = _Session(
            websocket, self._settings, self._catalog, self._telemetry, self._admission
        )
        with self._admission.connection(session.leave):
            await websocket.accept()
            try:
                await session.read()
            finally:
                await session.stop()


class _Socket:
    """The sending side."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, message: dict[str, Any]) -> None:
        text = to_json(message).decode()
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:
            # The latter from a server that has closed already, before it says so to `receive`.
            raise ClientGone from error

    async def refuse(self, error: ServiceError) -> None:
        await self.send(error.to_socket_message(current_trace_id()))

    async def close(self, code: int, reason: str) -> None:
        # Who is gone already, or closed at the same time, need not be told.
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code, reason)


class _Session:
    """One connection: it reads on while an answer is on its way."""

    def __init__(
        self,
        websocket: WebSocket,
        settings: Settings,
        catalog: Catalog,
        telemetry: Telemetry,
        admission: Admission,
    ) -> None:
        self._websocket = websocket
        self._socket = _Socket(websocket)
        self._limits = settings.request_limits
        self._idle_seconds = settings.socket_idle_seconds
        self._catalog = catalog
        self._telemetry = telemetry
        self._admission = admission
        self._connection = socket_connection(websocket.scope)
        self._conversation = Conversation(settings.history_messages, settings.max_request_chars)
        self._outlet: SocketOutlet | None = None
        self._turn: asyncio.Task[None] | None = None
        self._active = time.monotonic()  # when either side last had something to say
        self._context = contextvars.copy_context()

    async def read(self) -> None:
        """Take messages until the client leaves, or nobody says anything for too long."""
        with suppress(ClientGone):
            while (message := await self._receive())["type"] == "websocket.receive":
                try:
                    await self._take(message.get("text"))
                except ServiceError as error:
                    self._record_refusal(error)
                    await self._socket.refuse(error)

    async def leave(self) -> None:
        """The service stops: close when the answer on its way, if any, has come to its end."""
        await asyncio.create_task(self._leave(), context=self._context)

    async def stop(self) -> None:
        """Give up the answer on its way, and wait until it is recorded."""
        if self._turn:
            self._turn.cancel()
            await asyncio.wait({self._turn})

    async def _leave(self) -> None:
        if self._turn:
            await asyncio.wait({self._turn})
        error = ShuttingDown()
        # Whose answer was cut by it knows.
        if not (self._outlet and self._outlet.last_code == error.code):
            with suppress(ClientGone):
                await self._socket.refuse(error)
        await self._socket.close(status.WS_1001_GOING_AWAY, error.message)

    async def _receive(self) -> Message:
        self._active = time.monotonic()
        while (left := self._active + self._idle_seconds - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    return await self._websocket.receive()
            if self._answering:
                self._active = time.monotonic()
        self._telemetry.instruments.record_limit_reached("idle_seconds")
        await self._socket.close(
            status.WS_1000_NORMAL_CLOSURE, f"idle for {self._idle_seconds:g} s"
        )
        raise ClientGone

    @property
    def _answering(self) -> bool:
        return self._turn is not None and not self._turn.done()

    def _record_refusal(self, error: ServiceError) -> None:
        record_refusal("socket message refused", error, self._telemetry.instruments)

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
        # A cancel may cross the end of its answer on the way: then there is nothing to do. One
        # that comes amid the last message, or a second one, would cut that message off.
        if self._turn and not self._is_over():
            self._turn.cancel()

    def _is_over(self) -> bool:
        """Whether the turn only tells its end, and clears up."""
        ended = self._outlet is not None and self._outlet.ended
        return ended or self._turn is None or bool(self._turn.cancelling())

    async def _start_turn(self, data: dict[str, Any], arrived: float) -> None:
        if self._turn and self._answering:
            if not self._is_over():
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
                self._record_refusal(error)
                await outlet.failed(error, current_trace_id())
            except Exception:
                logger.exception("socket message failed")
                await self._tell_bug(outlet)
            finally:
                self._active = time.monotonic()

    async def _tell_bug(self, outlet: "SocketOutlet") -> None:
        try:
            await outlet.failed(InternalError(), current_trace_id())
        except ClientGone:
            raise
        except Exception:
            # Else the client would wait for an end that nobody can tell.
            await self._socket.close(status.WS_1011_INTERNAL_ERROR, "The service failed.")

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
        with self._admission.answer():
            try:
                await run_turn(self._telemetry, turn, outlet)
            finally:
                self._remember(question.content, outlet.text)

    def _remember(self, question: str, answer: str) -> None:
        for limit in self._conversation.remember(question, answer):
            self._telemetry.instruments.record_limit_reached(limit)


class SocketOutlet:
    """One answer as messages; keeps its text for the conversation."""

    def __init__(self, socket: _Socket) -> None:
        self._socket = socket
        self._sent: list[str] = []
        self.ended = False  # the last message of the turn went out
        self.last_code: str | None = None  # of the error in it

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
        self.last_code = error.code
        if error.status >= 500:
            span = trace.get_current_span()
            span.set_attribute(names.ERROR_TYPE, error.code)
            span.set_status(Status(StatusCode.ERROR, error.code))
        await self._end(error.to_socket_message(trace_id))

    async def _end(self, message: dict[str, Any]) -> None:
        self.ended = True
        await self._socket.send(message)
