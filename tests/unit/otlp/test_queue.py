"""The queue is bounded in items and bytes, and counts what it drops."""

import threading
from collections.abc import Callable

from chatscope.otlp.batch import Group
from chatscope.otlp.queue import BoundedQueue, Wakeup

_GROUP = Group(b"", b"", b"", b"")


def _queue(max_items: int = 10, max_bytes: int = 10_000, batch_items: int = 4) -> BoundedQueue:
    return BoundedQueue(max_items, max_bytes, batch_items)


def _put(queue: BoundedQueue, *data: bytes) -> None:
    for each in data:
        queue.put((_GROUP, each))


def _taken(queue: BoundedQueue, max_bytes: int = 10_000) -> list[bytes]:
    return [bytes(data) for _, data in queue.take(max_bytes) if isinstance(data, bytes)]


def test_items_leave_in_their_order_and_in_batches() -> None:
    queue = _queue()
    _put(queue, *[bytes([number]) for number in range(6)])

    assert _taken(queue) == [b"\0", b"\1", b"\2", b"\3"]
    assert _taken(queue) == [b"\4", b"\5"]
    assert _taken(queue) == []


def test_the_oldest_item_is_dropped_and_counted_when_there_are_too_many() -> None:
    queue = _queue(max_items=2)
    _put(queue, b"a", b"b", b"c")

    assert _taken(queue) == [b"b", b"c"]
    assert (queue.added, queue.dropped) == (3, 1)


def test_the_oldest_items_are_dropped_when_they_take_too_many_bytes() -> None:
    queue = _queue(max_bytes=2_000)
    _put(queue, b"a" * 800, b"b" * 800, b"c" * 800)

    assert [data[:1] for data in _taken(queue)] == [b"b", b"c"]
    assert queue.dropped == 1
    assert queue.bytes == 0


def test_one_item_larger_than_the_whole_queue_is_kept_alone() -> None:
    queue = _queue(max_bytes=100)
    _put(queue, b"a", b"b" * 1_000)

    assert [data[:1] for data in _taken(queue)] == [b"b"]


def test_a_batch_has_at_most_the_wanted_bytes_and_one_item_at_least() -> None:
    queue = _queue()
    _put(queue, b"a" * 60, b"b" * 60, b"c" * 200)

    assert [len(data) for data in _taken(queue, max_bytes=120)] == [60, 60]
    assert [len(data) for data in _taken(queue, max_bytes=120)] == [200]


def test_a_complete_batch_wakes_the_sender_and_an_incomplete_one_does_not() -> None:
    queue = _queue(batch_items=2)
    _put(queue, b"a")
    assert not queue.wanted.is_set()

    _put(queue, b"b")

    assert queue.wanted.is_set()
    _taken(queue)
    assert not queue.wanted.is_set()


def test_items_after_closing_are_counted_and_not_kept() -> None:
    queue = _queue()
    _put(queue, b"a")
    queue.close()
    _put(queue, b"b")

    assert _taken(queue) == [b"a"]
    assert queue.late == 1
    assert queue.wanted.is_set()


def test_every_item_of_many_threads_is_taken_or_counted() -> None:
    queue = _queue(max_items=50, batch_items=7)
    taken: list[bytes] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or len(queue):
            taken.extend(_taken(queue))

    taker = threading.Thread(target=take)
    putters = [
        threading.Thread(target=lambda: _put(queue, *[b"x"] * 2_000), daemon=True) for _ in range(4)
    ]
    for thread in (taker, *putters):
        thread.start()
    for thread in putters:
        thread.join(20)
    done.set()
    taker.join(20)

    assert queue.added == 8_000
    assert len(taken) + queue.dropped == 8_000
    assert queue.bytes == 0


class _Interrupted(bytes):
    """As long as it is; asking it runs a finaliser that logs."""

    queue: BoundedQueue
    times = 0

    def __len__(self) -> int:
        if self.times:
            self.times -= 1
            self.queue.put((_GROUP, b"logged"))
        return 1


def test_item_that_is_added_in_the_middle_of_another_call_on_the_same_thread_counts() -> None:
    queue = _queue(max_items=3)
    interrupted = _Interrupted(b"x")
    interrupted.queue = queue
    _put(queue, interrupted, b"a", b"b")
    interrupted.times = 2
    taken: list[bytes] = []
    _in_time(lambda: taken.extend(_taken(queue)))
    _in_time(lambda: taken.extend(_taken(queue)))

    assert len(taken) == 4
    assert queue.added == queue.taken + queue.dropped
    assert queue.bytes == 0


def test_item_that_is_added_while_the_oldest_is_dropped_counts() -> None:
    queue = _queue(max_items=2)
    interrupted = _Interrupted(b"x")
    interrupted.queue = queue
    _put(queue, interrupted, b"a")
    interrupted.times = 1
    _in_time(lambda: _put(queue, b"b"))

    assert (queue.added, queue.dropped, len(queue)) == (4, 2, 2)
    while _taken(queue):
        pass
    assert queue.bytes == 0


def _in_time(call: Callable[[], None]) -> None:
    """Call in a thread, which would hang where a lock is not reentrant."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_wake_up_counts_once_and_can_be_set_again_and_again() -> None:
    wakeup = Wakeup()
    assert not wakeup.wait(0.0)
    wakeup.set()
    wakeup.set()
    assert wakeup.is_set()
    assert wakeup.wait(0.0)
    assert not wakeup.wait(0.0)
    wakeup.set()
    wakeup.clear()
    wakeup.clear()
    assert not wakeup.wait(0.0)
