"""Containment of telemetry's own errors, and reports of invalid arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from chatscope.otlp import Warnings

_Value = TypeVar("_Value")
_warnings = Warnings()


@contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Log any exception inside, once a minute, and continue: telemetry never fails a request."""
    try:
        yield
    except Exception as error:
        report(doing, error)


def report(doing: str, error: Exception) -> None:
    """Log an error of telemetry itself, once a minute for each `doing`."""
    _warnings.warn(doing, f"telemetry failed while {doing}", error)


def accepted(name: str, value: object, kind: type[_Value]) -> _Value | None:
    """Return an argument of the right type; None for any other, which is logged once a minute."""
    if value is None:
        return None
    kinds = (int, float) if kind is float else kind
    if isinstance(value, kinds) and not isinstance(value, bool):
        return value  # type: ignore[return-value]
    refuse(name, f"{name} must be {kind.__name__} (got {type(value).__name__})")
    return None


def refuse(name: str, message: str) -> None:
    """Log that an argument is invalid, once a minute for each `name`."""
    _warnings.warn(name, message)
