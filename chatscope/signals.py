"""Call a function before SIGTERM ends the process.

CPython runs a signal handler between two instructions of the main thread. A signal that arrives
just before a blocking system call does not interrupt it, so the process would not end before the
call does. A thread is notified of each signal, and interrupts the main thread until the handler
runs.
"""

import os
import selectors
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_PATIENCE: Final = 0.2  # s, until the main thread is interrupted
_ATTEMPTS: Final = 25
# Ignored by default, so that a process without the handler below is not harmed.
_INTERRUPT: Final = signal.SIGURG


class _Delay:
    """The blocks that a SIGTERM waits for, and whether one does."""

    blocks = 0
    due = False

    def clear(self) -> None:
        """Forget those of the parent, which end there."""
        self.blocks, self.due = 0, False


_delay: Final = _Delay()
os.register_at_fork(after_in_child=_delay.clear)


@contextmanager
def delaying_the_end() -> Iterator[None]:
    """Let a SIGTERM that arrives inside end the process when the block has ended."""
    _delay.blocks += 1
    try:
        yield
    finally:
        _delay.blocks -= 1
        if _delay.due and not _delay.blocks:
            _delay.due = False
            os.kill(os.getpid(), signal.SIGTERM)


def call_when_killed(call: Callable[[], object]) -> None:
    """Let SIGTERM call `call` before it ends the process, where it would end it at once.

    Handlers of the application are left alone, whether they are set before or after.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        return
    begun = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        begun.set()
        if _delay.blocks:
            _delay.due = True
            return
        call()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, handle)
    _watch(begun, handle)
    # The child has neither the thread nor a pipe of its own.
    os.register_at_fork(after_in_child=lambda: _watch(begun, handle, anew=True))


def _watch(begun: threading.Event, handle: Callable[..., None], *, anew: bool = False) -> None:
    """Start a thread that interrupts the main thread if `begun` is not set after a SIGTERM."""
    if (
        signal.getsignal(signal.SIGTERM) is not handle
        or threading.current_thread() is not threading.main_thread()
    ):
        return
    if signal.getsignal(_INTERRUPT) is signal.SIG_DFL:
        signal.signal(_INTERRUPT, lambda *_: None)
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if before != -1 and not anew:  # the application's
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)
        return
    thread = threading.Thread(target=_run, args=(read, begun), name="SIGTERM", daemon=True)
    with suppress(RuntimeError):  # no thread can be started
        thread.start()


def _run(read: int, begun: threading.Event) -> None:
    # Not `os.read` alone: where gevent replaces threads, it would block all of them.
    with selectors.DefaultSelector() as selector:
        selector.register(read, selectors.EVENT_READ)
        while not begun.is_set():
            selector.select()
            if signal.SIGTERM in os.read(read, 64):
                _interrupt_until(begun)


def _interrupt_until(begun: threading.Event) -> None:
    """Interrupt the main thread until the handler runs.

    A few times only: the signal may have been that of a child that was just forked, which shares
    the pipe until its fork handlers have run.
    """
    for _ in range(_ATTEMPTS):
        ident = threading.main_thread().ident
        if begun.wait(_PATIENCE) or ident is None:
            return
        signal.pthread_kill(ident, _INTERRUPT)
