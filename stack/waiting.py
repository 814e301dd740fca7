"""Waiting for something to become true, with a clear word when it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitError(TimeoutError):
    """What we waited for did not come; the text names it and the last thing seen."""


def poll_until(
    check: Callable[[], T | None],
    what: str,
    timeout: float = 30.0,
    interval: float = 0.05,
    *,
    giving_up_on: tuple[type[Exception], ...] = (),
) -> T:
    """The first true value that `check` returns; asks every `interval` seconds.

    An exception of `check` counts as "not yet", except those of `giving_up_on`, which pass
    through at once. Raises WaitError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
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
            raise WaitError(f"waited {timeout:g} s for {what}; {last}")
        time.sleep(interval)
