"""Exporters that keep what the Collector does not accept now, instead of dropping it.

The SDK's exporter gives a batch up after its timeout, ten seconds by default. Here a batch that
is not accepted goes to disk, and all later ones too, so that the order stays; memory stays
empty, and little is lost with a process that is killed. `Replay` sends them later.
Without a spool, or with a disk that fails, the batch waits here, the queue behind it fills, and
what the queue cannot hold is dropped, oldest first, and counted. A batch that is refused while
others are accepted does not hold them up.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from .guard import Warnings, guarded
from .ledger import INTERNAL_ERROR, NOT_ENCODABLE, REFUSED, SHUTDOWN, UNDELIVERABLE, Ledger
from .sender import Outcome, Result, Sender
from .spool import Spool
from .undeliverable import TRIES_BEFORE_OTHERS, Trial, pauses

# A healthy Collector answers within milliseconds. After this long the batch goes to disk while
# its call goes on: were it cut, a slow Collector would get each batch twice.
_PATIENCE_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1
# Of batches that are retried while later ones are sent.
_MOST_SUSPECT_BYTES: Final = 8 * 1024 * 1024
_KEPT: Final = Result(Outcome.ACCEPTED)


@dataclass
class _Suspect:
    """A batch that is retried while later ones are sent."""

    body: bytes
    items: int
    trial: Trial


class PatientExporter:
    """Stands where the SDK expects an exporter of spans or of log records."""

    def __init__(self, sender: Sender, ledger: Ledger, spool: Spool | None = None) -> None:
        self._sender = sender
        self._ledger = ledger
        self._spool = spool
        self._hurry = threading.Event()
        self._stopped = False
        self._suspects: list[_Suspect] = []
        self._turn = 0
        self._warnings = Warnings()

    def export(self, batch: Sequence[Any]) -> None:
        """Return when the batch was accepted, refused for good, is on disk, or is counted lost.

        Without a disk, also when later items wait and the batch is retried beside them.
        """
        for body, items in self._sender.encode(batch):
            if body is None:
                self._ledger.count_dropped(items, NOT_ENCODABLE)
                continue
            try:
                self._deliver(body, items)
            except Exception:
                self._ledger.count_dropped(items, INTERNAL_ERROR)
                message = "%s lost: their export failed"
                self._warnings.log("export", message, self._sender.what, exc_info=True)
        self._retry_suspects()

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
        suspect: _Suspect | None = None
        for tries, pause in enumerate(pauses(), start=1):
            # In an outage the order stays.
            for earlier in self._unconfirmed():
                self._retry(earlier)
            result = self._attempt(body, items)
            if result.outcome is not Outcome.RETRYABLE:
                return
            if suspect is None:
                trial = Trial(self._sender.accepted, result.error)
                suspect = _Suspect(body, items, trial)
            if tries >= TRIES_BEFORE_OTHERS:
                self._deliver_parts(suspect)
                body, items = suspect.body, suspect.items
                if self._ledger.queued and not self._unconfirmed():
                    self._put_beside(suspect)
                    return
            if self._hurry.wait(pause):
                self._ledger.count_exported(items, SHUTDOWN)
                return

    def _attempt(self, body: bytes, items: int) -> Result:
        """Send or keep a batch; of one that is on disk or on its way, ACCEPTED."""
        behind = self._spool is not None and not self._spool.is_empty()
        if not behind:
            result = self._send(body, items)
            if result.outcome is not Outcome.RETRYABLE:
                return result
        if self._spool is not None and self._spool.append(body, items) is not None:
            return _KEPT
        # A disk that cannot be written shall not hold up what the Collector accepts.
        return self._send(body, items) if behind else result

    def _send(self, body: bytes, items: int) -> Result:
        call = self._sender.start(body)
        if self._spool is None:
            result = self._sender.result(call, body)
        else:
            result = self._sender.result(call, body, _PATIENCE_SECONDS)
            if result.outcome is Outcome.PENDING:
                number = self._spool.append(body, items, hold_seconds=self._sender.timeout)
                if number is not None:
                    call.add_done_callback(partial(self._landed, self._spool, number, body, items))
                    return _KEPT
                result = self._sender.result(call, body)
        if result.outcome is Outcome.REFUSED:
            self._ledger.count_exported(items, REFUSED)
        elif result.outcome is Outcome.ACCEPTED:
            self._ledger.count_accepted(items, result.rejected)
        return result

    def _landed(self, spool: Spool, number: int, body: bytes, items: int, call: Any) -> None:
        """Handle a late response, on a thread of gRPC's."""
        with guarded("handling a late response", self._warnings):
            result = self._sender.result(call, body)
            if result.outcome is not Outcome.ACCEPTED:
                spool.release(number)
            elif spool.remove(number):
                self._ledger.count_accepted(items, result.rejected)

    def _deliver_parts(self, suspect: _Suspect) -> bool:
        """Send parts of a batch as long as they are accepted, another kind of part each time that
        one is not; the rest remains. Return whether any was."""
        any_accepted = False
        while split := self._sender.split(suspect.body, self._turn):
            part, rest = split
            if self._attempt(part.body, part.items).outcome is Outcome.RETRYABLE:
                self._turn += 1
                break
            any_accepted = True
            suspect.body, suspect.items = rest.body, rest.items
        return any_accepted

    def _unconfirmed(self) -> list[_Suspect]:
        """Return those of which it is not known yet whether there is an outage; one at most."""
        accepted = self._sender.accepted
        return [
            suspect
            for suspect in self._suspects
            if not suspect.trial.refusals and not suspect.trial.is_suspect(accepted)
        ]

    def _put_beside(self, suspect: _Suspect) -> None:
        room = _MOST_SUSPECT_BYTES - len(suspect.body)
        while self._suspects and sum(len(each.body) for each in self._suspects) > room:
            self._give_up(max(self._suspects, key=lambda each: each.trial.refusals))
        self._suspects.append(suspect)

    def _retry_suspects(self) -> None:
        """Retry each that is due, and go on as long as nothing later waits."""
        while self._suspects:
            last = self._hurry.is_set()
            for suspect in list(self._suspects):
                if last or suspect.trial.due <= time.monotonic():
                    self._retry(suspect)
            if last:
                for suspect in self._suspects:
                    self._ledger.count_exported(suspect.items, SHUTDOWN)
                self._suspects.clear()
                return
            if self._ledger.queued:
                return
            self._hurry.wait(_LOOK_SECONDS)

    def _retry(self, suspect: _Suspect) -> None:
        trial = suspect.trial
        if trial.is_undeliverable(self._sender.accepted):
            self._give_up(suspect)
            return
        result = self._attempt(suspect.body, suspect.items)
        if result.outcome is Outcome.RETRYABLE:
            trial.refuse(self._sender.accepted, result.error)
            if self._deliver_parts(suspect):
                suspect.trial = Trial(self._sender.accepted, result.error)
        else:
            self._suspects.remove(suspect)

    def _give_up(self, suspect: _Suspect) -> None:
        self._suspects.remove(suspect)
        self._ledger.count_exported(suspect.items, UNDELIVERABLE)
        message = "%d %s are undeliverable and dropped (%s), while others are accepted"
        items, error = suspect.items, suspect.trial.error
        self._warnings.log(UNDELIVERABLE, message, items, self._sender.what, error)
