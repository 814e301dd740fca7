"""Time limits: a test that takes too long fails with the stacks of all threads.

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
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
import pytest_timeout

# A test that does not react to its limit (C code that holds the interpreter) ends its worker.
GRACE_SECONDS = 60.0


class _Limit:
    """The limit of the test that runs now. Only the main thread uses it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.dump = sys.__stderr__

    def start(self, seconds: float) -> None:
        self.seconds = seconds
        signal.signal(signal.SIGALRM, self._expire)
        # Again after each further period: code in between may swallow the exception, and the
        # teardown may hang too.
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        self.guard()

    def guard(self) -> None:
        """Arm the last resort: a thread in C that needs no interpreter lock."""
        if self.seconds:
            faulthandler.dump_traceback_later(
                self.seconds + GRACE_SECONDS, exit=True, file=self.dump
            )

    def stop(self) -> None:
        self.seconds = 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()

    def _expire(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if not pytest_timeout.is_debugging():
            pytest.fail(f"took longer than {self.seconds:g} s\n\n{stacks(frame)}")


_limit = _Limit()


@contextmanager
def paused() -> Iterator[None]:
    """Do not count the time inside toward the limit of the test, which then starts again.

    For waiting on something that is not the test's: a build, a lock held by another worker.
    """
    seconds = _limit.seconds
    _limit.stop()
    try:
        yield
    finally:
        if seconds:
            _limit.start(seconds)


def stacks(frame: FrameType | None) -> str:
    """The stacks of all threads and asyncio tasks; `frame` is the one of the current thread."""
    text = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, current in sys._current_frames().items():
        print(f"Stack of {names.get(ident, 'an unknown thread')} ({ident}):", file=text)
        shown = frame if ident == threading.get_ident() else current
        traceback.print_stack(shown, file=text)
    for task in _tasks():
        task.print_stack(file=text)
    return text.getvalue()


def _tasks() -> set["asyncio.Task[object]"]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()


def pytest_configure(config: pytest.Config) -> None:
    """Choose where a worker that has to be ended leaves its stacks."""
    file = getattr(config, "workerinput", {}).get("stacks")
    # Standard error is captured while a test runs; the duplicate is not.
    _limit.dump = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT) if file else os.dup(2), "w")


def pytest_unconfigure() -> None:
    if _limit.dump is not sys.__stderr__:
        _limit.dump.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        _limit.stop()


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    _limit.start(settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    # Called after a failure too, where the teardown is still to come.
    if item.config.getoption("usepdb"):
        _limit.stop()
    return True


@pytest.hookimpl(trylast=True)
def pytest_exception_interact() -> None:
    # Pytest's own faulthandler plugin has just cancelled it.
    _limit.guard()
