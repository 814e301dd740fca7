"""How much at the same time, and the end of it: places for answers and connections, shutdown."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import Overloaded, ShuttingDown
from app.domain.turn import SHUTDOWN
from app.settings import Settings
from app.wire.completion import event
from chatscope.tracing import current_trace_id

# Telling a client that its answer was cut takes no longer, unless that client does not read.
_LAST_WORDS_SECONDS = 0.5

_T = TypeVar("_T")
Leave = Callable[[], Coroutine[Any, Any, None]]


class Admission:
    """Who is in, of one process."""

    def __init__(self, settings: Settings) -> None:
        self._most_answers = settings.max_answers
        self._most_connections = settings.max_connections
        self._answers: set[asyncio.Task[Any]] = set()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._connections: set[Leave] = set()
        self.closing = False  # nothing new comes in any more

    @contextmanager
    def answer(self) -> Iterator[None]:
        """A place for one answer, given by the current task.

        Raises Overloaded or ShuttingDown. An answer that outlasts the shutdown's grace is
        cancelled, with SHUTDOWN as the message.
        """
        self._refuse_if_full("answers", len(self._answers), self._most_answers)
        with _member(self._answers, _current_task()):
            yield

    @contextmanager
    def connection(self, leave: Leave) -> Iterator[None]:
        """A place for one WebSocket connection. Raises Overloaded or ShuttingDown.

        `leave` is called once, when the service stops: it ends the connection in good order.
        """
        self._refuse_if_full("connections", len(self._connections), self._most_connections)
        with _member(self._connections, leave):
            yield

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """Around the wait for a request's body: a shutdown ends it, with ShuttingDown."""
        self._refuse_if_closing()
        with _member(self._arriving, _current_task()), told_of_shutdown():
            yield

    async def close(self, grace_seconds: float) -> None:
        """Let nobody in any more, tell those inside, and wait until they are gone."""
        self.closing = True
        inside = {"answers": len(self._answers), "connections": len(self._connections)}
        logger.info("stopping", **inside)
        for task in self._arriving:
            task.cancel(SHUTDOWN)
        leaving = {asyncio.create_task(leave()) for leave in self._connections}
        await _ended_within(grace_seconds, self._answers)
        if self._answers:
            logger.warning("answers cut by the shutdown", answers=len(self._answers))
        for task in self._answers:
            task.cancel(SHUTDOWN)
        await _ended_within(_LAST_WORDS_SECONDS, self._answers | leaving)

    def _refuse_if_full(self, limit: str, count: int, most: int) -> None:
        self._refuse_if_closing()
        if count >= most:
            raise Overloaded(limit, most)

    def _refuse_if_closing(self) -> None:
        if self.closing:
            raise ShuttingDown


class Admitted:
    """A response with an answer in it: it is given where there is a place for it."""

    def __init__(self, admission: Admission, response: ASGIApp) -> None:
        self._admission = admission
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Raises Overloaded or ShuttingDown, either before anything was sent."""
        begun, ended = False, False

        async def watched_send(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            with told_of_shutdown(), self._admission.answer():
                await self._response(scope, receive, watched_send)
        except ShuttingDown as error:
            if not begun:
                raise
            if not ended:
                body = event(error.body(current_trace_id()))
                await send({"type": "http.response.body", "body": body})


@contextmanager
def told_of_shutdown() -> Iterator[None]:
    """Turn the cancellation that means shutdown into the error that says so."""
    try:
        yield
    except asyncio.CancelledError as error:
        if error.args[:1] != (SHUTDOWN,):
            raise
        _current_task().uncancel()
        raise ShuttingDown from None


@contextmanager
def _member(group: set[_T], member: _T) -> Iterator[None]:
    group.add(member)
    try:
        yield
    finally:
        group.discard(member)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    return task


async def _ended_within(seconds: float, tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=seconds)
