"""Telemetry never fails a request: a fault of ours costs data, is said, and goes no further."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# By the SDK's logger name: shown on the console, never fed back into the exporters.
_log = logging.getLogger("opentelemetry.chatscope")


@contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Turn any exception inside into one line on the console."""
    try:
        yield
    except Exception:
        _log.exception("telemetry failed while %s", doing)
