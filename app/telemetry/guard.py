"""Containment of telemetry's own faults, and a limit on how often they are logged."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SECONDS_BETWEEN_WARNINGS: Final = 60.0
# By the SDK's logger name: shown on the console, never fed back into the exporters.
_log = logging.getLogger("opentelemetry.chatscope")


class RateLimit:
    """Allows one event a minute of each kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowed: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        """Return whether an event of `kind` may happen now; if so, it has happened."""
        now = time.monotonic()
        with self._lock:
            last = self._allowed.get(kind)
            if last is not None and now - last < _SECONDS_BETWEEN_WARNINGS:
                return False
            self._allowed[kind] = now
            return True


class Warnings:
    """Logs warnings, at most one a minute of each kind."""

    def __init__(self) -> None:
        self._limit = RateLimit()

    def log(self, kind: str, message: str, *args: object, exc_info: bool = False) -> bool:
        """Log `message`, unless one of its kind was logged within the minute; return whether."""
        allowed = self._limit.allows(kind)
        if allowed:
            _log.warning(message, *args, exc_info=exc_info)
        return allowed


@contextmanager
def guarded(doing: str, warnings: Warnings | None = None) -> Iterator[None]:
    """Turn any exception inside into a line on the console: telemetry never fails a request.

    With `warnings`, into one line a minute.
    """
    try:
        yield
    except Exception:
        if warnings is None:
            _log.exception("telemetry failed while %s", doing)
        else:
            warnings.log(doing, "telemetry failed while %s", doing, exc_info=True)
