"""The standard library's logging, handed on to loguru as it is: level, place, exception, extras."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from chatscope import names
from chatscope.exception_texts import stack_trace_of
from chatscope.logs import console
from chatscope.otlp.values import describe

if TYPE_CHECKING:
    from loguru import Record

_LEVELS: Final = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
# The last is uvicorn's: the same message once more, painted.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
# uvicorn's access lines: (client, method, path with query, HTTP version, status).
_ACCESS_LOGGER: Final = "uvicorn.access"
_ACCESS_ARGUMENTS: Final = 5
# Its lines on a WebSocket's handshake: (client, path with query[, status]); else the status, or
# "[accepted]", is the last word.
_SERVER_LOGGER: Final = "uvicorn.error"
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
_HANDSHAKE: Final = '%s - "WebSocket %s" '

# The SDK's messages about itself may repeat with each record; ours are limited where they are made.
_SDK_LOGGER: Final = "opentelemetry."
_OWN_LOGGER: Final = "opentelemetry.chatscope"
_REPEAT_SECONDS: Final = 60.0
_MAX_REPEATED: Final = 100


class _Handling(threading.local):
    """Whether this thread is inside one of our loguru sinks."""

    active = False


_handling: Final = _Handling()


@contextmanager
def handling() -> Iterator[None]:
    """Mark the thread as handling a log record: records made meanwhile go to the console only.

    Such as those of the exporters' queues, which must not be queued again.
    """
    before, _handling.active = _handling.active, True
    try:
        yield
    finally:
        _handling.active = before


def is_handling() -> bool:
    """Whether this thread is handling a log record."""
    return _handling.active


class _Repeated:
    """Lets each message of the SDK through once a minute, with the number of those withheld."""

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
        """Hand one record on; never raises."""
        if record.levelno < _LEAST_LEVELS.get(record.name.partition(".")[0], logging.NOTSET):
            return
        if not self._repeated.admits(record):
            return
        if is_handling():
            error = record.exc_info[1] if record.exc_info else None
            trace = f"\n{stack_trace_of(error)}" if error else ""
            console.write_line(record.levelname, _message(record) + trace, record.name)
            return
        try:
            _hand_on(record)
        except Exception as error:
            text = f"{_message(record)} (not handled: {describe(error)})"
            console.write_line(record.levelname, text, record.name)


def _hand_on(record: logging.LogRecord) -> None:
    """With the place where it was made."""
    message, extra = _content(record)

    def place(target: Record) -> None:
        target["name"] = record.name
        target["function"] = record.funcName
        target["line"] = record.lineno
        # loguru's own class for it is private; its readers ask for these two names.
        target["file"] = SimpleNamespace(name=record.filename, path=record.pathname)  # type: ignore[typeddict-item]
        target["extra"].update(extra)

    level = _LEVELS.get(record.levelno, record.levelno)
    logger.opt(exception=record.exc_info).patch(place).log(level, message)


def intercept_stdlib() -> None:
    """Make loguru the only handler of the standard library's logging and of warnings."""
    logging.basicConfig(handlers=[ToLoguru()], level=logging.NOTSET, force=True)
    logging.captureWarnings(True)
    # uvicorn's server logs each WebSocket frame, text and all.
    for name, level in {**_LEAST_LEVELS, _SERVER_LOGGER: logging.INFO}.items():
        logging.getLogger(name).setLevel(level)


def set_stdlib_level(level: int) -> None:
    """Drop records below `level` before they cost anything."""
    logging.getLogger().setLevel(level)


def hide_access_lines(paths: Collection[str]) -> None:
    """Drop uvicorn's access lines of `paths`: a probe every few seconds tells nobody anything."""

    def shown(record: logging.LogRecord) -> bool:
        arguments = _access_arguments(record)
        return arguments is None or _path(arguments[2]) not in paths

    logging.getLogger(_ACCESS_LOGGER).addFilter(shown)


def _access_arguments(record: logging.LogRecord) -> tuple[Any, ...] | None:
    arguments = record.args
    if record.name == _ACCESS_LOGGER and isinstance(arguments, tuple):
        return arguments if len(arguments) == _ACCESS_ARGUMENTS else None
    return None


def _is_handshake(record: logging.LogRecord) -> bool:
    return record.name == _SERVER_LOGGER and str(record.msg).startswith(_HANDSHAKE)


def _path(target: object) -> str:
    return str(target).partition("?")[0]


def _content(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    if arguments := _access_arguments(record):
        return _access(arguments)
    if _is_handshake(record):
        return _handshake(record)
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return _message(record), extra


def _message(record: logging.LogRecord) -> str:
    """The formatted message, also where formatting it raises."""
    try:
        return record.getMessage()
    except Exception:
        return f"{describe(record.msg)} {describe(record.args)}"


def _access(arguments: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """An access line without its query, which may hold what nobody should read."""
    client, method, target, version, status = arguments
    path = _path(target)
    extra = {
        names.CLIENT_ADDRESS: _address(client),
        names.HTTP_REQUEST_METHOD: method,
        names.URL_PATH: path,
        names.NETWORK_PROTOCOL_VERSION: version,
        names.HTTP_RESPONSE_STATUS_CODE: status,
    }
    return f"{method} {path} {status}", extra


def _handshake(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The same of a WebSocket's handshake."""
    client, target, *_ = record.args if isinstance(record.args, tuple) else ("", "")
    path = _path(target)
    outcome = record.getMessage().rpartition(" ")[2].replace("[accepted]", "101")
    extra = {
        names.CLIENT_ADDRESS: _address(client),
        names.URL_PATH: path,
        names.HTTP_RESPONSE_STATUS_CODE: int(outcome) if outcome.isdecimal() else None,
    }
    return f"WebSocket {path} {outcome}", extra


def _address(client: object) -> str:
    return str(client).rpartition(":")[0]
