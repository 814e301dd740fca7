"""Decides when a batch counts as undeliverable: refused many times while others are accepted.

A receiver may refuse one batch for ever with a status that means "later": its limit is smaller
than the batch, or something behind it fails on the content. In an outage nothing is accepted, so
a refusal counts only when another batch was accepted since the one before.
"""

import random
import time
from collections.abc import Iterator
from typing import Final

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
# Half a minute with the pauses between them. Later data does not wait for it.
_MOST_REFUSALS: Final = 10
# So many failures of a batch before another one is tried in its place: in an outage each of those
# may come twice, where the receiver processes what it does not answer.
TRIES_BEFORE_OTHERS: Final = 3


def pauses() -> Iterator[float]:
    """Yield seconds to wait before each retry: doubled each time, with jitter, so that processes
    do not retry at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.8, 1.2)  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE)


class Trial:
    """The refusals of one batch. `accepted` is always how many batches were accepted so far."""

    def __init__(self, accepted: int, error: str) -> None:
        self.error = error
        self.refusals = 0
        self._accepted = accepted
        self._pauses = pauses()
        self.due = time.monotonic() + next(self._pauses)

    def refuse(self, accepted: int, error: str) -> None:
        """Record one more refusal."""
        self.refusals += self.is_suspect(accepted)
        self._accepted = accepted
        self.error = error
        self.due = time.monotonic() + next(self._pauses)

    def is_suspect(self, accepted: int) -> bool:
        """Return whether another batch was accepted since the last refusal."""
        return accepted > self._accepted

    def is_undeliverable(self, accepted: int) -> bool:
        """Return whether to give up on the batch."""
        return self.refusals >= _MOST_REFUSALS and self.is_suspect(accepted)
