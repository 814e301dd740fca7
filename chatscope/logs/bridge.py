"""Log records of any library as OTLP log records, in the caller's thread and context."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import Logger, LoggerProvider, SeverityNumber
from opentelemetry.context import Context, get_current

from chatscope import names
from chatscope.exception_texts import attributes_of
from chatscope.otlp.values import plain, text
from chatscope.settings import LEVELS

# The level number of loguru and of the standard library, from above, to that of OTLP.
_SEVERITIES: Final = (
    (50, SeverityNumber.FATAL, "FATAL"),
    (40, SeverityNumber.ERROR, "ERROR"),
    (30, SeverityNumber.WARN, "WARN"),
    (25, SeverityNumber.INFO2, "INFO2"),
    (20, SeverityNumber.INFO, "INFO"),
    (10, SeverityNumber.DEBUG, "DEBUG"),
)
_BY_LEVEL: Final = {least: (number, level) for least, number, level in _SEVERITIES}
_LOWEST: Final = (SeverityNumber.TRACE, "TRACE")
EVENTS_LOGGER: Final = "chatscope.genai"
# Records of the exporters themselves are not exported: each failed export would make another one.
_OWN_LOGGERS: Final = ("opentelemetry", "grpc")
# Where an exception keeps the context of the request that it ended.
_CONTEXT: Final = "__chatscope_context__"
# A record that the standard library and loguru hand to each other arrives twice within this time.
_TWICE_SECONDS: Final = 0.05
_MAX_PLACES: Final = 4096
_NOWHERE: Final[Mapping[str, Any]] = {}
_places: dict[tuple[str, str, str, int], Mapping[str, Any]] = {}


def severity(level_number: int) -> tuple[SeverityNumber, str]:
    """Return OTLP's severity of a level number; a custom level has that of the nearest below."""
    for least, number, level in _SEVERITIES:
        if level_number >= least:
            return number, level
    return _LOWEST


def is_own(name: str) -> bool:
    """Whether a logger is one of the exporters'."""
    return name.partition(".")[0] in _OWN_LOGGERS


# Attributes of all records that are made in this context.
_added: ContextVar[Mapping[str, Any] | None] = ContextVar("chatscope_added", default=None)


@contextmanager
def adding(attributes: Mapping[str, Any]) -> Iterator[None]:
    """Add `attributes` to all records that are made inside."""
    token = _added.set({**(_added.get() or {}), **attributes})
    try:
        yield
    finally:
        _reset(_added, token)


# Of the request that failed in this task: its error response is sent outside of its span.
_failed: ContextVar[Context | None] = ContextVar("chatscope_failed", default=None)


def remember_context(error: BaseException) -> None:
    """Keep the current context for records that the server logs about an exception later."""
    _failed.set(get_current())
    try:
        if getattr(error, _CONTEXT, None) is None:
            setattr(error, _CONTEXT, get_current())
    except Exception:  # its class has slots, or refuses
        return


def forget_context() -> None:
    """Begin a request without the context of an earlier one in the same task."""
    if _failed.get() is not None:
        _failed.set(None)


class _LastRecord(threading.local):
    """The record that this thread emitted last: source, level, body, and time in s."""

    record: tuple[str, int, str, float] = ("", 0, "", 0.0)


_last: Final = _LastRecord()


class Bridge:
    """Emits log records to one provider."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._provider = provider
        self._loggers: dict[str, Logger] = {}

    def emit(  # noqa: PLR0913 - the fields of a record
        self,
        name: str,
        *,
        level: int,
        body: str,
        attributes: Mapping[str, Any],
        timestamp: int,
        error: BaseException | None = None,
        context: Context | None = None,
        place: Mapping[str, Any] = _NOWHERE,
        event_name: str | None = None,
    ) -> None:
        """Emit one record of the logger `name`, with `timestamp` in ns; not the exporters' own.

        `place` are the `code.*` attributes, as `place_of` returns them.
        """
        logger = self._loggers.get(name) or self._logger(name)
        if logger is None:
            return
        number, level_text = _BY_LEVEL.get(level) or severity(level)
        shown = place
        if attributes:
            given = {key: value for key, value in attributes.items() if value is not None}
            shown = {**place, **given}
        if added := _added.get():
            shown = {**added, **shown}
        if error is not None:
            shown = {**attributes_of(error), **shown}
        if context is None and (error is not None or _failed.get() is not None):
            context = _context(error)
        logger.emit(
            timestamp=timestamp,
            context=context,
            severity_number=number,
            severity_text=level_text,
            body=text(body),
            attributes=shown,
            event_name=event_name,
        )

    def emit_event(
        self, name: str, level: str, attributes: Mapping[str, Any], context: Context
    ) -> None:
        """Emit one event of the package, which no handler and no console sees."""
        self.emit(
            EVENTS_LOGGER,
            level=LEVELS[level],
            body=name,
            attributes=attributes,
            timestamp=time.time_ns(),
            context=context,
            event_name=name,
        )

    def _logger(self, name: str) -> Logger | None:
        """Return the logger of a name; None for those of the exporters."""
        if is_own(name):
            return None
        logger = self._loggers[name] = self._provider.get_logger(name)
        return logger


def place_of(name: str, path: str, function: str, line: int) -> Mapping[str, Any]:
    """Return the `code.*` attributes of a place in the code, kept for its further records."""
    key = (name, path, function, line)
    # A patched record may have any objects here.
    if not (type(line) is int and type(name) is type(path) is type(function) is str):
        return _place(*key)
    found = _places.get(key)
    if found is None:
        if len(_places) >= _MAX_PLACES:
            _places.clear()
        found = _places[key] = plain(_place(*key))
    return found


def _place(name: str, path: str, function: str, line: int) -> dict[str, str | int]:
    return {
        names.CODE_FILE_PATH: path,
        names.CODE_FUNCTION_NAME: f"{name}.{function}" if name else function,
        names.CODE_LINE_NUMBER: line,
    }


def is_repeated(source: str, level: int, body: str) -> bool:
    """Whether this thread just emitted the same record from another source, and remember this one.

    Many applications hand records of the standard library on to loguru, or the other way round.
    """
    now = time.monotonic()
    last_source, last_level, last_body, last_time = _last.record
    repeated = (
        last_source not in ("", source)
        and last_level == level
        and now - last_time < _TWICE_SECONDS
        and last_body == body
    )
    _last.record = ("" if repeated else source, level, body, now)
    return repeated


def _context(error: BaseException | None) -> Context:
    current = get_current()
    if trace.get_current_span(current).get_span_context().is_valid:
        return current
    kept = getattr(error, _CONTEXT, None)
    return kept if isinstance(kept, Context) else _failed.get() or current


_bridge: ContextVar[Bridge | None] = ContextVar("chatscope_bridge", default=None)
_active: Final[list[Bridge]] = []


def activate(bridge: Bridge) -> None:
    """Let records made outside of any application's request go to `bridge`."""
    _active.append(bridge)


def deactivate(bridge: Bridge) -> None:
    """Undo `activate`."""
    if bridge in _active:
        _active.remove(bridge)


def selected() -> Bridge | None:
    """Return where a record made here goes: each application's records go to its own bridge."""
    chosen = _bridge.get()
    if chosen is not None and chosen in _active:
        return chosen
    return _active[-1] if _active else None


def enter(bridge: Bridge | None) -> Token[Bridge | None]:
    """Send the records made from now on, in this context, to `bridge`."""
    return _bridge.set(bridge)


def leave(token: Token[Bridge | None]) -> None:
    """End that; in another context, where the garbage collector ends a task, do nothing."""
    _reset(_bridge, token)


def _reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    try:
        variable.reset(token)
    except ValueError:
        return  # the garbage collector ends an abandoned task, in another context
