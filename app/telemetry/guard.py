"""Telemetry never fails a request: a fault of ours costs data, is said, and goes no further."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# By the SDK's logger name: shown on the console, never fed back into the exporters.
OWN_LOGGER: Final = "opentelemetry.chatscope"
_log = logging.getLogger(OWN_LOGGER)


@contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Turn any exception inside into one line on the console."""
    try:
        yield
    except Exception:
        _log.exception("telemetry failed while %s", doing)
