"""A fuzz target, and the bound on the time that one input may take."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from loguru import logger

# Seconds of this thread's CPU for one input of at most a few kilobytes.
_SLOW: Final = 0.25
_REPETITIONS: Final = 3


class BrokenPromise(AssertionError):
    """A parser broke a promise for an input."""


@dataclass(frozen=True)
class Target:
    """One parser. `check` raises for an input for which the parser breaks a promise.

    `seeds` are the first inputs of an empty corpus, `words` those of the format.
    """

    name: str
    check: Callable[[bytes], object]
    seeds: tuple[bytes, ...] = ()
    words: tuple[str, ...] = ()
    max_bytes: int = 512
    max_seconds: float = _SLOW

    def run(self, data: bytes) -> None:
        """Check one input, and the CPU time that it takes."""
        started = time.thread_time()
        self.check(data)
        if time.thread_time() - started > self.max_seconds:
            self._check_again(data)

    def _check_again(self, data: bytes) -> None:
        """Fail if the input is always slow: once, the garbage collector may have run."""
        fastest = min(self._seconds(data) for _ in range(_REPETITIONS))
        if fastest > self.max_seconds:
            raise BrokenPromise(f"{self.name} takes {fastest:.2f} s for {len(data)} bytes")

    def _seconds(self, data: bytes) -> float:
        started = time.thread_time()
        self.check(data)
        return time.thread_time() - started


def ensure(condition: object, promise: str) -> None:
    """Raise BrokenPromise unless the condition holds."""
    if not condition:
        raise BrokenPromise(promise)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the log records of refused inputs, of which there are many."""
    logging.disable(logging.CRITICAL)
    logger.disable("app")
    try:
        yield
    finally:
        logger.enable("app")
        logging.disable(logging.NOTSET)
