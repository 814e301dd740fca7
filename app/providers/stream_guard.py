"""A guard around a provider's stream: bounded silence, bounded read-ahead, bounded time to close.

The stream runs in a task of its own, so that a provider that blocks while it ends, or ignores a
cancellation, cannot delay its response.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final, Self

from loguru import logger

from app.domain.provider import Chunk, Completed, Event, ProviderError
from chatscope.logs import without_texts

CLOSING_SECONDS: Final = 2.0
# Events that the provider may be ahead of its reader: those of some packets, so that tasks do not
# take turns for each event of a burst.
READ_AHEAD: Final = 32
# The event loop has only weak references to waiting tasks.
_tasks: set[asyncio.Task[None]] = set()


class StreamGuard:
    """The events of one stream, up to its Completed; later events are ignored.

    Must be created in a running event loop. The stream runs in the context of its creation from
    the first step to the last, wherever the reader stops reading.
    """

    def __init__(self, stream: AsyncGenerator[Event], *, stall_seconds: float) -> None:
        """`stall_seconds`: the longest time that a reader waits for the next event."""
        self._stall_seconds = stall_seconds
        self._events: deque[Event | Exception] = deque()
        self._more: asyncio.Future[None] | None = None  # of a reader that waits for an event
        self._room: asyncio.Future[None] | None = None  # of the stream, which waits for the reader
        self._ended = False
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        # Of the provider, for its reader: seconds until now, and the perf_counter of a pause.
        self._paused = 0.0
        self._paused_since: float | None = None
        self._provider_ended: float | None = None
        self._timer = self._loop.call_later(stall_seconds, self._check_silence)
        self._task = asyncio.create_task(self._run(stream))
        _tasks.add(self._task)
        self._task.add_done_callback(_discard)

    def __aiter__(self) -> Self:
        return self

    @property
    def ended(self) -> float:
        """The perf_counter at which the provider ended, or now, without its pauses."""
        return self._now() if self._provider_ended is None else self._provider_ended

    @property
    def has_chunk(self) -> bool:
        """Whether the next event is a chunk that has arrived."""
        return bool(self._events) and isinstance(self._events[0], Chunk)

    async def __anext__(self) -> Event:
        """Return the next event. Raise the stream's exception, or ProviderError for a stall."""
        if self._ended:
            raise StopAsyncIteration
        while not self._events:
            self._waiting_since = self._loop.time()
            self._more = self._loop.create_future()
            try:
                await self._more
            finally:
                self._waiting_since = self._more = None
        event = self._events.popleft()
        if self._room and not self._room.done():
            self._room.set_result(None)
        if isinstance(event, Exception):
            raise event
        self._ended = isinstance(event, Completed)
        return event

    async def aclose(self) -> None:
        """Cancel the stream if it has not ended, and wait at most CLOSING_SECONDS for its end."""
        self._closing = True
        self._timer.cancel()
        if self._task.done():
            return
        if not self._ended:
            self._task.cancel()
        try:
            done, _ = await asyncio.wait({self._task}, timeout=CLOSING_SECONDS)
            if not done:
                logger.warning("provider does not end its call")
        finally:
            self._task.cancel()

    def _check_silence(self) -> None:
        """Fail a read that waits too long. One timer serves all reads: a timeout for each event
        would cost more than everything else here."""
        since, now = self._waiting_since, self._loop.time()
        left = self._stall_seconds if since is None else since + self._stall_seconds - now
        if left <= 0 and not self._events:
            self._fail(ProviderError("stalled", "The model stopped responding."))
        else:
            self._timer = self._loop.call_later(max(left, 0), self._check_silence)

    async def _run(self, stream: AsyncGenerator[Event]) -> None:
        try:
            async for event in stream:
                if self._closing:
                    return
                event.at = time.perf_counter() - self._paused
                if isinstance(event, Completed):
                    self._provider_ended = event.at
                    self._put(event)
                    return
                if len(self._events) >= READ_AHEAD:
                    await self._pause()
                self._put(event)
            self._fail(_ended_early())
        except Exception as error:
            if self._closing:
                raise  # nothing reads the events any more: `_discard` logs it
            self._fail(error)
        except asyncio.CancelledError:
            if self._task.cancelling():
                raise
            # Not cancelled by this class, but by something inside the provider.
            self._fail(_ended_early())
        finally:
            await stream.aclose()

    def _put(self, event: Event | Exception) -> None:
        self._events.append(event)
        if self._more and not self._more.done():
            self._more.set_result(None)

    async def _pause(self) -> None:
        """Wait until the reader has taken an earlier event."""
        self._paused_since = time.perf_counter()
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None
        self._paused += time.perf_counter() - self._paused_since
        self._paused_since = None

    def _fail(self, error: Exception) -> None:
        self._provider_ended = self._now()
        self._put(error)

    def _now(self) -> float:
        """Return the perf_counter of now, or of the beginning of a pause, without the pauses."""
        now = time.perf_counter() if self._paused_since is None else self._paused_since
        return now - self._paused


def _ended_early() -> ProviderError:
    return ProviderError("broken_stream", "The provider's stream ended before its final message.")


def _discard(task: asyncio.Task[None]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()):
        logger.opt(exception=without_texts(error)).warning("provider failed after its response")
