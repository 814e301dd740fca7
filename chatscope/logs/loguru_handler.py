"""Take over loguru, the standard library's logging and warnings: for a service's own process.

    logging, warnings, uvicorn -> loguru -+-> console
                                          +-> OTLP

Records made before the exporter exists are held in a bounded buffer, then handed to both in their
order, with their own time. If the start fails, they are printed. Other applications keep their
handlers: see `guest.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from loguru import logger
from opentelemetry.context import Context, get_current

from chatscope import sdk_values
from chatscope.guard import report
from chatscope.logs import console, loguru_records
from chatscope.logs.bridge import Bridge, activate, deactivate, selected
from chatscope.logs.handling import this_thread
from chatscope.logs.standard import intercept_stdlib, set_stdlib_level

if TYPE_CHECKING:
    from loguru import Record

_EARLY_RECORDS: Final = 1000


class _Early:
    """Records made before their destination is known."""

    def __init__(self) -> None:
        self._records: deque[tuple[Record, Context]] = deque(maxlen=_EARLY_RECORDS)
        self._handler: int | None = None
        self._console: int | None = None

    def capture(self) -> None:
        """Take over loguru and the standard library's logging; a second call does nothing."""
        if self._handler is not None or self._console is not None:
            return
        logger.remove()
        intercept_stdlib()
        self._handler = _add(lambda record: self._records.append((record, get_current())), 0)

    def release(self, level: int, emit: Callable[[Record, Context], None] | None) -> None:
        """Write the records to the console and to `emit`, and stop capturing."""
        self.capture()
        if self._handler is not None:
            logger.remove(self._handler)
            self._handler = None
        while self._records:
            record, context = self._records.popleft()
            if record["level"].no >= level:
                console.write(record)
                if emit:
                    emit(record, context)
        if self._console is None:
            self._console = _add(console.write, level)


_early = _Early()


def buffer_logs() -> None:
    """Buffer all records from now on; call it before anything else."""
    console.reserve_descriptors()
    _early.capture()


def print_buffered_logs() -> None:
    """Print what was buffered, after a start that failed."""
    _early.release(0, None)


def start_export(bridge: Bridge, level: str) -> Callable[[], None]:
    """Send all records of `level` and above to the console and to `bridge`.

    Returns a function that stops the latter; the console continues. Raises ValueError for a level
    that loguru does not know.
    """
    # Values of records are converted in this thread, before they change or are queued.
    sdk_values.install()
    least = logger.level(level).no
    set_stdlib_level(least)
    _early.release(least, lambda record, context: loguru_records.emit(bridge, record, context))
    activate(bridge)
    handler = _add(lambda record: _emit(bridge, record), least)

    def stop() -> None:
        deactivate(bridge)
        with suppress(ValueError):  # the application removed it
            logger.remove(handler)

    return stop


def _emit(bridge: Bridge, record: Record) -> None:
    if selected() is bridge:
        loguru_records.emit(bridge, record)


def _add(sink: Callable[[Record], None], level: int) -> int:
    """Call `sink` with each record of `level` and above.

    As the filter of a handler, because loguru would format the exception first, by calling its
    `__str__`, and would hold a lock meanwhile, and print a traceback where a sink logs.
    """

    def handle(record: Record) -> bool:
        # Without context managers: this runs twice for each record.
        if not this_thread.active:
            this_thread.active = True
            try:
                sink(record)
            except Exception as error:
                report("handling a log record", error)
            finally:
                this_thread.active = False
        elif sink is console.write:
            console.write_line(record["level"].name, record["message"], record["name"] or "")
        return False

    return logger.add(lambda _: None, level=level, filter=handle, format=lambda _: "")
