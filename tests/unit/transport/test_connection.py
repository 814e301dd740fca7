"""Work that ends with its client."""

import asyncio

import pytest
from starlette.types import Message

from app.domain.turn import SHUTDOWN
from app.transport.connection import run_while_connected

pytestmark = pytest.mark.anyio


class _Client:
    """Leaves when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()

        self._messages: list[Message] = [{"type": "http.request", "body": b""}]

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop()
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def test_work_comes_to_its_end_while_the_client_stays() -> None:
    done = asyncio.Event()

    async def work() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        done.set()

    await run_while_connected(_Client().receive, work(), is_complete=lambda: False)
    assert done.is_set()


async def test_works_own_failure_is_raised() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_while_connected(_Client().receive, work(), is_complete=lambda: False)


async def test_a_client_that_leaves_ends_the_work_and_its_clearing_up_is_waited_for() -> None:
    client, cleared = _Client(), asyncio.Event()

    async def work() -> None:
        client.leaves.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleared.set()

    await run_while_connected(client.receive, work(), is_complete=lambda: False)
    assert cleared.is_set()


async def test_a_client_that_is_gone_after_its_answer_cuts_nothing_short() -> None:
    client, whole = _Client(), asyncio.Event()

    async def work() -> None:
        client.leaves.set()
        for _ in range(5):
            await asyncio.sleep(0)
        whole.set()

    await run_while_connected(client.receive, work(), is_complete=lambda: True)
    assert whole.is_set()


async def test_a_server_that_stops_ends_the_work_too_and_says_so() -> None:
    begun, cleared = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            told.extend(error.args)
            cleared.set()
            raise

    request = asyncio.create_task(
        run_while_connected(_Client().receive, work(), is_complete=lambda: False)
    )
    await begun.wait()
    request.cancel()
    await asyncio.wait({request})
    assert request.cancelled()
    assert cleared.is_set()
    assert told == [SHUTDOWN]
