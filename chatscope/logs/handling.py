"""Whether the current thread is handling a log record."""

import threading
from typing import Final


class _Handling(threading.local):
    active = False


# Set `active` while a log record is handled, and reset it in `finally`: records made meanwhile are
# not exported, such as those of the exporters' queues, which must not be queued again.
this_thread: Final = _Handling()


def is_handling() -> bool:
    """Whether this thread is handling a log record."""
    return this_thread.active
