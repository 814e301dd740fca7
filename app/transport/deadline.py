"""The deadline of a shutdown, shared by everything that must end before it.

    signal | SHUTDOWN_GRACE_SECONDS | CLOSING_SECONDS  |                   |             | limit
           | responses may finish   | cut and close    | send telemetry    | end         |

docker-compose.yml and stack/process-compose.yaml send SIGKILL one second after the limit.
"""

import faulthandler
import math
import signal
import sys
import time
from contextlib import suppress
from typing import Final

# From the end of the grace period for responses to the end of the process.
AFTER_GRACE_SECONDS: Final = 5.0
# Before the deadline: telemetry has been sent; a process that hangs ends itself; the parent kills
# workers that have not ended. A busy machine needs half a second to end an interpreter.
TELEMETRY_ENDS_BEFORE: Final = 1.7
PROCESS_ENDS_BEFORE: Final = 0.9
PARENT_KILLS_BEFORE: Final = 0.6
# After the grace period: to close cut responses, connections and providers.
CLOSING_SECONDS: Final = 1.9
_SIGNAL_AFTER_SECONDS: Final = 0.1


class Deadline:
    """The time at which this process must have ended; it starts with the first `start`."""

    def __init__(self, grace_seconds: float) -> None:
        self.grace_seconds = grace_seconds
        self._ends = math.inf

    def start(self) -> None:
        """Start, unless it has started; safe in a signal handler."""
        if self._ends == math.inf:
            self._ends = time.monotonic() + self.grace_seconds + AFTER_GRACE_SECONDS

    def left(self, before: float = 0.0) -> float:
        """Return the seconds until `before` seconds before the deadline; 0 if that has passed."""
        return max(0.0, self._ends - before - time.monotonic())

    def enforce(self, before: float = PROCESS_ENDS_BEFORE) -> None:
        """End this process shortly before the deadline, even if its threads hang.

        The stacks of all threads are printed first. If nothing reads standard error, a signal
        follows. Neither waits for the interpreter's lock.
        """
        seconds = max(self.left(before), _SIGNAL_AFTER_SECONDS)
        with suppress(OSError, ValueError, RuntimeError, AttributeError):
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)
        signal.setitimer(signal.ITIMER_REAL, seconds + _SIGNAL_AFTER_SECONDS)
