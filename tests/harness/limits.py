"""Time limits: a test that takes too long fails with the stacks of all threads.

On an overloaded machine, a test that reaches its limit once gets more time.

pytest-timeout reads the limits; its timer is replaced, because it does not run under xdist's
workers with stacks in the report, and it stops before the teardown of a failed test.
"""

import asyncio
import faulthandler
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import CoroutineType, FrameType
from typing import Any

import pytest
import pytest_timeout

from tests.elapsed import overload

# A test that does not react to its limit (C code that holds the interpreter lock) costs its worker
# process, this long after the limit.
GRACE_SECONDS = 90.0
# Maximum factor of the time limit on an overloaded machine.
MOST_OVERLOAD = 4.0
# Number of innermost frames of each thread.
_FRAMES = 15


class _Limit:
    """The time limit of the current test. Only used by the main thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        # The limit, multiplied on an overloaded machine.
        self._allowed = 0.0
        self.dump = 2
        # Whether an exception raised now is the test's failure; elsewhere it ends the run.
        self.in_test = False

    def start(self, seconds: float) -> None:
        self.seconds = self._allowed = seconds
        signal.signal(signal.SIGALRM, self._expire)
        self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        # Repeatedly: an event loop swallows exceptions of its callbacks, and the teardown may hang
        # too.
        signal.setitimer(signal.ITIMER_REAL, seconds, GRACE_SECONDS / 3)
        self._guard(seconds)

    def guard(self) -> None:
        """Start the last resort: a C thread that does not need the interpreter lock."""
        if self.seconds:
            self._guard(self._allowed)

    def _guard(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=self.dump)

    def stop(self) -> None:
        self.seconds = 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()

    def _expire(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        allowed = self.seconds * min(overload(), MOST_OVERLOAD)
        if allowed > self._allowed == self.seconds:
            self._allowed = allowed
            self._arm(allowed - self.seconds)
            return
        if self.in_test and not pytest_timeout.is_debugging():
            pytest.fail(f"took longer than {self._allowed:g} s\n\n{stacks(frame)}")


_limit = _Limit()


@contextmanager
def paused() -> Iterator[None]:
    """Exclude the time inside from the limit of the test, which then starts again.

    For waiting on something outside the test: a build, a lock held by another worker.
    """
    seconds = _limit.seconds
    _limit.stop()
    try:
        yield
    finally:
        if seconds:
            _limit.start(seconds)


def stacks(frame: FrameType | None) -> str:
    """Return the stacks of all threads and tasks; `frame` is the current thread's."""
    text = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, current in sys._current_frames().items():
        print(f"Stack of {names.get(ident, 'an unknown thread')} ({ident}):", file=text)
        shown = frame if ident == threading.get_ident() else current
        traceback.print_stack(shown, limit=_FRAMES, file=text)
    for task in _tasks():
        print(f"Stack of the task {task.get_name()}:", file=text)
        awaited: Any = task.get_coro()
        while isinstance(awaited, CoroutineType) and awaited.cr_frame:
            traceback.print_stack(awaited.cr_frame, limit=1, file=text)
            awaited = awaited.cr_await
    return text.getvalue()


def _tasks() -> set["asyncio.Task[object]"]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the file for the stacks of a worker that has to be killed."""
    file = getattr(config, "workerinput", {}).get("stacks")
    # Standard error is captured while a test runs; the duplicate is not.
    _limit.dump = os.open(file, os.O_WRONLY | os.O_CREAT) if file else os.dup(2)


def pytest_unconfigure() -> None:
    os.close(_limit.dump)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        _limit.stop()


def _in_test() -> Generator[None, object, object]:
    __tracebackhide__ = True
    _limit.in_test = True
    try:
        return (yield)
    finally:
        _limit.in_test = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    # Set by pytest-rerunfailures, which is inside the hook that starts the timer.
    if getattr(item, "execution_count", 1) > 1 and _limit.seconds:
        _limit.start(_limit.seconds)
    return (yield from _in_test())


pytest_runtest_call = pytest.hookimpl(wrapper=True, tryfirst=True)(_in_test)
pytest_runtest_teardown = pytest.hookimpl(wrapper=True, tryfirst=True)(_in_test)


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    _limit.start(settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    # Also called after a failure, before the teardown.
    if item.config.getoption("usepdb"):
        _limit.stop()
    return True


@pytest.hookimpl(trylast=True)
def pytest_exception_interact() -> None:
    # Pytest's own faulthandler plugin has just cancelled it.
    _limit.guard()
