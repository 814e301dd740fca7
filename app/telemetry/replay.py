"""Sends what is on disk when the Collector is back: in order, one process for all of them."""

import threading
import time
from typing import Final

from .guard import Warnings, guarded
from .ledger import REFUSED, UNDELIVERABLE, Ledger
from .sender import Outcome, Result, Sender
from .spool import LONGEST_HOLD_SECONDS, Batch, Spool, Waiting
from .undeliverable import TRIES_BEFORE_OTHERS, Trial, pauses

# How often an empty spool is looked at: for what this or another process put there, and whether
# the process that emptied it has stopped.
_LOOK_SECONDS: Final = 0.5
# While a call is under way, other processes are to see that this one is alive.
_BEAT_SECONDS: Final = 1.0
# Has no items, so it can be sent again and again to a Collector that may be hanging, and that
# works off later all that it was sent.
_NO_ITEMS: Final = b""
# Batches that are retried beside the others, and sent ones that the disk refuses to forget.
_MOST_SET_APART: Final = 1000


class Replay(threading.Thread):
    """A thread that empties a spool while no other process does."""

    def __init__(self, sender: Sender, ledger: Ledger, spool: Spool) -> None:
        super().__init__(name="TelemetryReplay", daemon=True)
        self._sender = sender
        self._ledger = ledger
        self._spool = spool
        self._warnings = Warnings()
        self._stopped = threading.Event()
        self._waiting = Waiting()
        self._looked = 0.0
        # Accepted, while the disk refused to forget it.
        self._sent: set[int] = set()
        self._forget()

    @property
    def waiting(self) -> Waiting:
        """What is on disk, of all processes; nothing in those that do not send it, or each of
        them would report the same."""
        return self._waiting

    def run(self) -> None:
        """Send until `stop`."""
        while not self._stopped.is_set():
            seconds = _LOOK_SECONDS
            with guarded("sending what is on disk", self._warnings):
                seconds = self._step()
            self._pause(seconds)

    def stop(self, seconds: float) -> None:
        """End, after the try that is under way."""
        self._stopped.set()
        if self.is_alive():
            self.join(seconds)
        self._waiting = self._spool.waiting() if self._spool.lead() else Waiting()

    def _pause(self, seconds: float) -> None:
        """Wait for `stop`, showing others meanwhile that this process is alive if it sends."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > _BEAT_SECONDS:
            if self._stopped.wait(_BEAT_SECONDS):
                return
            self._spool.lead()
        self._stopped.wait(max(0.0, left))

    def _forget(self) -> None:
        """Begin anew: another process may have sent anything meanwhile."""
        self._pauses = pauses()
        self._in_doubt = True
        # In a row, since something was accepted, of the batch that is next.
        self._failures = 0
        self._head: tuple[int, Trial] | None = None
        self._witness = 0
        self._turn = 0
        self._suspects: dict[int, Trial] = {}

    def _step(self) -> float:
        """Send one batch; return the seconds until the next."""
        if self._sent and self._spool.remove_all(self._sent):
            self._sent.clear()
        if self._spool.is_empty():
            self._rest()
            return _LOOK_SECONDS
        if not self._spool.lead():
            self._waiting = Waiting()
            self._forget()
            return _LOOK_SECONDS
        self._look()
        self._set_aside()
        batch = self._choose()
        if batch is None or _is_held(batch) or len(self._sent) >= _MOST_SET_APART:
            return _LOOK_SECONDS
        return self._attempt(batch)

    def _rest(self) -> None:
        if self._waiting.items:
            self._spool.shrink()
        self._waiting = Waiting()
        self._spool.stop_leading()
        self._suspects.clear()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._waiting = self._spool.waiting()

    def _choose(self) -> Batch | None:
        """Return a suspect that is due, while others are accepted, or the oldest batch."""
        oldest = self._spool.oldest(but=self._suspects.keys() | self._sent)
        if self._suspects and (oldest is None or not self._failures):
            number = min(self._suspects, key=lambda number: self._suspects[number].due)
            if self._suspects[number].due <= time.monotonic():
                if suspect := self._spool.get(number):
                    return suspect
                # Dropped for a newer one.
                del self._suspects[number]
        return oldest

    def _attempt(self, batch: Batch) -> float:
        if self._in_doubt and self._sender.send(_NO_ITEMS).outcome is Outcome.RETRYABLE:
            return next(self._pauses)
        result = self._deliver(batch)
        if result.outcome is not Outcome.RETRYABLE:
            self._suspects.pop(batch.number, None)
            self._go_on()
            return 0.0
        if suspect := self._suspects.get(batch.number):
            suspect.refuse(self._sender.accepted, result.error)
            if self._deliver_parts(batch):
                self._suspects[batch.number] = Trial(self._sender.accepted, result.error)
            return 0.0
        return self._doubt(batch, result)

    def _go_on(self) -> None:
        self._pauses = pauses()
        self._failures = 0
        self._head = None

    def _doubt(self, batch: Batch, result: Result) -> float:
        """Find out whether there is an outage, or this batch alone is refused."""
        self._failures += 1
        if self._head is None or self._head[0] != batch.number:
            self._head = batch.number, Trial(self._sender.accepted, result.error)
        trial = self._head[1]
        if self._failures >= TRIES_BEFORE_OTHERS:
            self._deliver_parts(batch)
            if witness := self._next_witness(batch):
                self._deliver(witness)
        if trial.is_suspect(self._sender.accepted):
            if len(self._suspects) >= _MOST_SET_APART:
                self._bury(max(self._suspects, key=lambda n: self._suspects[n].refusals))
            self._suspects[batch.number] = trial
            self._go_on()
            return 0.0
        return next(self._pauses)

    def _next_witness(self, batch: Batch) -> Batch | None:
        """Return another batch to try, a different one each time."""
        but = {batch.number} | self._sent
        witness = self._spool.oldest(self._witness, but) or self._spool.oldest(but=but)
        self._witness = witness.number if witness else 0
        return witness if witness and not _is_held(witness) else None

    def _deliver(self, batch: Batch) -> Result:
        """Send a batch; unless it can be retried, it is out of our hands."""
        result = self._send(batch.body)
        self._in_doubt = result.outcome is Outcome.RETRYABLE
        if self._in_doubt:
            return result
        removed = self._spool.remove(batch.number)
        if removed is None:
            self._sent.add(batch.number)
        # One that was dropped for a newer meanwhile is counted as that.
        if removed is not False:
            self._count(batch.items, result)
        return result

    def _deliver_parts(self, batch: Batch) -> bool:
        """Send parts of a batch as long as they are accepted, another kind of part each time that
        one is not; the rest remains. Return whether any was."""
        body, any_accepted = batch.body, False
        while split := self._sender.split(body, self._turn):
            part, rest = split
            result = self._send(part.body)
            if result.outcome is Outcome.RETRYABLE:
                self._turn += 1
                break
            any_accepted = True
            body = rest.body
            replaced = self._spool.replace(batch.number, rest.body, rest.items)
            if replaced is not False:
                self._count(part.items, result)
            if not replaced:
                break
        return any_accepted

    def _count(self, items: int, result: Result) -> None:
        if result.outcome is Outcome.REFUSED:
            self._ledger.count_exported(items, REFUSED)
        else:
            self._ledger.count_accepted(items, result.rejected)

    def _send(self, body: bytes) -> Result:
        call = self._sender.start(body)
        while True:
            result = self._sender.result(call, body, _BEAT_SECONDS)
            if result.outcome is not Outcome.PENDING:
                return result
            self._spool.lead()

    def _set_aside(self) -> None:
        accepted = self._sender.accepted
        for number in list(self._suspects):
            if self._suspects[number].is_undeliverable(accepted):
                self._bury(number)

    def _bury(self, number: int) -> None:
        """Move a batch to the dead letters."""
        error = self._suspects[number].error
        items = self._spool.set_aside(number, error)
        if items is None:
            return
        del self._suspects[number]
        if items:
            self._ledger.count_exported(items, UNDELIVERABLE)
            self._warnings.log(
                UNDELIVERABLE,
                "%d %s are undeliverable and set aside in %s (%s), while others are accepted",
                items, self._sender.what, self._spool.path, error,
            )  # fmt: skip


def _is_held(batch: Batch) -> bool:
    """Return whether another process may be sending it. Held for longer than anybody holds it:
    the clock was set back."""
    return 0 < batch.held_until - time.time() <= LONGEST_HOLD_SECONDS
