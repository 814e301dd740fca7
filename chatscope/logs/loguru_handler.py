"""loguru as OTLP log records: one way for loguru, the standard library and uvicorn.

    logging, warnings, uvicorn -> loguru -+-> console, for a person
                                          +-> OTLP, for the Collector

Before the exporter stands, records wait in a bounded buffer; then they take both ways, in
their order and with their own time. A failed start prints them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from loguru import logger
from opentelemetry._logs import Logger, LoggerProvider, SeverityNumber
from opentelemetry.context import Context, get_current

from chatscope import names, sdk_values
from chatscope.exception_texts import attributes_of
from chatscope.guard import guarded
from chatscope.logs import console
from chatscope.logs.standard import handling, intercept_stdlib, is_handling, set_stdlib_level
from chatscope.otlp.values import text

if TYPE_CHECKING:
    from loguru import Record

# loguru's level number, from above, to the number and the text of OTLP.
_SEVERITIES: Final = (
    (50, SeverityNumber.FATAL, "FATAL"),
    (40, SeverityNumber.ERROR, "ERROR"),
    (30, SeverityNumber.WARN, "WARN"),
    (25, SeverityNumber.INFO2, "INFO2"),
    (20, SeverityNumber.INFO, "INFO"),
    (10, SeverityNumber.DEBUG, "DEBUG"),
)
_LOWEST: Final = (SeverityNumber.TRACE, "TRACE")
# What the exporters themselves log goes to the console only: each failed export would else
# make a record that must be exported.
_OWN_LOGGERS: Final = ("opentelemetry", "grpc")
_EARLY_RECORDS: Final = 1000


class _Early:
    """Records made before anyone knew where to send them."""

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
        """Hand the records on, to the console and to `emit`, and capture no more."""
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


def capture_early() -> None:
    """Buffer all records from now on; the first line of a program's main module."""
    console.reserve_descriptors()
    _early.capture()


def print_early() -> None:
    """Print what was buffered: the start failed, and nobody will send it."""
    _early.release(0, None)


def start_logging(provider: LoggerProvider, level: str) -> Callable[[], None]:
    """Send all records of `level` and above to the console and to `provider`.

    Returns how to stop the latter; the console goes on. Raises ValueError for a level that
    loguru does not know.
    """
    bridge = Bridge(provider)
    # It converts the values of records in this thread, before they change or are queued.
    sdk_values.install()
    least = logger.level(level).no
    set_stdlib_level(least)
    _early.release(least, bridge.emit)
    handler = _add(lambda record: bridge.emit(record, get_current()), least)
    return lambda: logger.remove(handler)


class Bridge:
    """Turns a loguru record into an OTLP log record, in the caller's thread and context."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._provider = provider
        self._loggers: dict[str, Logger] = {}

    def emit(self, record: Record, context: Context) -> None:
        """Emit one record, but for the exporters' own."""
        name = record["name"] or ""
        if name.partition(".")[0] in _OWN_LOGGERS:
            return
        number, level = severity(record["level"].no)
        error = record["exception"].value if record["exception"] else None
        extra = {key: value for key, value in record["extra"].items() if value is not None}
        attributes = {**_code(record), **extra}
        if error is not None:
            attributes = {**attributes_of(error), **attributes}
        self._logger(name).emit(
            timestamp=int(record["time"].timestamp() * 1e6) * 1000,
            context=context,
            severity_number=number,
            severity_text=level,
            body=text(record["message"]),
            attributes=attributes,
        )

    def _logger(self, name: str) -> Logger:
        found = self._loggers.get(name)
        if found is None:
            found = self._loggers[name] = self._provider.get_logger(name)
        return found


def severity(level_number: int) -> tuple[SeverityNumber, str]:
    """OTLP's severity for a loguru level number; a custom level takes the nearest below."""
    for least, number, level in _SEVERITIES:
        if level_number >= least:
            return number, level
    return _LOWEST


def _add(sink: Callable[[Record], None], level: int) -> int:
    """Call `sink` with each record of `level` and above.

    As the filter of a handler, because loguru would format the exception first, by calling its
    `__str__`, and would hold a lock meanwhile, and print a traceback where a sink logs.
    """

    def handle(record: Record) -> bool:
        if not is_handling():
            with handling(), guarded("handling a log record"):
                sink(record)
        elif sink is console.write:
            console.write_line(record["level"].name, record["message"], record["name"] or "")
        return False

    return logger.add(lambda _: None, level=level, filter=handle, format=lambda _: "")


def _code(record: Record) -> dict[str, str | int]:
    return {
        names.CODE_FILE_PATH: record["file"].path,
        names.CODE_FUNCTION_NAME: f"{record['name']}.{record['function']}",
        names.CODE_LINE_NUMBER: record["line"],
    }
