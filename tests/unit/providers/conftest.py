"""Log records of the code under test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record


@pytest.fixture
def logged() -> Iterator[list["Record"]]:
    records: list[Record] = []

    def keep(message: "Message") -> None:
        records.append(message.record)

    sink = logger.add(keep)
    yield records
    logger.remove(sink)
