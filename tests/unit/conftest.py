"""Fixtures of all unit tests; async ones run on asyncio, like the service."""

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
    """Prevent a test's console lines from being printed in the next test."""
    yield
    console.flush(5)


@pytest.fixture(autouse=True)
def _detach_logs() -> Iterator[None]:
    """Stop the export of log records that a test has started and not stopped."""
    before = set(guest.active())
    yield
    for export in set(guest.active()) - before:
        export.detach()
