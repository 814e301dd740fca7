"""Log lines for a person, on standard error, without ever waiting for their reader.

A thread writes them. Where nobody reads standard error (a pipe that is full, a stopped terminal),
lines wait within a limit; further ones are dropped, counted (`chatscope.console.dropped`) and
reported with one line when standard error can be written again.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final

from opentelemetry.metrics import Meter, Observation

from . import names
from .exceptions import stack_trace_of
from .observing import observe
from .tracing import current_trace_id
from .values import describe

if TYPE_CHECKING:
    from loguru import Message, Record

_COLOURS: Final = ((40, "31"), (30, "33"), (25, "32"), (20, "36"))
_DIM: Final = "2"
_SHORT_TRACE: Final = 8
# Longer values are for the log backend.
_LONGEST_VALUE: Final = 1_000
_LONGEST_LINE: Final = 65_536
# More than the thousand lines that wait for the start, and than a burst of tracebacks.
_CAPACITY_BYTES: Final = 2 * 1024 * 1024
# What a pipe takes without blocking when it is reported as writable: PIPE_BUF.
_PIECE_BYTES: Final = select.PIPE_BUF
# How long an idle writer lets lines gather, so that a thread is not woken for each of them.
_GATHER_SECONDS: Final = 0.01
_REASON: Final = "standard error could not be written"
_POLL_MS: Final = 200
# At exit, for lines that still wait.
_LAST_SECONDS: Final = 1.0


class Console:
    """Writes texts to `stream()` in order, on a thread of its own."""

    def __init__(
        self, stream: Callable[[], IO[str] | None], capacity_bytes: int = _CAPACITY_BYTES
    ) -> None:
        self._stream = stream
        self._capacity = capacity_bytes
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin without lines and without a thread, as a forked process does."""
        self.dropped = 0
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._unreported = 0
        self._hurry = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the lines go to a terminal."""
        try:
            stream = self._stream()
            return stream is not None and stream.isatty()
        except ValueError:  # it is closed
            return False

    def write(self, line: str) -> None:
        """Queue a line, or count it as dropped; never blocks."""
        if len(line) > _LONGEST_LINE:
            line = f"{line[:_LONGEST_LINE]}…\n"
        with self._changed:
            if self._bytes + len(line) > self._capacity:
                self._drop(1)
                return
            self._lines.append(line)
            self._bytes += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="Console", daemon=True)
                self._thread.start()
            elif len(self._lines) == 1:
                self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written, for `seconds` at most; whether they are."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._bytes, seconds)
            finally:
                self._hurry = False

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                self._changed.wait_for(lambda: self._hurry, _GATHER_SECONDS)
                lines = list(self._lines)
                self._lines.clear()
            written = self._put("".join(lines))
            with self._changed:
                # Until now they took room: what is being written waits as well.
                self._bytes -= sum(map(len, lines))
                if not written:
                    self._drop(len(lines))
                elif self._unreported:
                    report = f"{self._unreported} lines dropped: {_REASON}\n"
                    self._unreported = 0
                    self._lines.appendleft(report)
                    self._bytes += len(report)
                self._changed.notify_all()

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines

    def _put(self, text: str) -> bool:
        """Whether it was written; waits for as long as the reader does."""
        try:
            stream = self._stream()
            if stream is None:  # closed before the start
                return False
            try:
                descriptor = stream.fileno()
            except OSError:  # no file, such as that of a test
                stream.write(text)
                stream.flush()
                return True
            data = text.encode(stream.encoding or "utf-8", "backslashreplace")
            _write(descriptor, data)
        except (OSError, ValueError):
            # Its reader has gone, it is closed, or the disk is full.
            time.sleep(_GATHER_SECONDS)
            return False
        return True


def _write(descriptor: int, data: bytes) -> None:
    """Write all, past Python's own buffer, whose lock would be held as long as nobody reads."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    view = memoryview(data)
    while view:
        if poll.poll(_POLL_MS):
            view = view[os.write(descriptor, view[:_PIECE_BYTES]) :]


_console: Final = Console(lambda: sys.stderr)
atexit.register(_console.flush, _LAST_SECONDS)


def write(message: Message) -> None:
    """Print one record, in colour where standard error is a terminal."""
    _console.write(render(message.record, colour=_console.is_terminal))


def write_line(level: str, text: str, name: str) -> None:
    """Print a line that does not come from loguru."""
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    _console.write(f"{clock}.{int(now % 1 * 1000):03} {level:<8} {text} ({name})\n")


def flush(seconds: float = _LAST_SECONDS) -> bool:
    """Wait until all lines are printed, for `seconds` at most; whether they are."""
    return _console.flush(seconds)


def observe_console(meter: Meter) -> None:
    """Report the number of dropped lines as a metric."""
    observe(meter, names.CONSOLE_DROPPED, lambda: [Observation(_console.dropped)])


def render(record: Record, *, colour: bool) -> str:
    """Return one record as text, with its traceback below it."""
    level = record["level"]
    code = next((code for least, code in _COLOURS if level.no >= least), _DIM)
    parts = [
        _paint(f"{record['time']:%H:%M:%S.%f}"[:-3], _DIM, colour),
        _paint(f"{level.name:<8}", code, colour),
        record["message"],
        _paint(_details(record), _DIM, colour),
    ]
    line = " ".join(part for part in parts if part)
    return f"{line}\n{_traceback(record)}"


def _details(record: Record) -> str:
    pairs = [
        f"{describe(key)}={_short(value)}"
        for key, value in record["extra"].items()
        if value is not None
    ]
    if trace_id := current_trace_id():
        pairs.append(f"trace={trace_id[:_SHORT_TRACE]}")
    return " ".join([*pairs, f"({record['name']})"])


def _short(value: object) -> str:
    if type(value) is float:
        return f"{value:.4g}"
    text = describe(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _traceback(record: Record) -> str:
    exception = record["exception"]
    if exception is None or exception.value is None:
        return ""
    return stack_trace_of(exception.value)


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text
