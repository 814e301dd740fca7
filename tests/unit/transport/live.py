"""The service behind its own server, as in `python -m app`, and a client that sends raw bytes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from app.main import create_app
from app.settings import Settings
from app.transport.server import Server
from tests.memory import Memory
from tests.unit.scripted import Scripted, catalog_of
from tests.unit.serving import quick

# Exceeded only if it hangs.
PATIENCE_SECONDS = 60
URL = "/v1/chat/completions"


class Live:
    """A running service."""

    def __init__(self, app: Starlette, server: Server, port: int) -> None:
        self.app = app
        self.server = server
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.socket_url = f"ws://{self.address}/ws/chat"

    def stop(self) -> None:
        """Stop it as a signal does."""
        self.server.stop()

    @asynccontextmanager
    async def raw(self) -> AsyncIterator["Raw"]:
        """Return a raw connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Raw(reader, writer)
        finally:
            writer.close()


class Raw:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: str | bytes) -> None:
        for part in parts:
            self.writer.write(part.encode() if isinstance(part, str) else part)
        await self.writer.drain()

    async def flood(self, piece: bytes) -> bool:
        """Send the same bytes repeatedly; return whether the other side closes the connection."""
        try:
            for _ in range(10_000):
                await self.send(piece)
                # The server reads in the same event loop; the kernel may buffer megabytes.
                await asyncio.sleep(0)
        except ConnectionError:
            return True
        return False

    async def response(self) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and JSON body of the next response with a content length."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, json.loads(body)

    async def closed(self) -> bool:
        """Return whether the other side closes without sending more."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


def head(length: int | None, *lines: str, kind: str = "application/json") -> str:
    """Return the head of a completion request; chunked if `length` is None."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return "\r\n".join(
        (f"POST {URL} HTTP/1.1", "host: x", f"content-type: {kind}", size, *lines, "", "")
    )


@asynccontextmanager
async def live(
    memory: Memory, provider: Scripted | None = None, **settings: Any
) -> AsyncIterator[Live]:
    """Serve on a free port, in this event loop, until the end of the block."""
    chosen: Settings = quick(**{"shutdown_grace_seconds": 0, **settings})
    catalog = catalog_of(provider) if provider else None
    app = create_app(chosen, catalog=catalog, providers=memory.providers)
    up = asyncio.Event()
    server = Server(app, chosen, on_ready=up.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        waiting = asyncio.create_task(up.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            yield Live(app, server, listener.getsockname()[1])
        finally:
            server.stop()
            await serving
