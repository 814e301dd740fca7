"""Work that is cancelled when its client disconnects or the server shuts down."""

import asyncio
from collections.abc import Callable, Coroutine

from starlette.types import Receive

from app.domain.turn import SHUTDOWN


async def run_while_connected(
    receive: Receive, work: Coroutine[None, None, None], *, is_complete: Callable[[], bool]
) -> None:
    """Run `work` in its own task; cancel it, and wait for its end, when the client disconnects.

    Only `receive` reports a disconnect: a server may discard data for a client that is gone. It
    reports the same after the last byte of a response: if `is_complete`, work continues to its
    own end. The request's body must have been read. If this task is cancelled, by a shutdown,
    work is cancelled with SHUTDOWN.
    """
    working = asyncio.create_task(work)
    disconnect = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not is_complete():
            working.cancel()
        await asyncio.wait({working})
    except asyncio.CancelledError:
        working.cancel(SHUTDOWN)
        await asyncio.wait({working})
        raise
    finally:
        disconnect.cancel()
    if not working.cancelled():
        working.result()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
