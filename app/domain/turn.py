"""One turn: request, response and record. The only place where a turn runs and ends.

A turn can end in five ways: the provider completes or fails, the service has a bug, the client
disconnects or cancels, the server shuts down. Each is recorded exactly once.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from loguru import logger

from app.domain.assembly import Assembly, messages_of
from app.domain.attempt import Attempt
from app.domain.errors import InternalError, Overloaded, ServiceError, ShuttingDown
from app.domain.identity import Identity
from app.domain.provider import (
    Chunk,
    Completed,
    Model,
    ProviderError,
    ResponseStream,
    Started,
)
from app.domain.request import ChatRequest
from chatscope.genai import ModelRequest, Usage
from chatscope.logs import without_texts

if TYPE_CHECKING:  # the telemetry of web frameworks, which the domain must not load
    from chatscope import Telemetry
    from chatscope.genai import Answer

# `task.cancel(SHUTDOWN)` means that the server ends the turn; any other cancel is the client's.
SHUTDOWN: Final = ShuttingDown().code


class ClientDisconnected(Exception):
    """Nothing can be sent any more because the client has disconnected."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request to one model."""

    model: Model
    request: ChatRequest
    started: float  # time.perf_counter() at its arrival
    new_roles: Sequence[str] = field(default=("user",))  # of the messages that are not history
    identity: Identity = field(default_factory=Identity)
    operation: str = "chat"  # gen_ai.operation.name
    # Who has asked, beside the request's user: for the span and the log record.
    attributes: Mapping[str, str] = field(default_factory=dict)
    # Called with the usage and the cost in US dollars, once, when the turn has ended.
    charge: Callable[[Usage | None, float | None], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The facts of a response that has ended."""

    model: str
    finish_reason: str
    usage: Usage | None
    cost: float | None  # US dollars
    seconds: float
    trace_id: str
    first_token_seconds: float | None = None  # until a stream's first bytes were sent
    # Of a response that came as a whole: OpenAI's object, and its JSON if that can be relayed.
    body: dict[str, Any] | None = None
    raw: bytes | None = None


class Output(Protocol):
    """Sends one response to the client.

    Each method returns when the bytes were passed to the server. Raise ClientDisconnected.
    """

    def started(self, headers: Mapping[str, str]) -> None:
        """Note the provider's headers, which belong to the response; called before it starts."""

    async def delta(self, chunk: Chunk, *, more: bool = False) -> None:
        """Send a chunk; if `more` follow at once, it may be held back and sent with them."""

    async def completed(self, summary: Summary) -> None:
        """Send the end of a complete response."""

    async def cancelled(self, summary: Summary) -> None:
        """Send the end of a response that the client cancelled."""

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """Send the end of a response that failed or was cut by the shutdown."""


async def run_turn(telemetry: "Telemetry", turn: Turn, output: Output) -> None:
    """Stream the model's response to `output` and record it once, however it ends.

    Raises CancelledError, and exceptions of `output.failed`.
    """
    for role in turn.new_roles:
        telemetry.instruments.record_message(role)
    answer = telemetry.start_answer(_model_request(turn, turn.model), started=turn.started)
    end = _End(turn, output, answer)
    try:
        failure: Exception | None = None
        try:
            async with aclosing(_stream(turn, answer)) as events:
                has_output = False  # since the last call of `mark_sent`
                try:
                    # Without helpers: each chunk passes through this frame only.
                    async for event in events:
                        if not isinstance(event, Chunk):
                            await end.handle(event)
                            continue
                        has_output |= end.note(event)
                        more = events.has_chunk
                        await output.delta(event, more=more)
                        if has_output and not more and turn.request.stream:
                            end.mark_sent()
                            has_output = False
                finally:
                    answer.provider_ended(events.ended)
        except asyncio.CancelledError as cancelled:
            # A response that was sent completely stays complete: only its cleanup was cut short.
            if not end.completed:
                await end.cancel(by_server=SHUTDOWN in cancelled.args)
            raise
        except ClientDisconnected:
            answer.cancelled()
        except Exception as error:
            failure = error
        if failure:  # outside `except`: a new exception must not have the provider's as context
            await end.fail(failure)
    finally:
        end.record(telemetry)


def _stream(turn: Turn, answer: "Answer") -> ResponseStream:
    def record(attempt: Attempt) -> None:
        request = _model_request(turn, attempt.model)
        number, seconds = attempt.number, attempt.seconds
        if attempt.error_type:
            answer.attempt_failed(
                request,
                number,
                attempt.error_type,
                seconds=seconds,
                status=attempt.status,
                headers=attempt.headers,
            )
        elif number > 1:
            answer.served_by(request, number, seconds=seconds)

    with answer.current():
        return turn.model.stream(turn.request, record)


class _End:
    """The end of one response, sent to the output and recorded."""

    def __init__(self, turn: Turn, output: Output, answer: "Answer") -> None:
        self._turn = turn
        self._output = output
        self._answer = answer
        self._sent = False  # a message was sent, complete or in part
        # The whole response, for telemetry that captures content.
        self._assembly = Assembly() if answer.keeps_content else None
        self._body: Mapping[str, Any] | None = None
        self._limit: str | None = None  # the limit for which the provider refused the call
        self.completed = False  # the end of a complete response was sent

    def mark_sent(self) -> None:
        self._sent = True
        self._answer.sent()

    def note(self, chunk: Chunk) -> bool:
        """Record that a chunk was received; return whether it has output."""
        has_output = bool(chunk.text if chunk.size is None else chunk.size)
        if self._assembly is not None:
            self._assembly.add(chunk)
        if has_output:
            self._answer.received(chunk.text, at=chunk.at, size=chunk.size)
        if chunk.usage is not None:
            self._answer.describe(usage=chunk.usage)
        return has_output

    async def handle(self, event: Started | Completed) -> None:
        if isinstance(event, Started):
            self._answer.response_headers(event.headers)
            self._output.started(event.headers)
        else:
            await self._complete(event)

    async def _complete(self, event: Completed) -> None:
        if event.body is not None:
            self._answer.came_whole(event.text, event.size)
            self._body = event.body
        self._answer.completed(
            finish_reason=event.finish_reason,
            usage=event.usage,
            response_id=event.response_id,
            response_model=event.response_model,
        )
        summary = self._summary(event.finish_reason, body=event.body, raw=event.raw)
        await self._output.completed(summary)
        self.completed = True
        self.mark_sent()

    async def cancel(self, *, by_server: bool) -> None:
        with suppress(ClientDisconnected):
            if by_server:
                self._answer.cancelled(SHUTDOWN)
                await self._output.failed(ShuttingDown(), self._answer.trace_id)
            else:
                self._answer.cancelled()
                await self._output.cancelled(self._summary("cancelled"))

    async def fail(self, cause: Exception) -> None:
        if isinstance(cause, ProviderError):
            error: ServiceError = cause
            self._answer.response_headers(cause.upstream.headers)
            self._answer.failed(
                cause.error_type,
                cause,
                provider_status=cause.upstream.status,
                provider_code=cause.upstream.code,
            )
        elif isinstance(cause, Overloaded):
            self._limit = cause.limit
            error = cause
            self._answer.failed(cause.code, cause)
        else:
            logger.opt(exception=without_texts(cause)).error("response failed")
            error = InternalError()
            self._answer.failed(error.code, cause)
        with suppress(ClientDisconnected):
            await self._output.failed(error, self._answer.trace_id)

    def record(self, telemetry: "Telemetry") -> None:
        with suppress(LookupError, TypeError, ValueError):  # a provider's chunk of another form
            if self._assembly is not None:
                body = self._body or self._assembly.body()
                self._answer.came_out(messages_of(body))
        self._answer.close()
        if self._turn.charge:
            self._turn.charge(self._answer.usage, self._answer.cost)
        if self._sent:
            telemetry.instruments.record_message("assistant")
        if self._limit:
            telemetry.instruments.record_limit_reached(self._limit)

    def _summary(
        self, finish_reason: str, body: dict[str, Any] | None = None, raw: bytes | None = None
    ) -> Summary:
        return Summary(
            model=self._turn.model.name,
            finish_reason=finish_reason,
            usage=self._answer.usage,
            cost=self._answer.cost,
            seconds=time.perf_counter() - self._turn.started,
            trace_id=self._answer.trace_id,
            first_token_seconds=self._answer.time_to_first_token,
            body=body,
            raw=raw,
        )


def _model_request(turn: Turn, model: Model) -> ModelRequest:
    request, provider, identity = turn.request, model.provider, turn.identity
    address, port = provider.server or (None, None)
    return ModelRequest(
        provider=provider.name,
        model=model.name,
        upstream_model=model.upstream,
        operation=turn.operation,
        in_process=provider.in_process,
        stream=request.stream,
        server_address=address,
        server_port=port,
        temperature=request.temperature,
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        max_tokens=request.token_limit,
        top_k=request.top_k,
        choice_count=request.choices,
        reasoning_level=request.reasoning_effort,
        output_type=request.output_type,
        seed=request.seed,
        stop=request.stop,
        user_id=identity.user_id,
        session_id=identity.session_id,
        conversation_id=identity.conversation_id,
        prompt_name=identity.prompt_name,
        prompt_version=identity.prompt_version,
        tools=request.tools,
        attributes=turn.attributes,
        messages=request.messages,
    )
