"""This process among others: whether it is a worker, and what runs before it ends."""

import multiprocessing
import multiprocessing.util
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

# Linux, include/linux/sched.h: forked, and no other program was executed since.
_FORKED: Final = 0x40
_FLAGS_FIELD: Final = 6  # of /proc/self/stat, after the process's name
# Runs last among the finalizers of a process of `multiprocessing`.
_LAST: Final = -1_000_000
_STAT: Final = Path("/proc/self/stat")


def worker_name() -> str | None:
    """Return a name that distinguishes this worker from others; None if it is not a worker."""
    if multiprocessing.parent_process() is not None:
        return multiprocessing.current_process().name
    return str(os.getpid()) if _is_forked() else None


def _is_forked() -> bool:
    """Whether this process was forked and runs the same program as its parent."""
    with suppress(OSError, ValueError, IndexError):
        fields = _STAT.read_text().rpartition(")")[2].split()
        return bool(int(fields[_FLAGS_FIELD]) & _FORKED)
    with suppress(psutil.Error):
        process = psutil.Process()
        parent = process.parent()
        return parent is not None and parent.cmdline() == process.cmdline()
    return False


def call_in_children(began: Callable[[], object], ended: Callable[[], object]) -> None:
    """Call `began` in each forked process, and `ended` before one of a process pool ends.

    Processes of `multiprocessing` and of Celery's pool end without calling `atexit`. This process
    may be one of them.
    """

    def finalize(_: object = None) -> None:
        multiprocessing.util.Finalize(None, ended, exitpriority=_LAST)

    def expect_the_end() -> None:
        # `multiprocessing` forgets the finalizers when its process begins, then calls these.
        multiprocessing.util.register_after_fork(began, finalize)
        if signals := sys.modules.get("celery.signals"):
            signals.worker_process_shutdown.connect(
                lambda **_: ended(), weak=False, dispatch_uid=__name__
            )

    def in_child() -> None:
        expect_the_end()
        began()

    os.register_at_fork(after_in_child=in_child)
    expect_the_end()
    if multiprocessing.parent_process() is not None:
        finalize()
