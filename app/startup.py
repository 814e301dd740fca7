"""Startup of a process, whose log lines are printed even if it fails."""

from collections.abc import Callable
from typing import Final

from loguru import logger

from chatscope.logs import buffer_logs, print_buffered_logs

_FAILED: Final = 1


def run_reported(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, or 1 after logging its exception.

    Log lines are buffered until telemetry is started, which also exports them; if that fails,
    they are printed on exit.
    """
    buffer_logs()
    try:
        return run()
    except Exception:
        logger.exception("the service failed")
        return _FAILED
    finally:
        print_buffered_logs()
