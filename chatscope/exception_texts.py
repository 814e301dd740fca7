"""Describe exceptions: their type, message and stack trace, as the OpenTelemetry SDK does.

The text of an exception is that of its `__str__`, which may be code of the application and may
block. Where it is, or where the arguments are objects whose text is needed, the text is made on a
thread of its own and waited for within a limit; after that, the type and the arguments are
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
from chatscope.redaction import is_withheld, without_texts

# The innermost ones: the thousand frames of an endless recursion take longer than a request.
_MAX_FRAMES: Final = 100
_MAX_CHAIN: Final = 20
_MAX_SECONDS: Final = 0.5
# Threads whose `__str__` has not returned: there are no more, and no further waiting.
_MAX_STUCK: Final = 4
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})

_room: Final = threading.Semaphore(_MAX_STUCK)


def attributes_of(error: BaseException) -> dict[str, str]:
    """Return the `exception.*` attributes, without the texts where they are withheld."""
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
    """Return `str(error)`, or how that failed, or a description when it takes too long."""
    return _made(error, _message) or describe(error)


def stack_trace_of(error: BaseException) -> str:
    """Return the traceback as Python prints it, with the innermost frames only."""
    return _made(error, _stack_trace) or text(_frames(error) + f"{describe(error)}\n")


def _message(error: BaseException) -> str:
    try:
        return text(str(error))
    except BaseException as problem:
        return f"<{describe(type(error).__qualname__)} without a text: {type(problem).__name__}>"


def _stack_trace(error: BaseException) -> str:
    try:
        return text("".join(traceback.format_exception(error, limit=-_MAX_FRAMES)))
    except Exception as problem:
        # CPython 3.11 may fail to parse the source of a deep recursion.
        return f"<no stack trace: {type(problem).__name__}>"


def _frames(error: BaseException) -> str:
    with suppress(Exception):
        return "".join(traceback.format_tb(error.__traceback__, -_MAX_FRAMES))
    return ""


def _made(error: BaseException, make: Callable[[BaseException], str]) -> str | None:
    """Return `make(error)`, which may call any code; None when it takes too long."""
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
    except RuntimeError:  # there are no more threads
        _room.release()
        return None
    thread.join(_MAX_SECONDS)
    return made[0] if made else None


def _is_plain(error: BaseException) -> bool:
    """Whether the texts of an exception and its chain are made by the interpreter alone."""
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
        # Groups contain others; for suggestions, Python looks at the object of an AttributeError.
        and not issubclass(kind, BaseExceptionGroup | AttributeError)
        and "__notes__" not in object.__getattribute__(error, "__dict__")
        and all(type(argument) in _PLAIN for argument in arguments)
    )
