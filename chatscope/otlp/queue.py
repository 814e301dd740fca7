"""A bounded queue of encoded items in memory, with counts of what went through and what did not."""

import threading
from collections import deque
from typing import Final

from .batch import Group

QUEUE_FULL: Final = "queue_full"
SHUT_DOWN: Final = "already_shutdown"  # the conventions' error.type for items after the shutdown

# What an item takes in memory besides its data: the tuple, the bytes object and the queue's slot.
_ITEM_OVERHEAD: Final = 120

Item = tuple[Group, bytes]


class BoundedQueue:
    """Holds at most `max_items` items and `max_bytes` bytes; the oldest are dropped for new ones.

    The lock is reentrant: the garbage collector may run a finaliser that logs in the middle of
    `put`, on the same thread.
    """

    def __init__(self, max_items: int, max_bytes: int, batch_items: int) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.added = 0
        self.dropped = 0  # because the queue was full
        self.late = 0  # because it was closed
        self.wanted = threading.Event()  # set when a batch is complete, or the queue is closed
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
            while len(items) > self.max_items or (self._bytes > self.max_bytes and len(items) > 1):
                self._bytes -= len(items.popleft()[1]) + _ITEM_OVERHEAD
                self.dropped += 1
            complete = len(items) == self._batch_items
        if complete:
            self.wanted.set()

    def take(self, max_bytes: int) -> list[Item]:
        """Remove and return the oldest items, up to one batch or `max_bytes`; one at least."""
        batch: list[Item] = []
        size = 0
        with self._lock:
            items = self._items
            while items and len(batch) < self._batch_items:
                length = len(items[0][1])
                if batch and size + length > max_bytes:
                    break
                size += length
                self._bytes -= length + _ITEM_OVERHEAD
                batch.append(items.popleft())
            if len(items) < self._batch_items and not self._closed:
                self.wanted.clear()
        return batch

    def close(self) -> None:
        """Accept nothing more; what is in the queue stays until it is taken."""
        with self._lock:
            self._closed = True
        self.wanted.set()
