"""One signal's way from the queue to the receiver.

The sending thread takes batches from the queue and sends each at once. A batch that is not
accepted goes to the spool; while the receiver is unavailable, all new ones go there directly. The
draining thread sends what the spool holds, oldest first, and finds out when the receiver is back.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import uniform
from typing import Final

from .batch import Encoded, Group, decode_request, encode_request
from .client import CANCELLED, TIMEOUT, Client, Outcome, Result, failed, finished
from .queue import BoundedQueue, Item, Wakeup
from .settings import Signal
from .spool import Backlog, Batch, Spool
from .statistics import (
    INTERNAL_ERROR,
    REFUSED,
    SHUTDOWN,
    UNDELIVERABLE,
    Statistics,
    Warnings,
)
from .unfinished import Unfinished

# A healthy receiver responds within milliseconds. After this long the batch goes to the spool while
# its call goes on: if the call were cut, a slow receiver would get each batch twice.
_PATIENCE: Final = 0.5  # s
_FIRST_PAUSE: Final = 0.25  # s
_LONGEST_PAUSE: Final = 5.0  # s
_LAST_PAUSE: Final = 0.05  # s; a shutdown that leaves less makes no further attempt
_LONGEST_RETRY_AFTER: Final = 60.0  # s
# How long a claim outlasts the call that it is for.
_CLAIM_MARGIN: Final = 5.0  # s
# Time after its timeout at which a call is abandoned.
_CALL_MARGIN: Final = 2.0  # s
# How often an idle spool is looked at, for batches of processes that have ended.
_IDLE: Final = 0.5  # s
# How long a fork waits for a thread that is inside SQLite.
_FORK_WAIT: Final = 1.0  # s
_REPORT_EVERY: Final = 1.0  # s
_REPORT_LEASE: Final = 5.0  # s
# How long a flush and a shutdown go on sending what is on disk, where it is safe anyway.
_FLUSH_DRAIN: Final = 0.3  # s
_LAST_DRAIN: Final = 1.0  # s
# Only one of several threads that flush at once is woken; the others look as often as this.
_FLUSH_POLL: Final = 0.02  # s
_FAILURES_BEFORE_OTHERS: Final = 3
# A part of a batch of 512 can be one item.
_PART_SIZES: Final = 9
# Holds no item: it can be sent again and again to a receiver that hangs, and that will work off
# all that it was sent once it goes on.
_PROBE: Final = b""


@dataclass(frozen=True, kw_only=True)
class PipelineLimits:
    """Bounds of one signal."""

    delay: float = 0.2  # s until an incomplete batch is sent
    batch_items: int = 512
    batch_bytes: int = 1024 * 1024
    # Failed attempts after which a batch is set aside, each while others were accepted.
    max_attempts: int = 8


class Pipeline:
    """Queue, spool, client and threads of one signal in one process."""

    def __init__(
        self,
        signal: Signal,
        connect: Callable[[], Client],
        queue: Callable[[], BoundedQueue],
        spool: Spool,
        limits: PipelineLimits,
        statistics: Statistics,
        warnings: Warnings,
    ) -> None:
        self.signal = signal
        self.statistics = statistics
        self.limits = limits
        self.spool = spool
        self.backlog = Backlog()
        self._connect = connect
        self._make_queue = queue
        self._warnings = warnings
        self._reset()

    def _reset(self) -> None:
        self.queue = self._make_queue()
        self._client = self._connect()
        self._claim_seconds = self._client.timeout + _CLAIM_MARGIN
        self._start_lock = threading.RLock()
        self._sender: threading.Thread | None = None
        self._drainer: threading.Thread | None = None
        self._available = True
        self._accepted = 0  # batches with items in them
        self._failures: dict[int, _Failures] = {}  # by the batch's number
        self._part = 0  # of a batch that is not accepted: which one is tried next
        self._pauses = _pauses()
        self._wake_drain = Wakeup()
        self._retry = Wakeup()  # ends a pause after a failure
        self._steps = 0  # of the draining thread
        self._settled = Wakeup()  # set after each batch and each step, for a flush that waits
        self._hurry = threading.Event()  # set by the shutdown: one more try, no more waiting
        self._stop_drain = threading.Event()
        self._closing = threading.Event()
        self._deadline: float | None = None  # of the shutdown, once it has begun
        self._in_hand = 0  # items that the sender has taken from the queue and not settled yet
        self._busy = threading.RLock()  # held while the sender has a batch in its hands
        self._next_report = 0.0
        self._dropped = 0  # as it was last reported
        self._had_backlog = False

    def before_fork(self) -> None:
        """Wait until no thread is inside SQLite or opens a connection."""
        self.spool.lock.acquire(timeout=_FORK_WAIT)
        self._client.lock.acquire(timeout=_FORK_WAIT)

    def after_fork_in_parent(self) -> None:
        """Let the threads continue."""
        for lock in (self._client.lock, self.spool.lock):
            # Not acquired in time: the fork happened all the same.
            with suppress(RuntimeError):
                lock.release()

    def after_fork_in_child(self) -> None:
        """Start empty in a child process: queued items belong to the parent."""
        _inherited.append(self._client)
        self.spool.abandon()
        self.statistics.reset()
        self._warnings.reset()
        self._reset()

    def start(self) -> None:
        """Start the threads; a second call does nothing."""
        with self._start_lock:
            if self._sender is not None or self._deadline is not None:
                return
            name = f"otlp-{self.signal}"
            drainer = threading.Thread(target=self._drain_loop, name=f"{name}-spool", daemon=True)
            sender = threading.Thread(target=self._send_loop, name=name, daemon=True)
            try:
                if self._drainer is None:
                    drainer.start()
                    self._drainer = drainer
                sender.start()
                self._sender = sender
            except RuntimeError as error:  # too many threads, or the interpreter is ending
                self._warnings.warn("thread", f"{self.signal} wait for a thread: {error}")

    def put(self, group: Group, data: bytes | Unfinished) -> None:
        """Queue one encoded item."""
        if self._sender is None:
            self.start()
        self.queue.put((group, data))

    def flush(self, seconds: float, *, drain: bool = False) -> bool:
        """Wait until the queue is empty: all of it delivered or in the spool.

        With `drain` the spool is tried as well, for a moment at most.
        """
        deadline = time.monotonic() + seconds
        while not self._is_idle(max(0.0, _left(deadline))):
            if _left(deadline) <= 0:
                return False
            self.queue.wanted.set()
            self._settled.wait(_FLUSH_POLL)
        if drain and self._drainer is not None:
            self._drain_for(min(_FLUSH_DRAIN, _left(deadline)))
        return True

    def _drain_for(self, seconds: float) -> None:
        deadline, steps = time.monotonic() + seconds, self._steps
        self._retry.set()
        self._wake_drain.set()
        while _left(deadline) > 0:
            failed = self._steps > steps + 1 and not self._available
            if failed or (not self.statistics.inflight and self.spool.is_empty() is not False):
                return
            self._settled.wait(_FLUSH_POLL)

    def _is_idle(self, seconds: float) -> bool:
        if len(self.queue) or not self._busy.acquire(timeout=seconds):
            return False
        self._busy.release()
        return not len(self.queue)

    def shutdown(self, seconds: float) -> int:
        """Send or keep what is queued, and stop; the number of items lost by it.

        Returns within `seconds`, even if a call hangs.
        """
        deadline = time.monotonic() + seconds
        with self._start_lock:
            if self._deadline is not None:
                return 0
            before = self.statistics.lost()
            # In this order: once the sender sees the deadline, nothing more comes.
            self.queue.close()
            self._deadline = deadline
        self._closing.set()
        self.queue.wanted.set()
        if self._sender is not None:
            self._sender.join(max(0.0, _left(deadline) * 0.8))
        self._hurry.set()
        self._retry.set()
        self._wake_drain.set()
        if self._drainer is not None:
            patience = _LAST_DRAIN if self.spool.path is not None else seconds
            self._drainer.join(max(0.0, min(patience, _left(deadline) - 0.1 * seconds)))
        self._stop_drain.set()
        # Calls under way end as cancelled, and what they carried is released for the next process.
        self._client.close()
        if self._drainer is not None:
            self._drainer.join(max(0.0, _left(deadline)))
        # Without threads the spool was never opened.
        waiting = (self._drainer and self.spool.backlog()) or Backlog()
        left = len(self.queue) + self._in_hand + (waiting.items if self.spool.path is None else 0)
        if left:
            self.statistics.count_exported(left, SHUTDOWN)
        self.backlog = waiting if self.spool.path is not None else Backlog()
        self.spool.close()
        return self.statistics.lost() - before

    # -- the sending thread

    def _send_loop(self) -> None:
        while True:
            self.queue.wanted.wait(self.limits.delay)
            closing = self._deadline is not None
            try:
                self._send_queued()
            except Exception as error:
                self._warnings.warn("bug", f"sending {self.signal} failed: {error!r}")
                time.sleep(_FIRST_PAUSE)
            if closing and not len(self.queue):
                return

    def _send_queued(self) -> None:
        while True:
            with self._busy:
                batch = self.queue.take(self.limits.batch_bytes)
                if not batch:
                    return
                self._in_hand = len(batch)
                try:
                    self._deliver(encode_request(self._finished(batch)), len(batch))
                except Exception:
                    self.statistics.count_exported(len(batch), INTERNAL_ERROR)
                    raise
                finally:
                    self._in_hand = 0
            self._settled.set()
            if len(self.queue) < self.limits.batch_items and self._deadline is None:
                return

    def _finished(self, batch: Iterable[Item]) -> Iterator[Encoded]:
        for group, data in batch:
            yield group, data.finish(self._not_encodable) if isinstance(data, Unfinished) else data

    def _not_encodable(self, error: Exception) -> None:
        self._warnings.warn("not-encodable", f"a long text of the {self.signal}: {error!r}")

    def _deliver(self, body: bytes, items: int) -> None:
        """Send a batch, or keep it in the spool."""
        for pause in _pauses():
            if self._available and self._time_left() > 0 and self._send_now(body, items):
                return
            if self._keep(body, items) is not None:
                return
            # The disk fails: the batch stays here, and the queue behind it fills.
            if self._deadline is None:
                self._closing.wait(pause)
            elif (left := self._time_left()) > _LAST_PAUSE:
                time.sleep(min(pause, left))
            else:
                self.statistics.count_exported(items, SHUTDOWN)
                return
            self._available = True

    def _send_now(self, body: bytes, items: int) -> bool:
        """Send a batch; False when it must be kept."""
        call = self._call(body, items)
        patience = min(_PATIENCE, self._time_left())
        try:
            result = call.result(patience)
        except TimeoutError:
            number = self.spool.append(body, items, claim_seconds=self._claim_seconds)
            if number is not None:
                self._became_unavailable(f"no response within {_PATIENCE} s")
                if number:
                    call.add_done_callback(partial(self._answered_late, number, items))
                return True
            result = self._wait(call)
        if result.outcome is Outcome.UNAVAILABLE:
            self._became_unavailable(f"{result.error_type}: {result.message}")
            return False
        self._count(result, items)
        self._bury_refused(body, items, result)
        return True

    def _answered_late(self, number: int, items: int, call: Future[Result]) -> None:
        """Handle the result of a call whose batch is in the spool by now."""
        result = call.result()
        if result.outcome is not Outcome.UNAVAILABLE:
            if self._forget(number, result):
                self._count(result, items)
        elif result.error_type != CANCELLED or self._deadline is not None:
            self.spool.release(number)

    def _keep(self, body: bytes, items: int) -> int | None:
        number = self.spool.append(body, items)
        if number is not None:
            self._wake_drain.set()
        return number

    # -- the draining thread

    def _drain_loop(self) -> None:
        while not self._stop_drain.is_set():
            wait = _LONGEST_PAUSE
            self._steps += 1
            self._settled.set()
            try:
                wait = self._drain_step()
                self._report_backlog()
            except Exception as error:
                self._warnings.warn("bug", f"sending spooled {self.signal} failed: {error!r}")
            if wait and self._hurry.is_set():
                return  # nothing is left, or it is not accepted now
            if wait == _IDLE:
                self._wake_drain.wait(wait)
                self._wake_drain.clear()
            else:
                self._retry.wait(wait)

    def _drain_step(self) -> float:
        """Send one batch of the spool; the seconds until the next step."""
        if not self._available:
            probe = self._wait(self._call(_PROBE, 0))
            if probe.outcome is Outcome.UNAVAILABLE:
                self._became_unavailable(f"{probe.error_type}: {probe.message}")
                return self._pause(probe)
        empty = self.spool.is_empty()
        batch = None if empty else self.spool.claim(self._claim_seconds)
        if batch is None:
            self._became_available()
            if self._had_backlog and empty:
                self._had_backlog = False
                self._failures.clear()
                self.spool.shrink()
            return _IDLE
        self._had_backlog = True
        return self._send_spooled(batch)

    def _send_spooled(self, batch: Batch) -> float:
        result = self._wait(self._call(batch.body, batch.items))
        if result.outcome is not Outcome.UNAVAILABLE:
            if self._forget(batch.number, result):
                self._count(result, batch.items)
            self._failures.pop(batch.number, None)
            self._became_available()
            return 0.0
        if result.error_type == CANCELLED:
            self.spool.release(batch.number)
            return _IDLE
        return self._failed(batch, result)

    def _failed(self, batch: Batch, result: Result) -> float:
        """Release a batch for later, in parts if need be, or set it aside; the seconds to wait.

        In an outage nothing is accepted, so a failure counts as an attempt only when something
        was accepted since the failure before it.
        """
        failures = self._failures.setdefault(batch.number, _Failures(self._accepted))
        suspect = failures.accepted != self._accepted
        failures.accepted = self._accepted
        failures.count += 1
        attempts = batch.attempts + suspect
        if attempts == 0:
            self._became_unavailable(_reason(result))
        pause = _FIRST_PAUSE if suspect else self._pause(result)
        # Without a response the receiver may have processed the batch: then only few different
        # ones are tried.
        if failures.count >= _FAILURES_BEFORE_OTHERS and not self._send_parts(batch):
            if attempts >= self.limits.max_attempts:
                self._set_aside(batch, attempts, result)
                return 0.0
            # Another one is due first.
            delay = 2 * pause + _FIRST_PAUSE * 2.0**attempts
        else:
            delay = 0.0
        self.spool.release(batch.number, delay=delay, attempts=int(suspect))
        return pause

    def _send_parts(self, batch: Batch) -> bool:
        """Send parts of a batch as long as they are accepted; whether any was.

        The receiver's limit may be smaller than the batch, or one item may be what it refuses.
        After a part that is not accepted, the next attempt begins with another one.
        """
        try:
            items = decode_request(batch.body)
        except (ValueError, IndexError):
            return False
        accepted = False
        while len(items) > 1:
            part, rest = _split(items, self._part)
            body = encode_request(part)
            result = self._wait(self._call(body, len(part)))
            if result.outcome is Outcome.UNAVAILABLE:
                self._part += 1
                break
            accepted = True
            items = rest
            replaced = self.spool.replace(batch.number, encode_request(rest), len(rest))
            if replaced is not False:
                self._count(result, len(part))
                self._bury_refused(body, len(part), result)
            if not replaced:
                break
        return accepted

    def _set_aside(self, batch: Batch, attempts: int, result: Result) -> None:
        del self._failures[batch.number]
        if self.spool.set_aside(batch.number, _reason(result)):
            self.statistics.count_exported(batch.items, UNDELIVERABLE)
            self._warnings.warn(
                "undeliverable",
                f"{batch.items} {self.signal} items were not accepted {attempts} times while others"
                f" were, and are set aside ({_reason(result)})",
            )

    def _forget(self, number: int, result: Result) -> bool:
        """Remove a batch whose call has ended; return whether this process counts it."""
        if result.outcome is Outcome.REFUSED and self.spool.path is not None:
            return self.spool.set_aside(number, _reason(result)) is not False
        return self.spool.remove(number) is not False

    def _bury_refused(self, body: bytes, items: int, result: Result) -> None:
        if result.outcome is Outcome.REFUSED and self.spool.path is not None:
            self.spool.bury(body, items, _reason(result))

    def _pause(self, result: Result) -> float:
        return max(next(self._pauses), min(result.retry_after, _LONGEST_RETRY_AFTER))

    def _report_backlog(self) -> None:
        """Update the counts once a second: the backlog, and what the queue has dropped."""
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + _REPORT_EVERY
        if (dropped := self.queue.dropped) > self._dropped:
            full = f"dropped {dropped - self._dropped} {self.signal} items: the queue is full"
            self._dropped = dropped
            self._warnings.warn("queue-full", full)
        if self.spool.path is not None and not self._had_backlog and self.spool.is_empty():
            self.backlog = Backlog()
        elif self.spool.report(_REPORT_LEASE):
            self.backlog = self.spool.backlog() or self.backlog
        else:
            self.backlog = Backlog()

    # -- both

    def _call(self, body: bytes, items: int) -> Future[Result]:
        started = time.perf_counter()
        self.statistics.change_inflight(items)
        try:
            call = self._client.send(body)
        except Exception as error:
            call = finished(failed(error))
        call.add_done_callback(partial(self._ended, started, items))
        return call

    def _wait(self, call: Future[Result]) -> Result:
        """Wait for a call, but not much longer than its timeout."""
        try:
            return call.result(self._client.timeout + _CALL_MARGIN)
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, TIMEOUT, "the call did not end with its timeout")

    def _ended(self, started: float, items: int, call: Future[Result]) -> None:
        self.statistics.change_inflight(-items)
        self.statistics.count_call(time.perf_counter() - started, call.result().error_type)

    def _count(self, result: Result, items: int) -> None:
        """Count a batch whose export has ended."""
        if result.outcome is Outcome.REFUSED:
            self.statistics.count_exported(items, REFUSED)
            self._warnings.warn(
                "refused", f"the receiver refused {items} {self.signal} items: {_reason(result)}"
            )
            return
        self._accepted += 1
        rejected = min(result.rejected, items)
        self.statistics.count_exported(items - rejected)
        if rejected:
            self.statistics.count_exported(rejected, REFUSED)
        if rejected or result.message:
            self._warnings.warn(
                "rejected",
                f"the receiver rejected {rejected} of {items} {self.signal} items:"
                f" {result.message}",
            )

    def _became_unavailable(self, reason: str) -> None:
        self._available = False
        self._wake_drain.set()
        self._warnings.warn(
            "unavailable", f"the receiver does not accept {self.signal} ({reason}); they are kept"
        )

    def _became_available(self) -> None:
        self._pauses = _pauses()
        if not self._available:
            self._available = True
            self._warnings.warn("available", f"the receiver accepts {self.signal} again")

    def _time_left(self) -> float:
        """Seconds that the shutdown leaves; without one, more than any wait."""
        return _left(self._deadline) * 0.5 if self._deadline is not None else self._client.timeout


@dataclass
class _Failures:
    """The failures of one spooled batch in this process."""

    accepted: int  # the pipeline's count at the last failure
    count: int = 0


def _split(items: list[Encoded], turn: int) -> tuple[list[Encoded], list[Encoded]]:
    """Return a part and the rest: with growing `turn` the first and the last half, the first and
    the last quarter, and so on."""
    size, last = divmod(turn, 2)
    size = max(1, len(items) >> 1 + size % _PART_SIZES)
    return (items[-size:], items[:-size]) if last else (items[:size], items[size:])


# Clients that a forked process inherited: never used, and never closed, as they share sockets.
_inherited: list[Client] = []


def _pauses() -> Iterator[float]:
    """Yield seconds to wait before further attempts: doubled each time, and never quite the same,
    so that many processes do not come at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * uniform(0.8, 1.0)  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE)


def _left(deadline: float) -> float:
    return deadline - time.monotonic()


def _reason(result: Result) -> str:
    return f"{result.error_type}: {result.message}"[:500]
