"""Sends what is on disk, when the Collector is back: in order, one process for all of them."""

import threading
import time
from typing import Final

from .guard import guarded
from .ledger import REFUSED, Ledger
from .patience import pauses
from .sender import Outcome, Sender
from .spool import LONGEST_HOLD_SECONDS, Batch, Spool, Waiting

# How often an empty spool is looked at: for what this or another process put there, and whether
# the process that emptied it has ended.
_LOOK_SECONDS: Final = 0.5
# Takes no item, so it can be sent again and again to a Collector that may be hanging, and that
# works off later all that it was sent.
_NO_ITEMS: Final = b""


class Replay(threading.Thread):
    """A thread that empties a spool, as long as no other process does."""

    def __init__(self, sender: Sender, ledger: Ledger, spool: Spool) -> None:
        super().__init__(name="TelemetryReplay", daemon=True)
        self._sender = sender
        self._ledger = ledger
        self._spool = spool
        self._stopped = threading.Event()
        self._pauses = pauses()
        self._in_doubt = True
        # Arrived, while the disk refused to forget it.
        self._sent = 0
        self._waiting = Waiting()

    @property
    def waiting(self) -> Waiting:
        """What is on disk, of all processes; nothing in those that do not send it, or each of
        them would tell of the same."""
        return self._waiting

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopped.is_set():
            seconds = _LOOK_SECONDS
            with guarded("sending what is on disk"):
                seconds = self._step()
            self._stopped.wait(seconds)

    def stop(self, seconds: float) -> None:
        """End, after the try that is under way."""
        self._stopped.set()
        if self.is_alive():
            self.join(seconds)
        self._waiting = self._spool.waiting() if self._spool.lead() else Waiting()

    def _step(self) -> float:
        """Send one batch; the seconds until the next."""
        if not self._spool.lead():
            return _LOOK_SECONDS
        waited = self._waiting
        batch = self._spool.oldest(self._sent)
        self._waiting = self._spool.waiting()
        if batch is None:
            if waited.items and not self._waiting.items:
                self._spool.shrink()
            if self._sent and self._spool.remove(self._sent, all_before=True) is not None:
                self._sent = 0
            return _LOOK_SECONDS
        # Held for longer than anybody holds it: the clock was set back.
        if 0 < batch.held_until - time.time() <= LONGEST_HOLD_SECONDS:
            return _LOOK_SECONDS
        if self._send(batch):
            self._pauses = pauses()
            return 0.0
        return next(self._pauses)

    def _send(self, batch: Batch) -> bool:
        """Whether it is out of our hands."""
        if self._in_doubt and self._sender.send(_NO_ITEMS) is Outcome.AWAY:
            return False
        outcome = self._sender.send(batch.body)
        self._in_doubt = outcome is Outcome.AWAY
        if self._in_doubt:
            return False
        removed = self._spool.remove(batch.number)
        if removed is None:
            self._sent = batch.number
        # One that was dropped for a newer meanwhile is counted as that.
        if removed is not False:
            error = REFUSED if outcome is Outcome.REFUSED else ""
            self._ledger.count_exported(batch.items, error)
        return True
