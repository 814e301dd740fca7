"""The server that replicas of the service share, Valkey or Redis: what keys have used, the counts
of rate limits, and conversations.

It never fails a request: while it does not respond, each replica counts for itself, and asks again
once a second.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from loguru import logger

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool
_T = TypeVar("_T")

# The start of every key; a server that has other uses too shows what is ours.
PREFIX: Final = "chatscope:"
# The longest that a question waits for the server, and the pause after a failure.
TIMEOUT_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 1.0
# An outage ends when nothing has failed for this time: a server without memory still reads.
QUIET_SECONDS: Final = 3 * RETRY_SECONDS
# Of one worker. Questions are short; more of them wait for a connection.
_MAX_CONNECTIONS: Final = 20


class SharedStore:
    """Connections to the server, made when they are first used, and whether it responds."""

    def __init__(self, url: str) -> None:
        """Raise ValueError if the URL is none of a server."""
        # A tenth of the time of a startup: only if it is used.
        from redis import Redis  # noqa: PLC0415
        from redis.asyncio import Redis as AsyncRedis  # noqa: PLC0415
        from redis.asyncio.retry import Retry as AsyncRetry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import ConnectionError as Disconnected  # noqa: PLC0415
        from redis.exceptions import ReadOnlyError  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        # All: what the client raises for the response of another kind of server is not documented.
        self.errors: tuple[type[Exception], ...] = (Exception,)
        self._lock = threading.Lock()
        self._failures = 0  # since it last responded
        self._failed = self._ask_again = 0.0  # time.monotonic()
        self._places = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._closed = False
        # Once more at once, on a new connection: a restarted server has closed those that are open,
        # and after a failover the address is that of another server.
        retry, async_retry = (
            kind(NoBackoff(), 1, supported_errors=(Disconnected, ReadOnlyError))
            for kind in (Retry, AsyncRetry)
        )
        # `ask` has a timeout. Those of the library swallow a cancellation that comes during a write
        # (asyncio.wait_for, before Python 3.12).
        self.client: AsyncRedis = AsyncRedis.from_url(
            url,
            decode_responses=True,
            retry=async_retry,
            max_connections=_MAX_CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        _share_tls_context(self.client.connection_pool)
        self.blocking_client: Redis = Redis.from_url(
            url,
            decode_responses=True,
            retry=retry,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )

    @property
    def responds(self) -> bool:
        """Whether the server responded when it was last asked; True before the first time."""
        return not self._failures

    def check(self) -> bool:
        """Ask the server whether it responds, for threads other than that of the event loop:
        without requests, nothing else asks."""
        if not self._closed:
            self.ask_blocking(self.blocking_client.ping, otherwise=False)
        return self.responds

    async def ask(self, question: Callable[[], Awaitable[_T]], otherwise: _T) -> _T:
        """Return the result of a question; `otherwise` if the server does not respond, or if too
        many questions wait for it."""
        failures = self._failures
        if not self._may_ask() or not await self._place():
            return otherwise
        try:
            if self._failures > failures:  # meanwhile: not each of those that waited is to wait
                return otherwise
            async with _timeout_of_server(TIMEOUT_SECONDS):
                found = await question()
        except self.errors as error:
            self.failed(error)
            return otherwise
        finally:
            self._places.release()
        self.responded()
        return found

    def ask_blocking(self, question: Callable[[], _T], otherwise: _T) -> _T:
        """Return the same as `ask`, for threads other than that of the event loop."""
        if not self._may_ask():
            return otherwise
        try:
            found = question()
        except self.errors as error:
            self.failed(error)
            return otherwise
        self.responded()
        return found

    def failed(self, error: Exception) -> None:
        """Report a failure, the first of an outage in the log."""
        with self._lock:
            self._failures += 1
            self._failed = time.monotonic()
            self._ask_again = self._failed + RETRY_SECONDS
            first = self._failures == 1
        if first:
            logger.error(
                "the shared store does not respond: limits, budgets and conversations hold in each "
                "replica only",
                error=f"{type(error).__name__}: {error}",
            )

    def responded(self) -> None:
        """Report that the server has responded, at the end of an outage in the log."""
        if not self._failures:
            return
        with self._lock:
            if time.monotonic() < self._failed + QUIET_SECONDS:
                return
            failures, self._failures = self._failures, 0
        if failures:
            logger.info("the shared store responds again", failures=failures)

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        await self.client.aclose()
        self.blocking_client.close()

    async def _place(self) -> bool:
        """Wait until fewer questions are asked than there are connections; False if that takes too
        long, which is no failure of the server."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._places.acquire()
        return False

    def _may_ask(self) -> bool:
        """Whether to ask the server: during an outage once in RETRY_SECONDS, so that only one
        request waits for it."""
        if not self._failures:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._ask_again:
                return False
            self._ask_again = now + RETRY_SECONDS
            return True


@asynccontextmanager
async def _timeout_of_server(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError as `asyncio.timeout` does, without counting the time in which the event
    loop was blocked: nobody read what the server had sent."""
    loop = asyncio.get_running_loop()
    interval = seconds / 10
    timer: asyncio.TimerHandle
    async with asyncio.timeout(seconds) as timeout:

        def extend(due: float, end: float) -> None:
            nonlocal timer
            if timeout.expired():
                return
            now = loop.time()
            end += now - due
            timeout.reschedule(end)
            timer = loop.call_at(now + interval, extend, now + interval, end)

        now = loop.time()
        timer = loop.call_at(now + interval, extend, now + interval, now + seconds)
        try:
            yield
        finally:
            timer.cancel()


def _share_tls_context(pool: "ConnectionPool") -> None:
    """Load the certificate authorities once: each connection of the library would, which takes a
    tenth of a second of the event loop."""
    from redis.asyncio import SSLConnection  # noqa: PLC0415

    if pool.connection_class is not SSLConnection:
        return
    context = SSLConnection(**pool.connection_kwargs).ssl_context
    context.get()

    def connect(**options: Any) -> SSLConnection:
        connection = SSLConnection(**options)
        connection.ssl_context = context
        return connection

    pool.connection_class = connect  # type: ignore[assignment]
