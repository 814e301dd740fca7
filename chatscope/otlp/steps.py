"""Lets other threads run during a long computation.

CPython passes the interpreter lock on after 5 ms of Python code only, and never during a call of
C code; an event loop in another thread waits for that long.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

# How long a computation goes on before it releases the interpreter lock.
_STEP: Final = 0.0004  # s
# A real sleep: after one of 0 s, a thread may get the lock again before the others wake up.
_PAUSE: Final = 1e-6  # s
# Parts that take a microsecond each, between two looks at the clock.
TICKS: Final = 16

T = TypeVar("T")


class Steps:
    """One computation, made in short steps."""

    __slots__ = ("_end", "_ticks")

    def __init__(self) -> None:
        self._end = time.perf_counter() + _STEP
        self._ticks = 0

    def pause(self) -> None:
        """Release the interpreter lock if the step is over."""
        if time.perf_counter() > self._end:
            time.sleep(_PAUSE)
            self._end = time.perf_counter() + _STEP

    def tick(self) -> None:
        """Do the same after each few calls, for parts that take a microsecond."""
        self._ticks += 1
        if self._ticks >= TICKS:
            self._ticks = 0
            self.pause()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, pausing in between."""
        for item in items:
            yield item
            self.tick()
