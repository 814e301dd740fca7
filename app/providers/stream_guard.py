"""A provider's stream in a task of its own, so that nothing it does can hold up its answer.

Its silence is bounded, what it is ahead of its reader is bounded (one piece), and so is the
time that its clearing up is waited for.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Self

from loguru import logger

from app.domain.provider import Completed, ProviderError, TextDelta
from chatscope.redaction import without_texts

Piece = TextDelta | Completed

CLOSING_SECONDS: Final = 2.0
# The event loop itself holds a waiting task only weakly.
_tasks: set[asyncio.Task[None]] = set()


class Supply:
    """The pieces of one stream, up to its Completed; whatever the stream does after is not heard.

    Made inside a running loop. The stream runs in the context of that moment from its first
    step to its last, wherever its reader is given up.
    """

    def __init__(self, stream: AsyncGenerator[Piece], *, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._ahead: asyncio.Queue[Piece | Exception] = asyncio.Queue(maxsize=1)
        self._ended = False
        self._given_up = False
        self._loop = asyncio.get_running_loop()
        self._waits_since: float | None = None
        self._timer = self._loop.call_later(stall_seconds, self._watch)
        self._task = asyncio.create_task(self._pull(stream))
        _tasks.add(self._task)
        self._task.add_done_callback(_forget)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        """The next piece. Raises what the stream raised, or ProviderError for its silence."""
        if self._ended:
            raise StopAsyncIteration
        piece = await self._take()
        if isinstance(piece, Exception):
            raise piece
        self._ended = isinstance(piece, Completed)
        return piece

    async def aclose(self) -> None:
        """Give up what has not ended, and wait until it is cleared up, but not for ever."""
        self._given_up = True
        self._timer.cancel()
        if not self._ended:
            self._task.cancel()
        try:
            done, _ = await asyncio.wait({self._task}, timeout=CLOSING_SECONDS)
            if not done:
                logger.warning("the provider does not end its call")
        finally:
            self._task.cancel()

    async def _take(self) -> Piece | Exception:
        self._waits_since = self._loop.time()
        try:
            return await self._ahead.get()
        finally:
            self._waits_since = None

    def _watch(self) -> None:
        """End a wait that is too long. One timer looks after all of them: a time-out for each
        piece would cost more than all else here."""
        since, now = self._waits_since, self._loop.time()
        left = self._stall_seconds if since is None else since + self._stall_seconds - now
        if left <= 0 and self._ahead.empty():
            self._ahead.put_nowait(
                ProviderError("stalled", 504, "The model was silent for too long.")
            )
        else:
            self._timer = self._loop.call_later(max(left, 0), self._watch)

    async def _pull(self, stream: AsyncGenerator[Piece]) -> None:
        try:
            async for piece in stream:
                if self._given_up:
                    return
                await self._ahead.put(piece)
                if isinstance(piece, Completed):
                    return
            await self._ahead.put(_endless())
        except Exception as error:
            if self._given_up:
                raise  # nobody reads any more: _forget tells
            await self._ahead.put(error)
        except asyncio.CancelledError:
            if self._task.cancelling():
                raise
            # Not by us: something inside the provider was cancelled, and its answer with it.
            await self._ahead.put(_endless())
        finally:
            await stream.aclose()


def _endless() -> ProviderError:
    return ProviderError("broken_stream", 502, "The model's answer has no end.")


def _forget(task: asyncio.Task[None]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()):
        logger.opt(exception=without_texts(error)).warning("the provider failed after its end")
