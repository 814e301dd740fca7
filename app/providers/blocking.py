"""A provider whose stream blocks, run in a bounded number of threads, as one that does not block.

Not in a pool of `concurrent.futures`: the interpreter waits for its threads before it exits, and a
call that hangs must not delay that.
"""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing, suppress
from typing import Final, Protocol, cast

from loguru import logger

from app.domain.errors import Overloaded
from app.domain.provider import Completed, Provider, Source, TextDelta
from app.settings import Settings
from app.wire.request import ChatRequest
from chatscope.redaction import without_texts

Piece = TextDelta | Completed

# How many pieces the thread may be ahead of the reader.
_AHEAD: Final = 2
MOST_CALLS: Final[int] = Settings.model_fields["max_answers"].default


class BlockingProvider(Source, Protocol):
    """As `Provider`, but its stream is a plain generator, which may block."""

    def stream(self, request: ChatRequest) -> Generator[Piece]:
        """Text, then exactly one Completed. Raises ProviderError.

        Closed in its own thread, after the piece that it is working on, when it is abandoned. A
        call that never returns keeps its thread, one of `most_calls`, for ever.
        """


def unblocked(provider: Provider | BlockingProvider, most_calls: int = MOST_CALLS) -> Provider:
    """Return the provider itself, or one around it when its stream is a plain generator."""
    if inspect.isgeneratorfunction(provider.stream):
        return Threaded(cast(BlockingProvider, provider), most_calls)
    return cast(Provider, provider)


class Threaded:
    """A blocking provider as a Provider: each stream has a thread, and the caller's context."""

    def __init__(self, provider: BlockingProvider, most_calls: int = MOST_CALLS) -> None:
        self._provider = provider
        self._most_calls = most_calls
        self._free = threading.Semaphore(most_calls)
        self.name = provider.name
        self.models = provider.models
        self.server = provider.server
        self.in_process = provider.in_process
        self.media: frozenset[str] = getattr(provider, "media", frozenset())

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece]:
        """Yield the same pieces; abandoned, do not wait for a thread that is inside its call.

        Raises Overloaded while as many calls as are allowed have not returned, abandoned or not.
        """
        pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hand_over(piece: Piece | Exception | None) -> None:
            with suppress(RuntimeError):  # a call that returned after the event loop had ended
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        if not self._free.acquire(blocking=False):
            raise Overloaded("answers", self._most_calls)
        thread = _Thread(lambda: self._provider.stream(request), hand_over, self._free.release)
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                thread.room.release()
                yield piece
        finally:
            thread.stop()

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()


class _Thread:
    """One stream, pulled for as long as there is room; then its end, None, or its exception."""

    def __init__(
        self,
        start: Callable[[], Generator[Piece]],
        hand_over: Callable[[Piece | Exception | None], None],
        ended: Callable[[], None],
    ) -> None:
        self.room = threading.Semaphore(_AHEAD)
        self._start = start
        self._hand_over = hand_over
        self._ended = ended
        self._stopped = threading.Event()
        run = contextvars.copy_context().run
        # A daemon: a call that never returns must not keep the process from its end.
        thread = threading.Thread(target=run, args=(self._run,), name="provider", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            ended()
            raise

    def stop(self) -> None:
        """Nobody takes any more."""
        self._stopped.set()
        self.room.release()

    def _run(self) -> None:
        try:
            self._pull()
        except Exception as error:
            self._fail(error)
        except BaseException as error:  # such as SystemExit, which is not for the event loop
            self._fail(RuntimeError(f"the provider raised {error!r}"))
        finally:
            self._ended()

    def _pull(self) -> None:
        with closing(self._start()) as pieces:
            for piece in pieces:
                self.room.acquire()
                if self._stopped.is_set():
                    return
                self._hand_over(piece)
        self._hand_over(None)

    def _fail(self, error: Exception) -> None:
        if self._stopped.is_set():
            logger.opt(exception=without_texts(error)).warning("the provider failed after its end")
        else:
            self._hand_over(error)
