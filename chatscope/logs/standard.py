"""Log records of the standard library with loguru: level, place, exception and extras."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from chatscope.exception_texts import stack_trace_of
from chatscope.logs import console
from chatscope.logs.handling import is_handling
from chatscope.logs.stdlib_records import (
    ACCESS_LOGGER,
    SERVER_LOGGER,
    access_arguments,
    access_content,
    content,
    message,
    path_of,
)
from chatscope.otlp.values import describe

if TYPE_CHECKING:
    from loguru import Record

_LEVELS: Final = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
# Libraries with many lines about themselves; OPENAI_LOG and others may set their levels lower
# again. The HTTP client of `openai` logs each URL, which may hold credentials.
_LEAST_LEVELS: Final = {
    "asyncio": logging.INFO,
    "grpc": logging.INFO,
    "httpcore2": logging.WARNING,
    "httpx2": logging.WARNING,
    "openai": logging.INFO,
    "websockets": logging.WARNING,
}

# The SDK's messages about itself may repeat with each record; ours are limited where they are made.
_SDK_LOGGER: Final = "opentelemetry."
_OWN_LOGGER: Final = "opentelemetry.chatscope"
_REPEAT_SECONDS: Final = 60.0
_MAX_REPEATED: Final = 100


class _Repeated:
    """Passes each message of the SDK once a minute, with the number of those withheld."""

    def __init__(self) -> None:
        self._withheld: dict[tuple[str, str], int] = {}
        self._until: dict[tuple[str, str], float] = {}

    def admits(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_SDK_LOGGER) or record.name.startswith(_OWN_LOGGER):
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now < self._until.get(key, 0.0):
            self._withheld[key] = self._withheld.get(key, 0) + 1
            return False
        if len(self._until) >= _MAX_REPEATED:
            self._until.clear()
            self._withheld.clear()
        self._until[key] = now + _REPEAT_SECONDS
        if withheld := self._withheld.pop(key, 0):
            record.msg = f"{record.msg} ({withheld} more since the last report)"
        return True


class ToLoguru(logging.Handler):
    """A handler for the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self._repeated = _Repeated()

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record with loguru; never raises."""
        if record.levelno < _LEAST_LEVELS.get(record.name.partition(".")[0], logging.NOTSET):
            return
        if not self._repeated.admits(record):
            return
        if is_handling():
            error = record.exc_info[1] if record.exc_info else None
            trace = f"\n{stack_trace_of(error)}" if error else ""
            console.write_line(record.levelname, message(record) + trace, record.name)
            return
        try:
            _hand_on(record)
        except Exception as error:
            text = f"{message(record)} (not handled: {describe(error)})"
            console.write_line(record.levelname, text, record.name)


def _hand_on(record: logging.LogRecord) -> None:
    """Log a record with loguru, with the place where it was made."""
    body, extra = content(record)

    def place(target: Record) -> None:
        target["name"] = record.name
        target["function"] = record.funcName
        target["line"] = record.lineno
        # loguru's own class for it is private; its readers ask for these two names.
        target["file"] = SimpleNamespace(name=record.filename, path=record.pathname)  # type: ignore[typeddict-item]
        target["extra"].update(extra)

    level = _LEVELS.get(record.levelno, record.levelno)
    logger.opt(exception=record.exc_info).patch(place).log(level, body)


def intercept_stdlib() -> None:
    """Make loguru the only handler of the standard library's logging and of warnings."""
    logging.basicConfig(handlers=[ToLoguru()], level=logging.NOTSET, force=True)
    logging.captureWarnings(True)
    # uvicorn's server logs each WebSocket frame, text and all.
    for name, level in {**_LEAST_LEVELS, SERVER_LOGGER: logging.INFO}.items():
        logging.getLogger(name).setLevel(level)


def set_stdlib_level(level: int) -> None:
    """Drop records below `level` before they cost anything."""
    logging.getLogger().setLevel(level)


_hidden_paths: Final[set[str]] = set()


def hide_access_lines(paths: Collection[str]) -> None:
    """Drop uvicorn's access records of `paths`, which health checks request every few seconds."""

    def shown(record: logging.LogRecord) -> bool:
        arguments = access_arguments(record)
        return arguments is None or path_of(arguments[2]) not in paths

    logging.getLogger(ACCESS_LOGGER).addFilter(shown)
    _hidden_paths.update(paths)


def log_access(arguments: tuple[Any, ...], extra: Mapping[str, object]) -> None:
    """Log the arguments of uvicorn's access record as its logger would, at a third of the cost.

    For a server that logs with this function itself; `extra` are further attributes.
    """
    if path_of(arguments[2]) not in _hidden_paths:
        text, attributes = access_content(arguments)
        _access_log.bind(**extra, **attributes).log("INFO", text)


def _as_access(target: Record) -> None:
    target["name"] = ACCESS_LOGGER


# At the place in the server that called `ServerLog.info`, which calls `log` and `log_access`.
_access_log: Final = logger.opt(depth=3).patch(_as_access)
