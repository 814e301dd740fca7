"""Exporters that wait for a Collector which is away, instead of dropping what they hold.

The SDK's exporter gives a batch up after its timeout, ten seconds by default. Here what the
Collector does not take goes to disk, and all that comes after it too, so that the order stays;
memory stays empty, and little is lost with a process that is killed. `Replay` sends it later.
Without a spool, or with a disk that fails, the batch waits here, the queue behind it fills, and
what the queue cannot hold is dropped, oldest first, and counted.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from .guard import guarded
from .ledger import NOT_ENCODABLE, REFUSED, SHUTDOWN, Ledger
from .sender import Outcome, Sender
from .spool import Spool

# A Collector in health answers within milliseconds. After this long the batch goes to disk while
# its call goes on: were it cut, a slow Collector would get each batch twice.
_PATIENCE_SECONDS: Final = 0.5
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try: doubled each time, and never quite the same, so
    that not all workers come at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.8, 1.2)  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE)


class PatientExporter:
    """Stands where the SDK expects an exporter of spans or of log records."""

    def __init__(self, sender: Sender, ledger: Ledger, spool: Spool | None = None) -> None:
        self._sender = sender
        self._ledger = ledger
        self._spool = spool
        self._hurry = threading.Event()
        self._stopped = False

    def export(self, batch: Sequence[Any]) -> None:
        """Return when the batch arrived, was refused for good, is on disk, or nobody can wait."""
        for body, items in self._sender.encode(batch):
            if body is None:
                self._ledger.count_dropped(items, NOT_ENCODABLE)
            else:
                self._deliver(body, items)

    def hurry(self) -> None:
        """Try each batch once more from now on: the process is about to end."""
        self._hurry.set()

    def shutdown(self, timeout_millis: float = 0) -> None:
        """Stop, in the middle of a try if need be; a second call does nothing."""
        self._hurry.set()
        if not self._stopped:
            self._stopped = True
            self._sender.shutdown()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing waits here."""
        return True

    def _deliver(self, body: bytes, items: int) -> None:
        for pause in pauses():
            behind = self._spool is not None and not self._spool.is_empty()
            if not behind and self._send(body, items):
                return
            if self._spool is not None and self._spool.append(body, items) is not None:
                return
            if self._hurry.wait(pause):
                self._ledger.count_exported(items, SHUTDOWN)
                return

    def _send(self, body: bytes, items: int) -> bool:
        """Whether it is out of our hands."""
        call = self._sender.start(body)
        if self._spool is None:
            outcome = self._sender.outcome(call, body)
        else:
            outcome = self._sender.outcome(call, body, _PATIENCE_SECONDS)
            if outcome is Outcome.PENDING:
                number = self._spool.append(body, items, hold_seconds=self._sender.timeout)
                if number is not None:
                    call.add_done_callback(partial(self._landed, self._spool, number, body, items))
                    return True
                outcome = self._sender.outcome(call, body)
        if outcome is not Outcome.AWAY:
            self._ledger.count_exported(items, REFUSED if outcome is Outcome.REFUSED else "")
        return outcome is not Outcome.AWAY

    def _landed(self, spool: Spool, number: int, body: bytes, items: int, call: Any) -> None:
        """The answer came after all: on a thread of gRPC's."""
        with guarded("taking a late answer"):
            if self._sender.outcome(call, body) is not Outcome.ARRIVED:
                spool.release(number)
            elif spool.remove(number):
                self._ledger.count_exported(items)
