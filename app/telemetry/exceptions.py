"""Describe exceptions: their type, message and stack trace, as the OpenTelemetry SDK does.

The text of a raised exception is that of its `__str__`, as in every traceback of Python, in the
thread that logs it. The methods of exceptions as mere attribute values are never called
(`values.py`).
"""

import traceback
from typing import Final

from . import names
from .values import describe, text

# The innermost ones: the thousand frames of an endless recursion take longer than a request.
_MAX_FRAMES: Final = 100


def attributes_of(error: BaseException) -> dict[str, str]:
    """The `exception.*` attributes."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return {
        names.EXCEPTION_TYPE: name,
        names.EXCEPTION_MESSAGE: message_of(error),
        names.EXCEPTION_STACKTRACE: stack_trace_of(error),
    }


def message_of(error: BaseException) -> str:
    """`str(error)`, or how that failed; like `traceback`, this contains any exception."""
    try:
        return text(str(error))
    except BaseException as problem:
        return f"<{describe(type(error).__qualname__)} without a text: {type(problem).__name__}>"


def stack_trace_of(error: BaseException) -> str:
    """The traceback as Python prints it, with the innermost frames only."""
    try:
        return text("".join(traceback.format_exception(error, limit=-_MAX_FRAMES)))
    except Exception as problem:
        # CPython 3.11 may fail to parse the source of a deep recursion.
        return f"<no stack trace: {type(problem).__name__}>"
