"""Assertions about elapsed time against a promised duration."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Maximum factor of the promised duration; higher on an overloaded machine.
BUSY_FACTOR: Final = 2.0
# The test's clock starts with an event slightly after the service's does.
_EARLY_SECONDS: Final = 0.05


@contextmanager
def takes(seconds: float, factor: float = BUSY_FACTOR) -> Iterator[None]:
    """Fail unless the block takes at least `seconds`, and at most `factor` times that."""
    begun = time.monotonic()
    yield
    assert_elapsed(time.monotonic() - begun, seconds, factor)


@contextmanager
def takes_at_most(seconds: float, factor: float = BUSY_FACTOR) -> Iterator[None]:
    """Fail if the block takes longer than `factor` times `seconds`."""
    begun = time.monotonic()
    yield
    assert_at_most(time.monotonic() - begun, seconds, factor)


def assert_at_most(elapsed: float, promised: float, factor: float = BUSY_FACTOR) -> None:
    """Fail if `elapsed` is more than `factor` times `promised` (seconds)."""
    factor *= overload()
    assert elapsed <= promised * factor, (
        f"took {elapsed:.2f} s; promised at most {promised:g} s, allowed {factor:.1f} times that"
    )


def assert_elapsed(elapsed: float, promised: float, factor: float = BUSY_FACTOR) -> None:
    """Fail unless `elapsed` is at least `promised`, and at most `factor` times that (seconds)."""
    factor *= overload()
    assert promised - _EARLY_SECONDS <= elapsed <= promised * factor, (
        f"took {elapsed:.2f} s; promised {promised:g} s, allowed up to {factor:.1f} times that"
    )


def overload() -> float:
    """Return the number of runnable threads per processor in the last minute, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
