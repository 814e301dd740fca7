"""Containment of the package's own errors."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from chatscope.otlp import Warnings

warnings = Warnings()
_contained = False


class guarded:
    """Log an exception raised inside, at most once a minute, instead of raising it.

    Telemetry never fails a request. In a test of pytest the exception is raised, and the test
    fails; `containing_errors` prevents that.
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, Exception):
            report(self._doing, error)
            return True
        return False


def report(doing: str, error: Exception) -> None:
    """Log an error of telemetry, at most once a minute for each `doing`; raise it in tests."""
    if _in_a_test() and not _contained:
        raise error
    warnings.warn(doing, f"telemetry failed while {doing}", error)


@contextmanager
def containing_errors() -> Iterator[None]:
    """Contain errors in tests as well, until the end of the block."""
    global _contained  # noqa: PLW0603
    before, _contained = _contained, True
    try:
        yield
    finally:
        _contained = before


def _in_a_test() -> bool:
    """Whether pytest runs a test in this process; the variable alone is inherited by others."""
    return "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ
