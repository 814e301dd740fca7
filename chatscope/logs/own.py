"""Log records of the package about what it observes, such as a WebSocket that opened."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from chatscope.logs.bridge import Bridge, adding
from chatscope.settings import LEVELS

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue


class OwnLog(Protocol):
    """Writes log records, and adds attributes to all that are made in a context."""

    def log(self, level: str, message: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Write one log record."""

    def adding(self, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[None]:
        """Add `attributes` to all log records that are made inside, by anyone."""


class ExportedLog:
    """Exports records of `least` and above, which no handler of the application sees."""

    def __init__(self, bridge: Bridge, name: str, least: str = "INFO") -> None:
        self._bridge = bridge
        self._name = name
        self._least = LEVELS[least]

    def log(self, level: str, message: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Export one log record."""
        if LEVELS[level] < self._least:
            return
        self._bridge.emit(
            self._name,
            level=LEVELS[level],
            body=message,
            attributes=attributes,
            timestamp=time.time_ns(),
        )

    def adding(self, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[None]:
        """Add `attributes` to all exported records that are made inside."""
        return adding(attributes)


class LoguruLog:
    """Logs by loguru, whose sinks are the package's."""

    def log(self, level: str, message: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Log one record, with the attributes bound."""
        from loguru import logger  # noqa: PLC0415 - optional

        logger.opt(depth=1).bind(**attributes).log(level, message)

    def adding(self, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[None]:
        """Add `attributes` to all records that are made inside."""
        from loguru import logger  # noqa: PLC0415 - optional

        return logger.contextualize(**attributes)
