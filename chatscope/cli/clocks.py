"""Whether the clock of this machine is that of the components that it asks."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final

import requests

from chatscope.cli.findings import Finding, State

# Smaller differences cost nothing: boards and alerts look at minutes.
_TOLERANCE_SECONDS: Final = 5.0
_FIX: Final = (
    "set both by NTP (timedatectl set-ntp true): Loki refuses records from the future, and queries "
    "over the last minutes miss others"
)


class Clocks:
    """By how much the clocks of components are ahead of this machine's, in seconds."""

    def __init__(self) -> None:
        self._ahead: dict[str, float] = {}

    def note(self, name: str, asked: float, response: requests.Response) -> None:
        """Note the header `date` of a response to a request that was made at `asked`.

        The header has whole seconds, and was written at any time until now.
        """
        try:
            there = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return
        now = time.time()
        self._ahead[name] = max(0.0, there - now) + min(0.0, there + 1 - asked)

    def findings(self) -> Iterator[Finding]:
        """Yield a fault for each component whose clock differs."""
        wrong = {name: by for name, by in self._ahead.items() if abs(by) > _TOLERANCE_SECONDS}
        for name, by in wrong.items():
            direction = "behind" if by > 0 else "ahead of"
            text = f"this machine's is {abs(by):.0f} s {direction} {name}'s"
            yield Finding("clock", State.FAULT, text, _FIX)
        if self._ahead and not wrong:
            yield Finding("clock", State.OK, "the same as those of the components")
