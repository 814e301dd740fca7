"""Remove the texts of exceptions, which may repeat a prompt or a key; keep types and tracebacks."""

from typing import Final

WITHHELD: Final = "<text withheld>"
# The attribute of an exception whose texts are withheld from all records.
_WITHHELD: Final = "__chatscope_withheld__"
# Longer chains are truncated.
_LONGEST_CHAIN: Final = 20


def without_texts(error: BaseException) -> BaseException:
    """Copy an exception and its chain: the same types and tracebacks, no texts.

    The copy is for recording only. An exception that has an attribute `telemetry_text` keeps
    that as its text.
    """
    return _copy(error, {})


def withhold(error: BaseException) -> None:
    """Withhold the texts of an exception, and of those it causes, from all later records.

    An exception of a provider passes on through the application: to the span of the request, to
    log records.
    """
    object.__setattr__(error, _WITHHELD, True)


def is_withheld(error: BaseException) -> bool:
    """Return whether the texts of an exception or of its chain are withheld."""
    pending, seen = [error], 0
    while pending and seen < _LONGEST_CHAIN:
        each = pending.pop()
        seen += 1
        if _WITHHELD in object.__getattribute__(each, "__dict__"):
            return True
        pending += [other for other in (each.__cause__, each.__context__) if other is not None]
    return False


class _Copy(Exception):
    """Base class of the copies, whose classes are named as the original ones."""


def _copy(error: BaseException, seen: dict[int, BaseException]) -> BaseException:
    copy = seen.get(id(error))
    if copy is not None:
        return copy
    text = getattr(error, "telemetry_text", None)
    copy = _namesake(type(error))(text if isinstance(text, str) else WITHHELD)
    copy.__traceback__ = error.__traceback__
    seen[id(error)] = copy
    if len(seen) < _LONGEST_CHAIN:
        if error.__cause__ is not None:
            copy.__cause__ = _copy(error.__cause__, seen)
        elif error.__context__ is not None and not error.__suppress_context__:
            copy.__context__ = _copy(error.__context__, seen)
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def _namesake(kind: type[BaseException]) -> type[_Copy]:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (_Copy,), names)
