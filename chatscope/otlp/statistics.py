"""Counts of the items of one signal in one process, by outcome, and rate-limited warnings."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

UNDELIVERABLE: Final = "undeliverable"  # set aside among the dead letters
REFUSED: Final = "refused"
SHUTDOWN: Final = "shutdown"
INTERNAL_ERROR: Final = "internal_error"
NOT_ENCODABLE: Final = "not_encodable"

_WARN_EVERY: Final = 60.0  # s
# Under the SDK's logger name: shown on consoles, and never exported again by a logging bridge.
log = logging.getLogger("opentelemetry.chatscope")


class Statistics:
    """Counts of one signal. An item ends exactly once: in `exported` or among the queue's drops."""

    def __init__(self) -> None:
        # Set by the code that exports metrics: called with each call's seconds and error.type.
        self.on_call: Callable[[float, str], None] | None = None
        self.reset()

    def reset(self) -> None:
        """Start at zero, in a forked process."""
        self.started = 0
        self.exported: Counter[str] = Counter()  # by error.type; "" for what was accepted
        self.not_encodable = 0
        self.fallbacks = 0  # items that only the official encoder could encode
        self.inflight = 0
        self._lock = threading.RLock()

    def count_started(self) -> None:
        """Count one more span that has started."""
        with self._lock:
            self.started += 1

    def count_exported(self, items: int, error_type: str = "") -> None:
        """Count items whose export has ended."""
        with self._lock:
            self.exported[error_type] += items

    def count_not_encodable(self) -> None:
        """Count an item that never reached the queue."""
        with self._lock:
            self.not_encodable += 1

    def count_fallback(self) -> None:
        """Count an item that only the official encoder could encode."""
        with self._lock:
            self.fallbacks += 1

    def change_inflight(self, items: int) -> None:
        """Count items whose call has started (negative: ended)."""
        with self._lock:
            self.inflight += items

    def count_call(self, seconds: float, error_type: str) -> None:
        """Report a call's duration to the metrics, if any are recorded."""
        if self.on_call is not None:
            with suppress(Exception):  # errors of the metrics do not concern the delivery
                self.on_call(seconds, error_type)

    def lost(self) -> int:
        """Items that the receiver will never get."""
        with self._lock:
            return sum(count for error, count in self.exported.items() if error)


class Warnings:
    """Logs a warning of each kind at most once a minute, with the number of suppressed ones."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Reset the counts in a forked process: a thread of the parent may hold the lock."""
        self._next: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        self._lock = threading.RLock()

    def warn(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Log `message`, unless one of the same kind was logged less than a minute ago.

        With `error`, its traceback follows.
        """
        now = time.monotonic()
        with self._lock:
            if now < self._next.get(kind, 0.0):
                self._held[kind] += 1
                return
            self._next[kind] = now + _WARN_EVERY
            held = self._held.pop(kind, 0)
        suffix = f" ({held} similar warnings since the last one)" if held else ""
        with suppress(Exception):  # a handler that raises must not end the thread that warns
            log.warning("%s%s", message, suffix, exc_info=error)
