"""Defer work out of finalizers and out of generators that are being closed.

The garbage collector may run them inside any code, even code that holds a lock of the SDK, so
recording there could deadlock. Putting a task into a `SimpleQueue` is
safe at any place; a thread runs it a moment later.
"""

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from chatscope.guard import guarded

Task = Callable[[], object]


class Worker:
    """Runs tasks in a thread, which is started by `start` and never by `put`."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread, unless it runs already."""
        if self._thread is not None:
            return
        with self._lock, guarded("starting a thread"):
            if self._thread is None:
                thread = threading.Thread(
                    target=_run, args=(self._tasks,), name="chatscope deferred", daemon=True
                )
                thread.start()
                self._thread = thread

    def put(self, task: Task) -> None:
        """Run a task soon."""
        self._tasks.put(task)

    def flush(self, seconds: float) -> bool:
        """Wait until all current tasks are done; return False after `seconds`."""
        done = threading.Event()
        if self._thread is None:
            _run_all(self._tasks)
            return True
        self._tasks.put(done.set)
        return done.wait(seconds)


def _run(tasks: SimpleQueue[Task]) -> None:
    while True:
        task = tasks.get()
        with guarded("recording an abandoned operation"):
            task()
        del task  # otherwise it would be kept until the next task


def _run_all(tasks: SimpleQueue[Task]) -> None:
    while True:
        try:
            task = tasks.get_nowait()
        except Empty:
            return
        with guarded("recording an abandoned operation"):
            task()


WORKER = Worker()
