"""Waiting for messages of a connection, and for a client that reads."""

import asyncio

import pytest

from app.transport.inbox import Gate, Inbox
from tests.unit.process import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio


async def test_messages_are_returned_in_their_order() -> None:
    inbox = Inbox()
    reader = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    assert inbox.empty()
    for message in "abc":
        inbox.put_nowait(message)
    assert await asyncio.wait_for(reader, PATIENCE_SECONDS) == "a"
    assert not inbox.empty()
    assert [await inbox.get(), await inbox.get()] == ["b", "c"]
    assert inbox.empty()


async def test_cancelled_reader_loses_no_message() -> None:
    inbox = Inbox()
    reader = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait("a")
    reader.cancel()
    await asyncio.wait({reader})
    assert reader.cancelled()
    assert await asyncio.wait_for(inbox.get(), PATIENCE_SECONDS) == "a"


async def test_second_reader_is_refused() -> None:
    inbox = Inbox()
    reader = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task waits"):
        await inbox.get()
    inbox.put_nowait("a")
    assert await reader == "a"


async def test_all_wait_until_the_gate_is_opened() -> None:
    gate = Gate()
    assert gate.is_set()
    await gate.wait()
    gate.clear()
    gate.clear()
    waiting = [asyncio.create_task(gate.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert waiting[0].cancelled()
    assert not waiting[1].done()
    assert not gate.is_set()
    gate.set()
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), PATIENCE_SECONDS)
    assert gate.is_set()
    await gate.wait()
