"""The server: uvicorn with limits, which lets responses finish before it stops."""

import asyncio
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from socket import socket
from types import FrameType

import uvicorn
from loguru import logger
from starlette.applications import Starlette

from app.http.admission import Admission
from app.http.protocol import BoundedHttp, BoundedWebSocket, Bounds
from app.main import create_app
from app.settings import Settings
from app.shutdown import AFTER_GRACE_SECONDS, CLOSING_SECONDS, TELEMETRY_ENDS_BEFORE, Deadline
from chatscope.telemetry import Telemetry

_KEEP_ALIVE_SECONDS = 30
# After the grace of the responses: clients that do not read are cut off, and then uvicorn cancels
# what is left, and logs an exception for each.
_UNREAD_SECONDS = 0.3
_LAST_SECONDS = 0.7
# More than any sensible MAX_CONNECTIONS, and less than any kernel refuses.
_OPEN_FILES = 65_536
# What the kernel adds to a signal's number for a shell.
_BY_SIGNAL = 128

Stop = Callable[[], None]


def serve(
    settings: Settings,
    *,
    sockets: list[socket] | None = None,
    ready: Callable[[], None] = lambda: None,
    stoppable: Callable[[Stop], None] = lambda stop: None,
) -> int:
    """Build the service and serve it until it is told to stop; return the process's exit code.

    `ready` is called when it serves, `stoppable` before, with a second way to stop it. From the
    first stop on the process ends within the grace of the responses and AFTER_GRACE_SECONDS.
    """
    allow_open_files()
    app = create_app(settings, shutdown_with_app=False)
    telemetry: Telemetry = app.state.telemetry
    deadline = Deadline(settings.shutdown_grace_seconds)
    try:
        # Not with the first event of the server, which would answer every request with 500.
        app.middleware_stack = app.build_middleware_stack()
        server = Server(app, settings, deadline, ready=ready)

        def stop() -> None:
            server.stop()
            deadline.enforce()

        with exit_on_signals(stop):
            stoppable(stop)
            server.run(sockets)
        return 0
    except SystemExit:  # of uvicorn, which has logged why it cannot start
        return 1
    except Exception:
        logger.exception("the service failed")
        return 1
    finally:
        deadline.start()
        telemetry.shutdown(deadline.left(TELEMETRY_ENDS_BEFORE))


def allow_open_files() -> None:
    """As many as whoever started us lets us have.

    A shell's usual 1024 are used up before MAX_CONNECTIONS are; then clients get no answer at all
    instead of a refusal, and what telemetry puts on disk finds no file either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Server(uvicorn.Server):
    """Serves one application until `stop()`."""

    def __init__(
        self,
        app: Starlette,
        settings: Settings,
        deadline: Deadline | None = None,
        *,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(_config(app, settings))
        self._ready = ready
        self._admission: Admission = app.state.admission
        self._telemetry: Telemetry = app.state.telemetry
        self._deadline = deadline or Deadline(settings.shutdown_grace_seconds)

    def stop(self) -> None:
        """Begin to stop, if it has not begun yet; safe in a signal handler."""
        self._deadline.start()
        self.should_exit = True

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Accept no new connection, wait for the responses, close, and send the telemetry.

        The last here, not after the event loop has ended: that waits for its threads.
        """
        self._deadline.start()
        for listener in self.servers:
            listener.close()
        await self._admission.close(self._deadline.grace_seconds)
        asyncio.get_running_loop().call_later(_UNREAD_SECONDS, self._cut_unread)
        try:
            async with asyncio.timeout(self._deadline.left(AFTER_GRACE_SECONDS - CLOSING_SECONDS)):
                await super().shutdown(sockets)
        except TimeoutError:
            logger.warning("the application did not close in time")
        self._telemetry.shutdown(self._deadline.left(TELEMETRY_ENDS_BEFORE))

    def _cut_unread(self) -> None:
        """Cut the connections of clients that do not read."""
        for connection in list(self.server_state.connections):
            transport: asyncio.WriteTransport = connection.transport
            if transport.get_write_buffer_size():
                transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: `exit_on_signals` lasts longer than the server does, and uvicorn would raise
        the signal once more, for an exit code that is not 0."""
        yield


@contextmanager
def exit_on_signals(stop: Stop, at_once: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The first SIGTERM or SIGINT calls `stop`; the second `at_once`, and ends the process.

    Both are called amid whatever the main thread does: they may take no lock, so not log.
    """
    told = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal told
        if told:
            at_once()
            os._exit(_BY_SIGNAL + number)
        told = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _config(app: Starlette, settings: Settings) -> uvicorn.Config:
    def reached(limit: str) -> None:
        app.state.telemetry.instruments.record_limit_reached(limit)

    bounds = Bounds.of(settings, reached)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=partial(BoundedHttp, bounds=bounds),  # type: ignore[arg-type]
        ws=partial(BoundedWebSocket, bounds=bounds),  # type: ignore[arg-type]
        log_config=None,
        server_header=False,
        lifespan="on",
        ws_max_size=settings.max_body_bytes,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_LAST_SECONDS,  # type: ignore[arg-type]
        # A pipelined request would otherwise join the trace of the request before it.
        reset_contextvars=True,
    )
