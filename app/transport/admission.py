"""Concurrency limits and graceful shutdown."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from loguru import logger

from app.domain.errors import Overloaded, ShuttingDown
from app.domain.turn import SHUTDOWN
from app.settings import Settings

# Time to send the final error to clients whose response was cut.
_FINAL_ERROR_SECONDS: Final = 0.5

_T = TypeVar("_T")
Close = Callable[[], Coroutine[Any, Any, None]]


class Admission:
    """The responses and connections in progress in this process."""

    def __init__(self, settings: Settings) -> None:
        self._max_responses = settings.max_answers
        self._max_connections = settings.max_connections
        self._responses: set[asyncio.Task[Any]] = set()
        self._receiving: set[asyncio.Task[Any]] = set()
        self._connections: set[Close] = set()
        self.closing = False  # nothing new is admitted

    @contextmanager
    def response(self) -> Iterator[None]:
        """Admit one response, produced by the current task. Raise Overloaded or ShuttingDown.

        A response that exceeds the grace period of the shutdown is cancelled with SHUTDOWN.
        """
        self._check("answers", len(self._responses), self._max_responses)
        with _member(self._responses, _current_task()):
            yield

    @contextmanager
    def connection(self, close: Close) -> Iterator[None]:
        """Admit one WebSocket connection. Raise Overloaded or ShuttingDown.

        `close` is called once, at shutdown; it closes the connection after its response.
        """
        self._check("connections", len(self._connections), self._max_connections)
        with _member(self._connections, close):
            yield

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Wait for a request's body inside; a shutdown raises ShuttingDown."""
        self._check_closing()
        with _member(self._receiving, _current_task()), shutdown_as_error():
            yield

    async def close(self, grace_seconds: float) -> None:
        """Admit nothing new; wait for the responses, and cancel those that exceed the grace."""
        self.closing = True
        in_progress = {"answers": len(self._responses), "connections": len(self._connections)}
        logger.info("shutting down", **in_progress)
        for task in self._receiving:
            task.cancel(SHUTDOWN)
        closing = {asyncio.create_task(close()) for close in self._connections}
        await _wait(self._responses, grace_seconds)
        if self._responses:
            logger.warning("responses cut by the shutdown", answers=len(self._responses))
        for task in self._responses:
            task.cancel(SHUTDOWN)
        await _wait(self._responses | closing, _FINAL_ERROR_SECONDS)

    def _check(self, limit: str, count: int, maximum: int) -> None:
        self._check_closing()
        if count >= maximum:
            raise Overloaded(limit, maximum)

    def _check_closing(self) -> None:
        if self.closing:
            raise ShuttingDown


@contextmanager
def shutdown_as_error() -> Iterator[None]:
    """Convert a cancellation with SHUTDOWN into ShuttingDown."""
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


async def _wait(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=seconds)
