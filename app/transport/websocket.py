"""WS /ws/chat: chat with the memory of one connection. `app.wire.websocket` has the messages."""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from loguru import logger
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from starlette import status
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.conversations import SharedConversations
from app.domain.conversation import Conversation
from app.domain.errors import InternalError, InvalidRequest, ServiceError, ShuttingDown
from app.domain.identity import Identity, clean
from app.domain.provider import Chunk
from app.domain.request import ChatRequest, message_text
from app.domain.turn import ClientDisconnected, Summary, Turn, run_turn
from app.providers.catalog import Catalog
from app.settings import Settings
from app.transport.admission import Admission
from app.transport.authentication import admit, caller_attributes, count_message, key_name
from app.transport.large import unblocked
from app.transport.refusal_log import RefusalLog
from app.transport.steps import step
from app.wire.errors import is_server_error
from app.wire.parsing import validate
from app.wire.request import with_token_limit
from app.wire.websocket import (
    PONG,
    Question,
    parse_message,
    render_accepted,
    render_delta,
    render_done,
    render_error,
)
from chatscope import Telemetry, current_trace_id, names, socket_connection


@dataclass(frozen=True, eq=False)
class ChatWebSocket:
    """The endpoint. An ASGI application, because Starlette would put a wrapper around the `send` of
    a function."""

    settings: Settings
    catalog: Catalog
    telemetry: Telemetry
    admission: Admission
    refusals: RefusalLog
    shared: SharedConversations | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until either side closes it."""
        websocket = WebSocket(scope, receive, send)
        session = _Session(websocket, Sender(websocket, send), self)
        with self.admission.connection(session.close):
            await websocket.accept()
            try:
                await session.read()
            finally:
                await session.stop()


class Sender:
    """The sending side of one connection."""

    def __init__(self, websocket: WebSocket, send: Send) -> None:
        self._websocket = websocket
        self._send = send

    async def send(self, text: str) -> None:
        """Send a message. Raise ClientDisconnected."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            raise ClientDisconnected
        try:
            # Not with the WebSocket's methods, which would add two frames for each chunk.
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as error:
            # RuntimeError: a server that has closed the connection, and not reported it yet.
            raise ClientDisconnected from error

    async def send_error(self, error: ServiceError) -> None:
        """Send an error that ends no turn."""
        await self.send(render_error(error, current_trace_id()))

    async def close(self, code: int, reason: str) -> None:
        """Close, unless the client has closed or is gone."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code, reason)


class _Session:
    """One connection. It reads messages while a turn runs in a task of its own."""

    def __init__(self, websocket: WebSocket, sender: Sender, service: ChatWebSocket) -> None:
        self._websocket = websocket
        self._sender = sender
        self._service = service
        settings = service.settings
        self._limits = settings.request_limits
        self._idle_seconds = settings.socket_idle_seconds
        self._connection = socket_connection(websocket.scope)
        identity = Identity.of({}, {}, websocket.headers)
        self._identity = replace(identity, conversation_id=self._connection.id)
        self._conversation = Conversation(settings.history_messages, settings.max_request_chars)
        # The conversation that the store has, and that this connection goes on with.
        self._resumed: str | None = None
        self._output: WebSocketOutput | None = None
        self._turn: asyncio.Task[None] | None = None
        self._last_active = time.monotonic()
        self._context = contextvars.copy_context()

    async def read(self) -> None:
        """Handle messages until the client disconnects or the connection is idle for too long."""
        # Once more: the span of the handshake has ended.
        self._context = contextvars.copy_context()
        with suppress(ClientDisconnected):
            while (message := await self._receive())["type"] == "websocket.receive":
                try:
                    await self._handle(message.get("text"))
                except ServiceError as error:
                    self._log_refusal(error)
                    await self._sender.send_error(error)

    async def close(self) -> None:
        """Close for the shutdown, after the turn in progress has ended."""
        await asyncio.create_task(self._close(), context=self._context)

    async def stop(self) -> None:
        """Cancel the turn in progress and wait until it is recorded."""
        if self._turn:
            self._turn.cancel()
            await asyncio.wait({self._turn})

    async def _close(self) -> None:
        if self._turn:
            await asyncio.wait({self._turn})
        error = ShuttingDown()
        # A turn that was cut by the shutdown has ended with this error already.
        if not (self._output and self._output.error_code == error.code):
            with suppress(ClientDisconnected):
                await self._sender.send_error(error)
        await self._sender.close(status.WS_1001_GOING_AWAY, error.message)

    async def _receive(self) -> Message:
        self._last_active = time.monotonic()
        while (left := self._last_active + self._idle_seconds - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    return await self._websocket.receive()
            if self._turn_in_progress:
                self._last_active = time.monotonic()
        self._service.telemetry.instruments.record_limit_reached("idle_seconds")
        await self._sender.close(
            status.WS_1000_NORMAL_CLOSURE, f"idle for {self._idle_seconds:g} s"
        )
        raise ClientDisconnected

    @property
    def _turn_in_progress(self) -> bool:
        return self._turn is not None and not self._turn.done()

    def _log_refusal(self, error: ServiceError) -> None:
        self._service.refusals.log("socket message refused", error)

    async def _handle(self, text: str | None) -> None:
        arrived = time.perf_counter()
        data = await unblocked(len(text or ""), lambda: parse_message(text))
        match data["type"]:
            case "message":
                await self._start_turn(data, arrived)
            case "cancel":
                self._cancel_turn()
            case "ping":
                await self._sender.send(PONG)

    def _cancel_turn(self) -> None:
        # Nothing to do if the turn has just ended. While it sends its last message, or after an
        # earlier cancel, another one would cut that message off.
        if self._turn and not self._turn_is_ending():
            self._turn.cancel()

    def _turn_is_ending(self) -> bool:
        """Whether the turn has ended, or is sending its last message and releasing resources."""
        ended = self._output is not None and self._output.ended
        return ended or self._turn is None or bool(self._turn.cancelling())

    async def _start_turn(self, data: dict[str, Any], arrived: float) -> None:
        if self._turn and self._turn_in_progress:
            if not self._turn_is_ending():
                raise InvalidRequest(
                    "A response is in progress; wait for its end, or cancel it.",
                    code="turn_in_progress",
                )
            await asyncio.wait({self._turn})
        self._output = WebSocketOutput(self._sender, self._connection.id)
        prepared = asyncio.Event()
        self._turn = asyncio.create_task(self._run(data, arrived, self._output, prepared))
        self._turn.add_done_callback(lambda _: prepared.set())
        # A turn that is cancelled before it is prepared would send no end.
        await prepared.wait()

    async def _run(
        self,
        data: dict[str, Any],
        arrived: float,
        output: "WebSocketOutput",
        prepared: asyncio.Event,
    ) -> None:
        with self._connection.turn("message"), suppress(ClientDisconnected):
            try:
                question, turn = await self._prepare(data, arrived)
                prepared.set()
                output.conversation_id = turn.identity.conversation_id or output.conversation_id
                with self._service.admission.response():
                    if question.acknowledge:
                        await output.accepted(turn.model.name, current_trace_id())
                    output.before_end = partial(self._remember, turn, output)
                    try:
                        await run_turn(self._service.telemetry, turn, output)
                    finally:
                        await output.prepare_end()
            except ServiceError as error:
                self._log_refusal(error)
                await output.failed(error, current_trace_id())
            except Exception:
                logger.exception("socket message failed")
                await self._send_internal_error(output)
            finally:
                self._last_active = time.monotonic()

    async def _prepare(self, data: dict[str, Any], arrived: float) -> tuple[Question, Turn]:
        await count_message(self._websocket.scope)
        with step("validate"):
            question = validate(Question, data, self._limits)
            model = self._service.catalog.find(question.model)
        with step("history"):
            if question.history is not None:
                turns = ((turn.question, turn.response) for turn in question.history)
                self._count_limits(self._conversation.replace(turns))
            else:
                await self._resume(clean(question.conversation_id))
            messages = self._conversation.with_question(question.content, question.system)
            body: dict[str, Any] = {"model": model.name, "messages": messages, "stream": True}
            if question.temperature is not None:
                body["temperature"] = question.temperature
            body = with_token_limit(body, self._limits)
            request = ChatRequest(model=model.name, body=body, stream=True)
        conversation = clean(question.conversation_id) or self._identity.conversation_id
        return question, Turn(
            model=model,
            request=request,
            started=arrived,
            new_roles=request.new_roles(),
            identity=replace(self._identity, conversation_id=conversation),
            attributes=caller_attributes(self._websocket.scope),
            charge=await admit(self._websocket.scope, self._identity.user_id),
        )

    async def _send_internal_error(self, output: "WebSocketOutput") -> None:
        try:
            await output.failed(InternalError(), current_trace_id())
        except ClientDisconnected:
            raise
        except Exception:
            # The client must not wait for an end that cannot be sent.
            await self._sender.close(status.WS_1011_INTERNAL_ERROR, "Internal error.")

    async def _resume(self, conversation: str | None) -> None:
        """Go on with a conversation of another connection, if the store has it."""
        shared = self._service.shared
        if not shared or conversation in (None, self._resumed, self._connection.id):
            return
        assert conversation is not None  # noqa: S101
        turns = await shared.load(*self._owner, conversation)
        if turns is not None:
            self._resumed = conversation
            self._count_limits(self._conversation.replace(turns))

    async def _remember(self, turn: Turn, output: "WebSocketOutput") -> None:
        question = message_text(turn.request.messages[-1])
        self._count_limits(self._conversation.remember(question, output.text))
        conversation = turn.identity.conversation_id
        # Only IDs that the service has made: those of clients may be easy to guess.
        shared = self._service.shared
        if shared and conversation and conversation in (self._resumed, self._connection.id):
            await shared.save(*self._owner, conversation, self._conversation.turns)

    @property
    def _owner(self) -> tuple[str | None, str | None]:
        return key_name(self._websocket.scope), self._identity.user_id

    def _count_limits(self, limits: Iterable[str]) -> None:
        for limit in limits:
            self._service.telemetry.instruments.record_limit_reached(limit)


class WebSocketOutput:
    """One response as messages; keeps its text for the conversation."""

    def __init__(self, sender: Sender, conversation_id: str) -> None:
        self._sender = sender
        self._sent: list[str] = []
        self.conversation_id = conversation_id
        # Called once, before the last message: a client may go on elsewhere when it has that.
        self.before_end: Callable[[], Awaitable[None]] | None = None
        self.ended = False  # the last message of the turn was passed to the server
        self.error_code: str | None = None  # of the error in it

    @property
    def text(self) -> str:
        """The text that was sent."""
        return "".join(self._sent)

    def started(self, headers: Mapping[str, str]) -> None:
        """Do nothing: a message has no headers."""

    async def accepted(self, model: str, trace_id: str) -> None:
        """Send that the model is called now."""
        await self._sender.send(render_accepted(model, self.conversation_id, trace_id))

    async def delta(self, chunk: Chunk, *, more: bool = False) -> None:
        """Send the text of a chunk; other output is not part of this format."""
        if chunk.text:
            await self._sender.send(render_delta(chunk.text))
            self._sent.append(chunk.text)

    async def completed(self, summary: Summary) -> None:
        """Send the end with the figures of the response."""
        await self._end(render_done(summary, self.conversation_id))

    async def cancelled(self, summary: Summary) -> None:
        """Send the end of a response that was cut short."""
        await self.completed(summary)

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """Send the error. A server error sets the status of the turn's span, as over HTTP."""
        self.error_code = error.code
        if is_server_error(error):
            span = trace.get_current_span()
            span.set_attribute(names.ERROR_TYPE, error.code)
            span.set_status(Status(StatusCode.ERROR, error.code))
        await self._end(render_error(error, trace_id))

    async def prepare_end(self) -> None:
        """Call `before_end`, unless it was called."""
        before_end, self.before_end = self.before_end, None
        if before_end:
            await before_end()

    async def _end(self, message: str) -> None:
        self.ended = True
        await self.prepare_end()
        await self._sender.send(message)
