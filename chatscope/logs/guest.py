"""Export the log records of an application that keeps its own handlers.

A handler is added beside those of the application, wherever it has some, and a sink to loguru where
it is installed. No level, handler or sink of the application is changed: a logger without handlers
gets none, so that `basicConfig` and the handler of last resort work as before. What the application
removes, as `logger.remove()` and `dictConfig` do, is added again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from chatscope import names
from chatscope.guard import guarded, warnings
from chatscope.logs import loguru_records
from chatscope.logs.bridge import (
    Bridge,
    activate,
    deactivate,
    is_own,
    is_repeated,
    is_selected,
)
from chatscope.logs.handling import handling, is_handling
from chatscope.logs.stdlib_records import access_arguments, content, path_of

if TYPE_CHECKING:
    from loguru import Record

LEVELS: Final = {
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "SUCCESS": 25,
    "WARNING": 30,
    "ERROR": 40,
    "CRITICAL": 50,
}


class LogExport:
    """The handlers of one telemetry."""

    def __init__(self, bridge: Bridge, level: str, quiet_paths: Collection[str] = ()) -> None:
        self._bridge = bridge
        self._level = LEVELS[level]
        self._handler = _Handler(self._bridge, self._level, quiet_paths)
        self._standard = _Attachment(self._handler)
        self._sink: _LoguruSink | None = None
        self._ended = False
        self._attaching = threading.Lock()
        activate(self._bridge)
        self.attach()

    @property
    def after_each(self) -> Callable[[], object] | None:
        """Called after each record; set while the process is about to end."""
        return self._handler.after_each

    @after_each.setter
    def after_each(self, call: Callable[[], object] | None) -> None:
        self._handler.after_each = call

    def attach(self) -> None:
        """Add the sink to loguru unless it is there; a second call does nothing."""
        if self._ended:
            return
        with self._attaching:
            if self._sink is not None and self._sink.removed:
                warnings.warn(
                    "loguru sink removed",
                    "logger.remove() removed the export of log records; it is added again, and"
                    " records made in between are not exported (call configure() after it)",
                )
                self._sink = None
            if self._sink is None and find_spec("loguru"):
                self._sink = _LoguruSink(self._bridge, self._level, self.attach)

    def detach(self) -> None:
        """Remove the handlers."""
        self._ended = True
        deactivate(self._bridge)
        self._standard.end()
        if self._sink is not None:
            self._sink.remove()


class _Attachment:
    """Keeps a handler beside those that the application has, at the time of each record."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._ended = False
        self._make_record = logging.getLogRecordFactory()
        self._factory = self._make_attached_record
        logging.setLogRecordFactory(self._factory)
        self._last_resort = _LastResort(handler, logging.lastResort)
        logging.lastResort = self._last_resort  # type: ignore[assignment]

    def end(self) -> None:
        """Remove the handler everywhere."""
        self._ended = True
        if logging.getLogRecordFactory() is self._factory:
            logging.setLogRecordFactory(self._make_record)
        if logging.lastResort is self._last_resort:
            logging.lastResort = self._last_resort.original
        for logger in (logging.root, *logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.removeHandler(self._handler)

    def _make_attached_record(self, name: str, *arguments: Any, **options: Any) -> Any:
        if not self._ended:
            with guarded("attaching a log handler"):
                self._attach(name)
        return self._make_record(name, *arguments, **options)

    def _attach(self, name: str) -> None:
        """Add the handler to the topmost logger above `name` that has handlers."""
        found = logging.root if name == "root" else logging.root.manager.loggerDict.get(name)
        logger = found if isinstance(found, logging.Logger) else None
        topmost = None
        while logger is not None:
            if logger.handlers == [self._handler]:
                # The application removed its own.
                logger.removeHandler(self._handler)
            elif self._handler in logger.handlers:
                return
            elif logger.handlers:
                topmost = logger
            logger = logger.parent if logger.propagate else None
        if topmost is not None:
            topmost.addHandler(self._handler)


class _LastResort(logging.Handler):
    """Exports the records of loggers without handlers, then prints them as before."""

    def __init__(self, handler: logging.Handler, original: Any) -> None:
        super().__init__()
        self._handler = handler
        self.original = original

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle one record."""
        for handler in (self._handler, self.original):
            if handler is not None and record.levelno >= handler.level:
                handler.handle(record)
        return True


class _Handler(logging.Handler):
    """Exports records of the standard library."""

    def __init__(self, bridge: Bridge, level: int, quiet_paths: Collection[str]) -> None:
        super().__init__(level)
        self._bridge = bridge
        self._quiet_paths = frozenset(quiet_paths)
        self._seen = threading.local()
        self.after_each: Callable[[], object] | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle one record without a lock: the queue has its own."""
        if self.filter(record):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Export one record; never raises."""
        if is_handling() or is_own(record.name) or not is_selected(self._bridge):
            return
        with handling(), guarded("exporting a log record"):
            if not self._is_seen(record) and not self._is_quiet(record):
                self._export(record)
        if self.after_each is not None:
            with handling(), guarded("exporting the last log records"):
                self.after_each()

    def _export(self, record: logging.LogRecord) -> None:
        body, extra = content(record)
        if is_repeated("logging", record.levelno, body):
            return
        self._bridge.emit(
            record.name,
            level=record.levelno,
            body=body,
            attributes={
                names.CODE_FILE_PATH: record.pathname,
                names.CODE_FUNCTION_NAME: f"{record.name}.{record.funcName}",
                names.CODE_LINE_NUMBER: record.lineno,
                **extra,
            },
            timestamp=int(record.created * 1e6) * 1000,
            error=record.exc_info[1] if record.exc_info else None,
        )

    def _is_seen(self, record: logging.LogRecord) -> bool:
        """Whether the record came through another logger before, on its way to the root logger."""
        this = (id(record), record.created)
        if getattr(self._seen, "record", None) == this:
            return True
        self._seen.record = this
        return False

    def _is_quiet(self, record: logging.LogRecord) -> bool:
        arguments = access_arguments(record)
        return arguments is not None and path_of(arguments[2]) in self._quiet_paths


class _LoguruSink:
    """Exports loguru's records, as the filter of a handler that prints nothing.

    loguru formats a record, and with it the exception, before it calls a sink; it calls a filter
    before that, and without a lock.
    """

    def __init__(self, bridge: Bridge, level: int, attach: Callable[[], None]) -> None:
        from loguru import logger  # noqa: PLC0415

        self.removed = False
        self._attach: Callable[[], None] | None = attach
        self._bridge = bridge
        self._handler = logger.add(self, level=level, filter=self._export, format=lambda _: "")

    def write(self, _: str) -> None:
        """Print nothing; loguru asks for this method."""

    def stop(self) -> None:
        """Add the sink again: loguru calls this when the application removes the handler.

        On another thread, because loguru holds its lock here.
        """
        self.removed = True
        if self._attach is not None:
            with suppress(RuntimeError):  # the interpreter is ending
                threading.Thread(target=self._attach, name="Attach to loguru", daemon=True).start()

    def remove(self) -> None:
        """Remove the handler for good."""
        from loguru import logger  # noqa: PLC0415

        self._attach = None
        if not self.removed:
            with suppress(ValueError):
                logger.remove(self._handler)

    def _export(self, record: Record) -> bool:
        if not is_handling() and is_selected(self._bridge):
            with handling(), guarded("exporting a log record"):
                if not is_repeated("loguru", record["level"].no, record["message"]):
                    loguru_records.emit(self._bridge, record)
        return False
