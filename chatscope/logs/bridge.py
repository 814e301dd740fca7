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

from chatscope.exception_texts import attributes_of
from chatscope.otlp.values import text

# The level number of loguru and of the standard library, from above, to that of OTLP.
_SEVERITIES: Final = (
    (50, SeverityNumber.FATAL, "FATAL"),
    (40, SeverityNumber.ERROR, "ERROR"),
    (30, SeverityNumber.WARN, "WARN"),
    (25, SeverityNumber.INFO2, "INFO2"),
    (20, SeverityNumber.INFO, "INFO"),
    (10, SeverityNumber.DEBUG, "DEBUG"),
)
_LOWEST: Final = (SeverityNumber.TRACE, "TRACE")
# Records of the exporters themselves are not exported: each failed export would make another one.
_OWN_LOGGERS: Final = ("opentelemetry", "grpc")
# Where an exception keeps the context of the request that it ended.
_CONTEXT: Final = "__chatscope_context__"
# A record that the standard library and loguru hand to each other arrives twice within this time.
_TWICE_SECONDS: Final = 0.05


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
    """Keep the current context for the records that the server makes of an exception later."""
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
    """The record that this thread emitted last."""

    source = ""
    level = 0
    body = ""
    time = 0.0


_last: Final = _LastRecord()


class Bridge:
    """Emits log records to one provider."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._provider = provider
        self._loggers: dict[str, Logger] = {}

    def emit(
        self,
        name: str,
        *,
        level: int,
        body: str,
        attributes: Mapping[str, Any],
        timestamp: int,
        error: BaseException | None = None,
        context: Context | None = None,
    ) -> None:
        """Emit one record of the logger `name`, with `timestamp` in ns; not the exporters' own."""
        if is_own(name):
            return
        number, level_text = severity(level)
        shown = {key: value for key, value in attributes.items() if value is not None}
        if added := _added.get():
            shown = {**added, **shown}
        if error is not None:
            shown = {**attributes_of(error), **shown}
        self._logger(name).emit(
            timestamp=timestamp,
            context=_context(error) if context is None else context,
            severity_number=number,
            severity_text=level_text,
            body=text(body),
            attributes=shown,
        )

    def _logger(self, name: str) -> Logger:
        found = self._loggers.get(name)
        if found is None:
            found = self._loggers[name] = self._provider.get_logger(name)
        return found


def is_repeated(source: str, level: int, body: str) -> bool:
    """Whether this thread just emitted the same record from another source, and remember this one.

    Many applications hand records of the standard library on to loguru, or the other way round.
    """
    now = time.monotonic()
    repeated = (
        _last.source not in ("", source)
        and _last.level == level
        and now - _last.time < _TWICE_SECONDS
        and _last.body == body
    )
    _last.source = "" if repeated else source
    _last.level, _last.body, _last.time = level, body, now
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
    """End that."""
    if bridge in _active:
        _active.remove(bridge)


def selected() -> Bridge | None:
    """Return where a record made here goes: each application's records go to its own bridge."""
    chosen = _bridge.get()
    if chosen is not None and chosen in _active:
        return chosen
    return _active[-1] if _active else None


@contextmanager
def using(bridge: Bridge | None) -> Iterator[None]:
    """Send the records made inside to `bridge`."""
    token = _bridge.set(bridge)
    try:
        yield
    finally:
        _reset(_bridge, token)


def _reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    try:
        variable.reset(token)
    except ValueError:
        return  # the garbage collector ends an abandoned task, in another context
