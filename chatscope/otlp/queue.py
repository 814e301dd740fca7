"""A bounded queue of encoded items in memory, with counts of what went through and what did not."""

import threading
from collections import deque
from contextlib import suppress
from typing import Final

from .batch import Group
from .steps import TICKS, Steps
from .unfinished import Unfinished

QUEUE_FULL: Final = "queue_full"
SHUT_DOWN: Final = "already_shutdown"  # the conventions' error.type for items after the shutdown

# What an item takes in memory besides its data: the tuple, the bytes object and the queue's slot.
_ITEM_OVERHEAD: Final = 120

Item = tuple[Group, bytes | Unfinished]


class Wakeup:
    """An event that one thread waits for, and that is over when it has woken up.

    Unlike `threading.Event`, `set` can interrupt any other method on the same thread: it may run
    in a finaliser or in a signal handler.
    """

    def __init__(self) -> None:
        self._not_set = threading.Lock()
        self._not_set.acquire()

    def is_set(self) -> bool:
        """Whether the next `wait` returns at once."""
        return not self._not_set.locked()

    def set(self) -> None:
        """Let the waiting thread, or the next that waits, continue."""
        with suppress(RuntimeError):  # it is set already
            self._not_set.release()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set; False when that takes longer than `seconds`."""
        return self._not_set.acquire(timeout=max(0.0, seconds))

    def clear(self) -> None:
        """Forget that it was set."""
        self._not_set.acquire(blocking=False)


class BoundedQueue:
    """Holds at most `max_items` items and `max_bytes` bytes; the oldest are dropped for new ones.

    The lock is reentrant: the garbage collector may run a finaliser that logs in the middle of
    any method, on the same thread. So no value is read before a call and written after it.
    """

    def __init__(self, max_items: int, max_bytes: int, batch_items: int) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.added = 0  # the sum of the following three and of the items in the queue
        self.taken = 0
        self.dropped = 0  # because the queue was full
        self.late = 0  # because it was closed
        self.wanted = Wakeup()  # set when a batch is complete, or the queue is closed
        self._batch_items = batch_items
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._closed = False
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        """Memory that the items take."""
        return self._bytes

    def put(self, item: Item) -> None:
        """Add an item, dropping the oldest for it where there is no room."""
        size = len(item[1]) + _ITEM_OVERHEAD
        with self._lock:
            self.added += 1
            if self._closed:
                self.late += 1
                return
            items = self._items
            items.append(item)
            self._bytes += size
            waiting = len(items)
            if waiting > self.max_items or self._bytes > self.max_bytes:
                self._drop_oldest()
                waiting = len(items)
            complete = waiting == self._batch_items
        if complete:
            self.wanted.set()

    def take(self, max_bytes: int) -> list[Item]:
        """Remove and return the oldest items, up to one batch or `max_bytes`; one at least."""
        batch: list[Item] = []
        size = 0
        steps = Steps()
        with self._lock:
            items = self._items
            while items and (taken := len(batch)) < self._batch_items:
                item = items.popleft()
                length = len(item[1])
                if taken and size + length > max_bytes:
                    items.appendleft(item)
                    break
                batch.append(item)
                size += length
                self.taken += 1
                self._bytes -= length + _ITEM_OVERHEAD
                if not taken % TICKS:
                    steps.pause()
            if len(items) < self._batch_items and not self._closed:
                self.wanted.clear()
        return batch

    def _drop_oldest(self) -> None:
        items, steps = self._items, Steps()
        while len(items) > self.max_items or (self._bytes > self.max_bytes and len(items) > 1):
            oldest = len(items.popleft()[1]) + _ITEM_OVERHEAD
            self._bytes -= oldest
            self.dropped += 1
            steps.tick()

    def close(self) -> None:
        """Accept no further items; queued ones stay until they are taken."""
        with self._lock:
            self._closed = True
        self.wanted.set()
