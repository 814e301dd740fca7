"""Containment of telemetry's own faults."""

from collections.abc import Iterator
from contextlib import contextmanager

from chatscope.otlp import Warnings

_warnings = Warnings()


@contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Turn any exception inside into a line on the console, once a minute: telemetry never fails a
    request."""
    try:
        yield
    except Exception as error:
        report(doing, error)


def report(doing: str, error: Exception) -> None:
    """Log an error of telemetry itself, once a minute for each `doing`."""
    _warnings.warn(doing, f"telemetry failed while {doing}", error)
