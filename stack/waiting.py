"""Waits until a condition is true, with a clear error if it does not become true in time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitError(TimeoutError):
    """A condition did not become true in time; the text contains it and the last value or error."""


def poll_until(
    check: Callable[[], T | None],
    description: str,
    within: float = 30.0,
    interval: float = 0.05,
    *,
    giving_up_on: tuple[type[Exception], ...] = (),
) -> T:
    """Return the first true value of `check`, called every `interval` seconds.

    An exception raised by `check` counts as "not yet", except those of `giving_up_on`, which are
    raised immediately. Raises WaitError after `within` seconds, with the description and the last
    error.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            value = check()
            if value:
                return value
            last = f"the last answer was {value!r}"
        except giving_up_on:
            raise
        except Exception as error:
            last = f"the last error was {type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise WaitError(f"waited {within:g} s for {description}; {last}")
        time.sleep(interval)
