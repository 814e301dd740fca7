"""Daemon threads for blocking calls: as many as there are calls at the same time, used again.

A `concurrent.futures.ThreadPoolExecutor` would keep a process from ending until its calls end.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

Task = Callable[[], object]


class Workers:
    """Runs each task at once: on an idle thread, or on a new one."""

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._idle = threading.Semaphore(0)
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()

    def run(self, task: Task) -> None:
        """Start a task, which must not raise; RuntimeError where no thread can be started."""
        if self._idle.acquire(blocking=False):
            self._tasks.put(task)
        else:
            threading.Thread(target=self._work, args=(task,), name=self._name, daemon=True).start()

    def close(self) -> None:
        """End each thread after its task."""
        self._tasks.put(None)

    def _work(self, task: Task | None) -> None:
        while task is not None:
            task()
            del task  # it holds a whole batch
            self._idle.release()
            task = self._tasks.get()
        self._tasks.put(None)  # for the next one
