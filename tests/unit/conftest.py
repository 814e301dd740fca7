"""Fixtures of all unit tests; async ones run on asyncio, as the service does."""

from collections.abc import Iterator

import pytest

from chatscope.logs import console, guest
from tests.memory import Memory


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture(autouse=True)
def _flush_console() -> Iterator[None]:
    """Let no line of a test be printed in the next one."""
    yield
    console.flush(5)


@pytest.fixture(autouse=True)
def _detach_logs() -> Iterator[None]:
    """End the export of log records that a test has begun and not ended."""
    before = set(guest.active())
    yield
    for export in set(guest.active()) - before:
        export.detach()
