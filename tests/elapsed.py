"""Assertions about elapsed time against a promised duration."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# How many times the promised duration a step may take on a busy machine.
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
    elapsed = time.monotonic() - begun
    assert elapsed <= seconds * factor, (
        f"took {elapsed:.2f} s; promised at most {seconds:g} s, allowed {factor:g} times that"
    )


def assert_elapsed(elapsed: float, promised: float, factor: float = BUSY_FACTOR) -> None:
    """Fail unless `elapsed` is at least `promised`, and at most `factor` times that (seconds)."""
    assert promised - _EARLY_SECONDS <= elapsed <= promised * factor, (
        f"took {elapsed:.2f} s; promised {promised:g} s, allowed up to {factor:g} times that"
    )
