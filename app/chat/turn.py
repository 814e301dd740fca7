"""The one place where a turn runs, and where it ends: a question, its answer, its record.

Every way out of an answer leads through `run_turn`: the provider's end, its failure, our bug,
a client that leaves, a server that stops.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from loguru import logger

from app.chat.catalog import Entry
from app.chat.provider import Completed, ProviderError, TextDelta
from app.chat.request import ChatRequest
from app.chat.supply import Supply
from app.errors import InternalError, Overloaded, ServiceError, ShuttingDown
from chatscope.genai.answer import Answer
from chatscope.genai.request import ModelRequest, Usage
from chatscope.redaction import without_texts
from chatscope.telemetry import Telemetry

# `task.cancel(SHUTDOWN)` says that the server gives a turn up; any other cancel is the client's.
SHUTDOWN: Final = ShuttingDown().code


class ClientGone(Exception):
    """Nobody is there any more to send to."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question to one model."""

    entry: Entry
    request: ChatRequest
    started: float  # perf_counter of its arrival
    new_roles: Sequence[str] = field(default=("user",))  # of the messages that are no history
    conversation_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What is told of an answer at its end."""

    model: str
    finish_reason: str
    usage: Usage | None
    cost: float | None  # US dollars
    seconds: float
    trace_id: str


class Outlet(Protocol):
    """Where an answer goes. Its methods return when the bytes have left; raise ClientGone."""

    async def delta(self, text: str) -> None:
        """A piece of the answer."""

    async def completed(self, ending: Ending) -> None:
        """The whole answer is there."""

    async def cancelled(self, ending: Ending) -> None:
        """The client gave it up; there may be nobody to tell."""

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        """There will be no more of it: a failure, or the end of the service."""


async def run_turn(telemetry: Telemetry, turn: Turn, outlet: Outlet) -> None:
    """Ask, pass on, and record once, whatever happens.

    Raises CancelledError, and what the outlet raises when it cannot even tell of a failure.
    """
    for role in turn.new_roles:
        telemetry.instruments.record_message(role)
    answer = telemetry.start_answer(_recorded(turn), started=turn.started)
    delivery = _Delivery(turn, outlet, answer)
    try:
        await delivery.run()
    finally:
        answer.close()
        if delivery.answered:
            telemetry.instruments.record_message("assistant")
        if delivery.limit:
            telemetry.instruments.record_limit_reached(delivery.limit)


class _Delivery:
    """One answer on its way from the provider to the outlet."""

    def __init__(self, turn: Turn, outlet: Outlet, answer: Answer) -> None:
        self._turn = turn
        self._outlet = outlet
        self._answer = answer
        self._told = False  # the end of a whole answer went out
        self.answered = False  # whether a message went out, whole or in part
        self.limit: str | None = None  # the one by which the provider refused the call

    async def run(self) -> None:
        failure: Exception | None = None
        try:
            await self._pass_on()
        except asyncio.CancelledError as cancelled:
            # What was told as whole stays so: only its clearing up was cut short.
            if not self._told:
                await self._give_up(by_server=SHUTDOWN in cancelled.args)
            raise
        except ClientGone:
            self._answer.cancelled()
        except Exception as error:
            failure = error
        if failure:  # here: what fails now has no provider's exception as its context
            await self._fail(failure)

    async def _pass_on(self) -> None:
        turn, answer = self._turn, self._answer
        with answer.current():
            supply = Supply(
                turn.entry.provider.stream(turn.request), stall_seconds=turn.entry.stall_seconds
            )
        async with aclosing(supply) as pieces:
            async for piece in pieces:
                match piece:
                    case TextDelta(text):
                        answer.received(text)
                        await self._outlet.delta(text)
                        if turn.request.stream:
                            self._sent()
                    case Completed():
                        await self._complete(piece)

    async def _complete(self, end: Completed) -> None:
        self._answer.completed(
            finish_reason=end.finish_reason,
            usage=end.usage,
            response_id=end.response_id,
            response_model=end.response_model,
        )
        await self._outlet.completed(self._ending(end.finish_reason))
        self._told = True
        self._sent()

    def _sent(self) -> None:
        self.answered = True
        self._answer.sent()

    async def _give_up(self, *, by_server: bool) -> None:
        with suppress(ClientGone):
            if by_server:
                self._answer.cancelled(SHUTDOWN)
                await self._outlet.failed(ShuttingDown(), self._answer.trace_id)
            else:
                self._answer.cancelled()
                await self._outlet.cancelled(self._ending("cancelled"))

    async def _fail(self, cause: Exception) -> None:
        if isinstance(cause, ProviderError):
            error: ServiceError = cause
            self._answer.failed(
                cause.error_type,
                cause,
                provider_status=cause.upstream.status,
                provider_code=cause.upstream.code,
            )
        elif isinstance(cause, Overloaded):
            self.limit = cause.limit
            error = cause
            self._answer.failed(cause.code, cause)
        else:
            logger.opt(exception=without_texts(cause)).error("answering failed")
            error = InternalError()
            self._answer.failed("internal_error", cause)
        with suppress(ClientGone):
            await self._outlet.failed(error, self._answer.trace_id)

    def _ending(self, finish_reason: str) -> Ending:
        return Ending(
            model=self._turn.entry.model,
            finish_reason=finish_reason,
            usage=self._answer.usage,
            cost=self._answer.cost,
            seconds=time.perf_counter() - self._turn.started,
            trace_id=self._answer.trace_id,
        )


def _recorded(turn: Turn) -> ModelRequest:
    request, provider = turn.request, turn.entry.provider
    address, port = provider.server or (None, None)
    return ModelRequest(
        provider=provider.name,
        model=turn.entry.model,
        in_process=provider.in_process,
        stream=request.stream,
        server_address=address,
        server_port=port,
        temperature=request.temperature,
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        max_tokens=request.token_limit,
        seed=request.seed,
        stop=tuple(request.stop),
        conversation_id=turn.conversation_id,
        messages=request.texts(),
    )
