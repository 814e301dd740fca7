"""Providers with a blocking stream, run in a bounded number of threads.

Not in a pool of `concurrent.futures`: the interpreter waits for its threads before it exits, and a
call that hangs must not delay the exit.
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
from app.domain.provider import Event, Provider, ProviderInfo
from app.domain.request import ChatRequest
from chatscope.logs import without_texts

# Events that the thread may produce before they are read.
_READ_AHEAD: Final = 2


class BlockingProvider(ProviderInfo, Protocol):
    """Like `Provider`, but its stream is a plain generator, which may block."""

    def stream(self, request: ChatRequest) -> Generator[Event]:
        """Yield the text in chunks, then exactly one Completed. Raise ProviderError.

        When the response is abandoned, the generator is closed in its own thread after the event
        that it is producing. A call that never returns keeps its thread, one of `max_calls`.
        """


def non_blocking(provider: Provider | BlockingProvider, max_calls: int) -> Provider:
    """Return the provider itself, or a wrapper if its stream is a plain generator."""
    if inspect.isgeneratorfunction(provider.stream):
        return ThreadedProvider(cast(BlockingProvider, provider), max_calls)
    return cast(Provider, provider)


class ThreadedProvider:
    """A blocking provider as a Provider: each stream has a thread and the caller's context."""

    def __init__(self, provider: BlockingProvider, max_calls: int) -> None:
        self._provider = provider
        self._max_calls = max_calls
        self._free = threading.Semaphore(max_calls)
        self.name = provider.name
        self.models = provider.models
        self.server = provider.server
        self.in_process = provider.in_process
        self.whole_seconds: float = getattr(provider, "whole_seconds", 0.0)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Yield the same events; when abandoned, do not wait for a thread that blocks.

        Raise Overloaded while `max_calls` calls have not returned, abandoned ones included.
        """
        queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hand_over(event: Event | Exception | None) -> None:
            with suppress(RuntimeError):  # the event loop ended before the call returned
                loop.call_soon_threadsafe(queue.put_nowait, event)

        if not self._free.acquire(blocking=False):
            raise Overloaded("answers", self._max_calls)
        thread = _Thread(lambda: self._provider.stream(request), hand_over, self._free.release)
        try:
            while (event := await queue.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                thread.room.release()
                yield event
        finally:
            thread.stop()

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()


class _Thread:
    """Reads one stream while there is room; hands over its events, then None or its exception."""

    def __init__(
        self,
        start: Callable[[], Generator[Event]],
        hand_over: Callable[[Event | Exception | None], None],
        on_end: Callable[[], None],
    ) -> None:
        self.room = threading.Semaphore(_READ_AHEAD)
        self._start = start
        self._hand_over = hand_over
        self._on_end = on_end
        self._stopped = threading.Event()
        run = contextvars.copy_context().run
        # A daemon: a call that never returns must not keep the process alive.
        thread = threading.Thread(target=run, args=(self._run,), name="provider", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            on_end()
            raise

    def stop(self) -> None:
        """Discard further events."""
        self._stopped.set()
        self.room.release()

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self._fail(error)
        except BaseException as error:  # such as SystemExit, which must not reach the event loop
            self._fail(RuntimeError(f"the provider raised {error!r}"))
        finally:
            self._on_end()

    def _read(self) -> None:
        with closing(self._start()) as events:
            for event in events:
                self.room.acquire()
                if self._stopped.is_set():
                    return
                self._hand_over(event)
        self._hand_over(None)

    def _fail(self, error: Exception) -> None:
        if self._stopped.is_set():
            logger.opt(exception=without_texts(error)).warning("provider failed after its response")
        else:
            self._hand_over(error)
