"""Export the log records of an application that keeps its own handlers.

A handler is added beside those of the application, wherever it has some, and a sink to loguru where
it is installed. No level, handler or sink of the application is changed: a logger without handlers
gets none, so that `basicConfig` and the handler of last resort work as before. An export that the
application removes, as `logger.remove()` and `dictConfig` do, is added again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from chatscope.guard import guarded, report, warnings
from chatscope.logs import loguru_records
from chatscope.logs.bridge import (
    Bridge,
    activate,
    deactivate,
    is_own,
    is_repeated,
    place_of,
    selected,
)
from chatscope.logs.handling import this_thread
from chatscope.logs.stdlib_records import access_path, content
from chatscope.settings import LEVELS

if TYPE_CHECKING:
    from loguru import Record


class LogExport:
    """The export of log records to one bridge."""

    def __init__(self, bridge: Bridge, level: str, quiet_paths: Collection[str] = ()) -> None:
        self.bridge = bridge
        self.level = LEVELS[level]
        self.quiet_paths = frozenset(quiet_paths)
        # Called after each record; set while the process is about to end.
        self.after_each: Callable[[], object] | None = None
        activate(bridge)
        _handlers.add(self)

    def attach(self) -> None:
        """Add handlers that the application has removed; a second call does nothing."""
        _handlers.attach()

    def detach(self) -> None:
        """Export no more records."""
        deactivate(self.bridge)
        _handlers.remove(self)


class _Handlers:
    """The only handler and sink of this process, shared by all exports."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exports: dict[Bridge, LogExport] = {}
        self._standard: _Attachment | None = None
        self._sink: _LoguruSink | None = None

    def add(self, export: LogExport) -> None:
        """Send records to `export` as well."""
        self._exports = {**self._exports, export.bridge: export}
        self.attach()

    def remove(self, export: LogExport) -> None:
        """Send records to `export` no more; remove the handlers with the last one."""
        with self._lock:
            self._exports = {
                bridge: each for bridge, each in self._exports.items() if each is not export
            }
            if self._exports:
                return
            if self._standard is not None:
                self._standard.end()
            if self._sink is not None:
                self._sink.remove()
            self._standard = self._sink = None

    def exports(self) -> tuple[LogExport, ...]:
        """Return the exports that records are sent to."""
        return tuple(self._exports.values())

    def chosen(self, level: int) -> LogExport | None:
        """Return the export of a record of `level` that is made here.

        None while this thread handles another record.
        """
        if this_thread.active:
            return None
        bridge = selected()
        export = self._exports.get(bridge) if bridge is not None else None
        return export if export is not None and level >= export.level else None

    def attach(self) -> None:
        """Add what is missing."""
        with self._lock:
            if not self._exports:
                return
            if self._standard is None:
                self._standard = _Attachment(_Handler())
            level = min(each.level for each in self._exports.values())
            if self._sink is not None and self._sink.removed:
                warnings.warn(
                    "loguru sink removed",
                    "logger.remove() removed the export of log records; it is added again, and"
                    " records made in between are not exported (call configure() after it)",
                )
                self._sink = None
            elif self._sink is not None and self._sink.level > level:
                self._sink.remove()
                self._sink = None
            if self._sink is None and find_spec("loguru"):
                self._sink = _LoguruSink(level)


class _Attachment:
    """Keeps a handler beside those that the application has, at the time of each record."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._ended = False
        self._make_record = logging.getLogRecordFactory()
        self._factory = self._make_attached_record
        logging.setLogRecordFactory(self._factory)
        self._last_resort = _LastResort(handler, logging.lastResort)
        logging.lastResort = self._last_resort

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

    def __init__(self) -> None:
        super().__init__()
        self._seen = threading.local()

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle one record without a lock: the queue has its own."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Export one record; never raises."""
        export = _handlers.chosen(record.levelno)
        if export is None or is_own(record.name) or self._is_seen(record):
            return
        this_thread.active = True
        try:
            if access_path(record) not in export.quiet_paths:
                _export(record, export.bridge)
            if export.after_each is not None:
                export.after_each()
        except Exception as error:
            report("exporting a log record", error)
        finally:
            this_thread.active = False

    def _is_seen(self, record: logging.LogRecord) -> bool:
        """Whether the record came through another logger before, on its way to the root logger."""
        this = (id(record), record.created)
        if getattr(self._seen, "record", None) == this:
            return True
        self._seen.record = this
        return False


def _export(record: logging.LogRecord, bridge: Bridge) -> None:
    body, extra = content(record)
    if is_repeated("logging", record.levelno, body):
        return
    bridge.emit(
        record.name,
        level=record.levelno,
        body=body,
        attributes=extra,
        timestamp=int(record.created * 1e6) * 1000,
        error=record.exc_info[1] if record.exc_info else None,
        place=place_of(record.name, record.pathname, record.funcName or "", record.lineno),
    )


class _LoguruSink:
    """Exports loguru's records, as the filter of a handler that prints nothing.

    loguru formats a record, and with it the exception, before it calls a sink; it calls a filter
    before that, and without a lock.
    """

    def __init__(self, level: int) -> None:
        from loguru import logger  # noqa: PLC0415

        self.level = level
        self.removed = False
        self._ended = False
        self._handler = logger.add(self, level=level, filter=self._export, format=lambda _: "")

    def write(self, _: str) -> None:
        """Print nothing; loguru asks for this method."""

    def stop(self) -> None:
        """Add the sink again: loguru calls this when the application removes the handler.

        On another thread, because loguru holds its lock here.
        """
        self.removed = True
        if not self._ended:
            with suppress(RuntimeError):  # the interpreter is ending
                threading.Thread(
                    target=_handlers.attach, name="Attach to loguru", daemon=True
                ).start()

    def remove(self) -> None:
        """Remove the handler for good."""
        from loguru import logger  # noqa: PLC0415

        self._ended = True
        if not self.removed:
            with suppress(ValueError):
                logger.remove(self._handler)

    def _export(self, record: Record) -> bool:
        level = record["level"].no
        export = _handlers.chosen(level)
        if export is None:
            return False
        this_thread.active = True
        try:
            if not is_repeated("loguru", level, record["message"]):
                loguru_records.emit(export.bridge, record)
            if export.after_each is not None:
                export.after_each()
        except Exception as error:
            report("exporting a log record", error)
        finally:
            this_thread.active = False
        return False


_handlers: Final = _Handlers()


def active() -> tuple[LogExport, ...]:
    """Return the exports of this process that have not been detached."""
    return _handlers.exports()
