"""The service, or any application, on a real loopback socket; and settings without delays."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.settings import Settings


def quick(**changes: Any) -> Settings:
    """Return settings with a simulated model that responds immediately."""
    return Settings.model_validate(
        {
            "simulated_first_token_seconds": 0,
            "simulated_tokens_per_second": 0,
            # Raw requests of tests use any host name.
            "allowed_hosts": ("*",),
            **changes,
        }
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve on a free port; yield `127.0.0.1:port`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
        server = _Server(config)
        task = asyncio.create_task(server.serve([listener]))
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
