"""Large bodies are read in a thread: the event loop serves the other requests meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

# Characters or bytes; to parse and to validate as many takes about 1 ms.
LARGE: Final = 32_768


async def unblocked(size: int, read: Callable[[], T]) -> T:
    """Return what `read` returns for an input of that size."""
    return await asyncio.to_thread(read) if size > LARGE else read()
