"""uvicorn with connection limits and a graceful shutdown."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from socket import socket
from typing import Final

import uvicorn
from loguru import logger
from starlette.applications import Starlette

from app.settings import Settings
from app.transport.admission import Admission
from app.transport.deadline import (
    AFTER_GRACE_SECONDS,
    CLOSING_SECONDS,
    TELEMETRY_ENDS_BEFORE,
    Deadline,
)
from app.transport.protocol import (
    ConnectionLimits,
    LimitedHttpProtocol,
    LimitedWebSocketProtocol,
)
from app.transport.response import SECURITY_HEADERS
from chatscope import Telemetry

_KEEP_ALIVE_SECONDS: Final = 30
# After the grace period: first clients that do not read are cut off, then uvicorn cancels the
# remaining tasks and logs an exception for each.
_UNREAD_SECONDS: Final = 0.3
_CANCEL_SECONDS: Final = 0.7


class Server(uvicorn.Server):
    """Serves one application until `stop()`."""

    def __init__(
        self,
        app: Starlette,
        settings: Settings,
        deadline: Deadline | None = None,
        *,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_ready` is called when the server accepts requests."""
        super().__init__(_config(app, settings))
        self._on_ready = on_ready
        self._admission: Admission = app.state.admission
        self._telemetry: Telemetry = app.state.telemetry
        self._deadline = deadline or Deadline(settings.shutdown_grace_seconds)

    def stop(self) -> None:
        """Begin the shutdown if it has not begun; safe in a signal handler."""
        self._deadline.start()
        self.should_exit = True

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start and call `on_ready`."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Accept no new connections, wait for the responses, close, and send the telemetry.

        Telemetry is sent here and not after the event loop has ended, which waits for its threads.
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
        """Do nothing: `exit_on_signals` handles signals longer than the server runs, and uvicorn
        would raise the signal again, which changes the exit code."""
        yield


def _config(app: Starlette, settings: Settings) -> uvicorn.Config:
    def on_limit(limit: str) -> None:
        app.state.telemetry.instruments.record_limit_reached(limit)

    limits = ConnectionLimits.from_settings(settings, on_limit, app.state.refusals)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=partial(LimitedHttpProtocol, limits=limits),  # type: ignore[arg-type]
        ws=partial(LimitedWebSocketProtocol, limits=limits),  # type: ignore[arg-type]
        log_config=None,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_peers),
        headers=list(SECURITY_HEADERS.items()),
        lifespan="on",
        ws_max_size=settings.max_body_bytes,
        # It costs 27 kB a connection, and CPU for each token, of which it saves a few bytes.
        ws_per_message_deflate=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_CANCEL_SECONDS,  # type: ignore[arg-type]
        # Otherwise a pipelined request would join the trace of the request before it.
        reset_contextvars=True,
    )
