"""Describe exceptions: their type, message and stack trace, as the OpenTelemetry SDK does.

Of the exceptions that caused one, only the types are named: they are often those of libraries,
whose texts repeat what they were given, such as a prompt, a key or the parameters of a query.

The text of an exception is the result of its `__str__`, which may be application code and may
block. In that case, and if arguments are objects that must be converted to text, the text is
computed in a separate thread with a timeout. After the timeout, the type and the arguments are
described without calling any of their methods (`values.py`).
"""

import contextvars
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import WrapperDescriptorType
from typing import Final

from opentelemetry.trace import Span

from chatscope import names
from chatscope.otlp.values import describe, file_names, static_attribute, text
from chatscope.withholding import is_withheld, without_texts

# Innermost frames: formatting the thousand frames of an endless recursion takes longer than a
# request.
_MAX_FRAMES: Final = 100
_MAX_CHAIN: Final = 20
_MAX_SECONDS: Final = 0.5
# Threads whose `__str__` has not returned. At this limit no further threads are started.
_MAX_STUCK: Final = 4
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})

_room: Final = threading.Semaphore(_MAX_STUCK)


def attributes_of(error: BaseException) -> dict[str, str]:
    """Return the `exception.*` attributes, without texts that are withheld."""
    if is_withheld(error):
        error = without_texts(error)
    return {
        names.EXCEPTION_TYPE: type_name(error),
        names.EXCEPTION_MESSAGE: message_of(error),
        names.EXCEPTION_STACKTRACE: stack_trace_of(error),
    }


def record(span: Span, error: BaseException) -> None:
    """Add the event of an exception to a span."""
    if span.is_recording():
        span.add_event("exception", {**attributes_of(error), names.EXCEPTION_ESCAPED: "False"})


def type_name(error: BaseException) -> str:
    """Return the class of an exception with its module, as the conventions name it."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """Return `str(error)`, its error, or a description if it takes too long."""
    return _made(error, _message) or describe(error)


def stack_trace_of(error: BaseException) -> str:
    """Return the traceback as Python prints it, with the innermost frames, and types of causes."""
    return _made(error, _stack_trace) or text(_frames(error) + f"{describe(error)}\n")


def _message(error: BaseException) -> str:
    try:
        return text(str(error))
    except BaseException as problem:
        return f"<{describe(type(error).__qualname__)} without a text: {type(problem).__name__}>"


def _stack_trace(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error, limit=-_MAX_FRAMES, chain=False)
        lines += [f"Caused by: {type_name(cause)}\n" for cause in _causes(error)]
        return text("".join(lines))
    except Exception as problem:
        # CPython 3.11 may fail to parse the source of a deep recursion.
        return f"<no stack trace: {type(problem).__name__}>"


def _causes(error: BaseException) -> list[BaseException]:
    """Return what Python would print before the exception, the direct cause first."""
    causes: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(causes) < _MAX_CHAIN:
        shown = None if link.__suppress_context__ else link.__context__
        link = link.__cause__ or shown
        if link is not None:
            causes.append(link)
    return causes


def _frames(error: BaseException) -> str:
    with suppress(Exception):
        return "".join(traceback.format_tb(error.__traceback__, -_MAX_FRAMES))
    return ""


def _made(error: BaseException, make: Callable[[BaseException], str]) -> str | None:
    """Return `make(error)`, which may call application code; None if it takes too long."""
    if _is_plain(error):
        return make(error)
    if not _room.acquire(blocking=False):
        return None
    made: list[str] = []

    def run() -> None:
        try:
            made.append(make(error))
        finally:
            _room.release()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="exception text", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started
        _room.release()
        return None
    thread.join(_MAX_SECONDS)
    return made[0] if made else None


def _is_plain(error: BaseException) -> bool:
    """Return whether the texts of an exception and its chain need no application code."""
    pending, seen = [error], 0
    while pending:
        each = pending.pop()
        seen += 1
        if seen > _MAX_CHAIN or not _is_plain_link(each):
            return False
        pending += [other for other in (each.__cause__, each.__context__) if other is not None]
    return True


def _is_plain_link(error: BaseException) -> bool:
    kind = type(error)
    arguments = BaseException.args.__get__(error)  # type: ignore[attr-defined]
    if issubclass(kind, OSError):
        arguments += file_names(error)
    return (
        type(static_attribute(kind, "__str__")) is WrapperDescriptorType
        # Groups contain exceptions; for suggestions, Python inspects the object of an
        # AttributeError.
        and not issubclass(kind, BaseExceptionGroup | AttributeError)
        and "__notes__" not in object.__getattribute__(error, "__dict__")
        and all(type(argument) in _PLAIN for argument in arguments)
    )
