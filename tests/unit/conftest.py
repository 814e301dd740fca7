"""Async tests run on asyncio, as the service does."""

import pytest

from tests.memory import Memory


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def memory() -> Memory:
    return Memory()
