"""Whether the current thread is handling a log record."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class _Handling(threading.local):
    active = False


# For code that cannot afford a context manager: set `active`, and reset it in `finally`.
this_thread: Final = _Handling()


@contextmanager
def handling() -> Iterator[None]:
    """Mark the thread as handling a log record: records made meanwhile are not exported.

    Such as those of the exporters' queues, which must not be queued again.
    """
    before, this_thread.active = this_thread.active, True
    try:
        yield
    finally:
        this_thread.active = before


def is_handling() -> bool:
    """Whether this thread is handling a log record."""
    return this_thread.active
