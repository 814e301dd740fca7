"""Work that ends when its client leaves, or the server stops."""

import asyncio
from collections.abc import Callable, Coroutine

from starlette.types import Receive

from app.domain.turn import SHUTDOWN


async def while_connected(
    receive: Receive, work: Coroutine[None, None, None], *, answered: Callable[[], bool]
) -> None:
    """Run `work` in a task of its own; cancel it, and wait for its end, when the client leaves.

    A server may swallow what is sent to a client that is gone, so only `receive` tells. It says
    the same after the last byte of an answer: where `answered`, work goes on to its own end.
    The request's body must have been read. A server that stops cancels us: work then is
    cancelled with SHUTDOWN.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answered():
            working.cancel()
        await asyncio.wait({working})
    except asyncio.CancelledError:
        working.cancel(SHUTDOWN)
        await asyncio.wait({working})
        raise
    finally:
        leaving.cancel()
    if not working.cancelled():
        working.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
