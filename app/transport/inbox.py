"""Waiting for messages and for a client that reads, in little memory: asyncio's queue and event
have five deques of 700 bytes."""

import asyncio
from typing import Any


class Inbox:
    """The messages of one connection, for one reader."""

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._arrival: asyncio.Future[None] | None = None

    def put_nowait(self, message: Any) -> None:
        """Add a message."""
        self._messages.append(message)
        _resolve(self._arrival)

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._messages

    async def get(self) -> Any:
        """Return the oldest message; wait for it. Raise RuntimeError for a second reader."""
        if self._arrival is not None:
            raise RuntimeError("another task waits for the next message")
        if not self._messages:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return self._messages.pop(0)


class Gate:
    """Open unless it was cleared."""

    def __init__(self) -> None:
        self._opening: asyncio.Future[None] | None = None

    def clear(self) -> None:
        """Close it: `wait` waits."""
        self._opening = self._opening or asyncio.get_running_loop().create_future()

    def set(self) -> None:
        """Open it."""
        _resolve(self._opening)
        self._opening = None

    def is_set(self) -> bool:
        """Whether it is open."""
        return self._opening is None

    async def wait(self) -> None:
        """Return when it is open; several tasks may wait."""
        if self._opening is not None:
            await asyncio.shield(self._opening)


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
