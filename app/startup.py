"""A process from its first log line: whatever ends it, what it logged is printed."""

from collections.abc import Callable
from typing import Final

from loguru import logger

from chatscope.logs.loguru_handler import capture_early, print_early

_FAILED: Final = 1


def run_reported(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, or 1 after logging its exception.

    Log lines are held back until telemetry can send them as well; where it never comes to that,
    they are printed at the end.
    """
    capture_early()
    try:
        return run()
    except Exception:
        logger.exception("the service failed")
        return _FAILED
    finally:
        print_early()
