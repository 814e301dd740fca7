"""Write log lines to standard error without blocking the threads that log.

A thread writes the lines. While standard error is not writable (a full pipe, a stopped terminal),
lines are queued up to a limit; further lines are dropped, counted (`chatscope.console.dropped`) and
reported in one line when standard error is writable again.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO, TypeVar, cast

from opentelemetry.metrics import Meter, Observation

from chatscope import names
from chatscope.escaping import escape_controls
from chatscope.exception_texts import stack_trace_of
from chatscope.observing import observe
from chatscope.otlp.redacting import forget_with
from chatscope.otlp.values import MAX_INT, MIN_INT, describe
from chatscope.redaction import current, redact
from chatscope.tracing import current_trace_id

if TYPE_CHECKING:
    from loguru import Record

_Key = TypeVar("_Key")
_COLOURS: Final = ((40, "31"), (30, "33"), (25, "32"), (20, "36"))
_DIM: Final = "2"
_SHORT_TRACE: Final = 8
_TAB: Final = "\t"
# Longer values are shortened here, and complete in the log backend.
_LONGEST_VALUE: Final = 1_000
_LONGEST_LINE: Final = 65_536
# Short messages and attributes without secrets repeat: they are kept as they are shown.
_MOST_KEPT: Final = 1_024
_LONGEST_KEPT: Final = 64
_shown_texts: Final[dict[str, str]] = {}
_shown_pairs: Final[dict[tuple[str, str], str]] = {}
forget_with(_shown_texts.clear)
forget_with(_shown_pairs.clear)
# Characters: more than the thousand lines buffered until startup, and than a burst of
# tracebacks.
_CAPACITY: Final = 2 * 1024 * 1024
# Characters; encoding a piece takes far less than a millisecond.
_PIECE: Final = 65_536
# Bytes that a pipe accepts without blocking when it is reported as writable: PIPE_BUF.
_ATOMIC_BYTES: Final = select.PIPE_BUF
# Time for which an idle writer collects lines, so that a thread is not woken for each line.
_GATHER_SECONDS: Final = 0.01
_POLL_MS: Final = 200
# At exit, for lines that are still queued.
_FLUSH_SECONDS: Final = 0.5


class Console:
    """Writes lines to `stream()` in order, in a background thread.

    `capacity` limits the characters that are queued. Once it is reached, further lines are dropped
    until all queued lines have been written: there is one gap, and it is reported where it is.
    """

    def __init__(self, stream: Callable[[], TextIO | None], capacity: int = _CAPACITY) -> None:
        self._stream = stream
        self._asked: TextIO | None = None
        self._is_terminal = False
        self._capacity = capacity
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Start without lines and without a thread, as in a forked process."""
        self.dropped = 0
        self._unreported = 0
        self._lines: deque[str] = deque()
        # Characters, including those that are being written.
        self._size = 0
        self._overflowed = False
        self._report_due = False
        self._hurry = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def is_terminal(self) -> bool:
        """Return whether the stream is a terminal; one system call for each stream."""
        stream = self._stream()
        if stream is not self._asked:
            self._asked, self._is_terminal = stream, _is_terminal(stream)
        return self._is_terminal

    def write(self, line: str) -> None:
        """Queue a line, or count it as dropped, without blocking."""
        if len(line) > _LONGEST_LINE:
            line = f"{line[:_LONGEST_LINE]}…\n"
        with self._changed:
            if self._overflowed or self._size + len(line) > self._capacity:
                self._overflowed = True
                self._drop(1)
                return
            self._lines.append(line)
            self._size += len(line)
            if self._thread is None:
                self._start()
            elif len(self._lines) == 1:
                self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written or dropped; return False after `seconds`."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(
                    lambda: not self._size and not self._report_due, seconds
                )
            finally:
                self._hurry = False

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="Console", daemon=True)
        with suppress(RuntimeError):  # no thread can be started; the next line tries again
            thread.start()
            self._thread = thread

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines

    def _run(self) -> None:
        while True:
            lines, missing = self._take()
            report = [_report(missing)] if missing else []
            written = self._put("".join([*report, *lines]))
            with self._changed:
                self._settle(lines, missing, written)

    def _take(self) -> tuple[list[str], int]:
        """Wait; return the next lines, and the number of dropped ones to report before them."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._report_due)
            if self._size < _PIECE:
                self._changed.wait_for(lambda: self._hurry, _GATHER_SECONDS)
            lines, size = [], 0
            while self._lines and size < _PIECE:
                lines.append(self._lines.popleft())
                size += len(lines[-1])
            return lines, 0 if self._overflowed else self._unreported

    def _settle(self, lines: list[str], missing: int, written: bool) -> None:
        self._size -= sum(map(len, lines))
        self._report_due = False
        if written:
            self._unreported -= missing
        else:
            self._drop(len(lines))
        if self._overflowed and not self._lines:
            self._overflowed = False
            self._report_due = True
        self._changed.notify_all()

    def _put(self, text: str) -> bool:
        """Return whether it was written; block until the stream is writable."""
        try:
            stream = self._stream()
            if stream is None:  # closed before the start
                return False
            try:
                descriptor = stream.fileno()
            except (OSError, AttributeError):  # without a file descriptor, such as in a test
                stream.write(text)
                stream.flush()
                return True
            _write(
                descriptor,
                text.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace"),
            )
        except Exception:
            # Closed, by the reader or here; the disk is full; or the application replaced it.
            time.sleep(_GATHER_SECONDS)
            return False
        return True


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (ValueError, AttributeError):  # closed, or without a file descriptor
        return False


def _write(descriptor: int, data: bytes) -> None:
    """Write everything without Python's buffer, whose lock would be held while the write blocks."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    view = memoryview(data)
    while view:
        if poll.poll(_POLL_MS):
            try:
                view = view[os.write(descriptor, view[:_ATOMIC_BYTES]) :]
            except BlockingIOError:  # another process made it non-blocking and filled it
                time.sleep(_GATHER_SECONDS)


def _report(missing: int) -> str:
    noun = "line" if missing == 1 else "lines"
    return _line(
        "WARNING", f"{missing} log {noun} dropped: standard error was not writable", __name__
    )


def _line(level: str, text: str, name: str) -> str:
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    first, *others = redact(text).splitlines() or [""]
    first, name = escape_controls(first), escape_controls(name)
    return f"{clock}.{int(now % 1 * 1000):03} {level:<8} {first} ({name})\n{_indented(others)}"


_console: Final = Console(lambda: sys.stderr)
atexit.register(_console.flush, _FLUSH_SECONDS)


def reserve_descriptors() -> None:
    """Open the standard descriptors that are closed, before a socket becomes one of them.

    libuv aborts the process where it closes such a socket.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor; workers inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def write(record: Record) -> None:
    """Print one record, in color if standard error is a terminal."""
    _console.write(render(record, colour=_console.is_terminal))


def write_line(level: str, text: str, name: str) -> None:
    """Print a line that does not come from loguru."""
    _console.write(_line(level, text, name))


def flush(seconds: float = _FLUSH_SECONDS) -> bool:
    """Wait until all lines are printed or dropped; return False after `seconds`."""
    return _console.flush(seconds)


def observe_console(meter: Meter) -> None:
    """Report the number of dropped lines as a metric."""
    observe(meter, names.CONSOLE_DROPPED, lambda: [Observation(_console.dropped)])


def render(record: Record, *, colour: bool) -> str:
    """Return one record as text, with its traceback below it."""
    level = record["level"]
    code = next((code for least, code in _COLOURS if level.no >= least), _DIM)
    now = record["time"]
    clock = f"{now.hour:02}:{now.minute:02}:{now.second:02}.{now.microsecond // 1000:03}"
    parts = [
        _paint(clock, _DIM, colour),
        _paint(f"{level.name:<8}", code, colour),
        _shown(record["message"]),
        _paint(_details(record), _DIM, colour),
    ]
    line = " ".join(part for part in parts if part)
    return f"{line}\n{_traceback(record)}"


def _details(record: Record) -> str:
    pairs = [_pair(key, value) for key, value in record["extra"].items() if value is not None]
    if trace_id := current_trace_id():
        pairs.append(f"trace={trace_id[:_SHORT_TRACE]}")
    return " ".join([*pairs, f"({escape_controls(record['name'] or '')})"])


def _shown(text: str) -> str:
    """Return a text as it is printed: redacted, and with control characters escaped."""
    found = _shown_texts.get(text)
    if found is None:
        redacted = redact(text)
        found = escape_controls(redacted)
        if redacted == text and len(text) <= _LONGEST_KEPT:
            _keep(_shown_texts, text, found)
    return found


def _pair(key: object, value: object) -> str:
    name = key if type(key) is str else describe(key)
    kind = type(value)
    if kind is str:
        text = cast("str", value)
        return _shown_pairs.get((name, text)) or _text_pair(name, text)
    if kind is float:
        return f"{_shown(name)}={value:.4g}"
    if kind is int and MIN_INT <= cast("int", value) <= MAX_INT:
        return f"{_shown(name)}={current().integer(cast('int', value))}"
    shown, is_final = current().attribute(name, value)
    text = describe(shown)
    return _join(name, text if is_final else redact(text))


def _text_pair(name: str, value: str) -> str:
    shown, is_final = current().attribute(name, value)
    text = describe(shown)
    text = text if is_final else redact(text)
    pair = _join(name, text)
    if text == value and len(name) + len(value) <= _LONGEST_KEPT:
        _keep(_shown_pairs, (name, value), pair)
    return pair


def _join(name: str, text: str) -> str:
    short = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
    return f"{_shown(name)}={escape_controls(short)}"


def _keep(kept: dict[_Key, str], key: _Key, shown: str) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = shown


def _traceback(record: Record) -> str:
    exception = record["exception"]
    if exception is None or exception.value is None:
        return ""
    return _indented(redact(stack_trace_of(exception.value)).splitlines())


def _indented(lines: Iterable[str]) -> str:
    """Return lines that cannot be taken for records, whatever they contain."""
    return "".join(f"  {escape_controls(line, _TAB)}\n" for line in lines)


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text
