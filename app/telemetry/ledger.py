"""What became of each span, log record and metric point: created, exported, dropped.

The SDK's own self-metrics say the same for 35 to 65 microseconds a request. Here its
processors and exporters report through the same hooks to plain integers, which are read when
metrics are collected.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import Span, SpanProcessor

from . import names
from .names import SignalMetrics
from .observing import observe
from .spool import SPOOL_BROKEN, SPOOL_FULL, Waiting
from .values import convert, text

QUEUE_FULL: Final = "queue_full"
SHUTDOWN: Final = "shutdown"
REFUSED: Final = "refused"
NOT_ENCODABLE: Final = "not_encodable"
UNDELIVERABLE: Final = "undeliverable"
INTERNAL_ERROR: Final = "internal_error"
_NONE_DROPPED: Final = dict.fromkeys(
    (QUEUE_FULL, SPOOL_FULL, SPOOL_BROKEN, NOT_ENCODABLE, INTERNAL_ERROR), 0
)
_NONE_EXPORTED: Final = dict.fromkeys(("", REFUSED, UNDELIVERABLE), 0)
# Between two reports of a full queue.
_REPORT_SECONDS: Final = 60.0
# By the SDK's logger name: shown on the console, never fed back into the exporters.
_log = logging.getLogger("opentelemetry.chatscope")


class Ledger:
    """The counts of one signal of one process.

    Stands in the place of the SDK's `ProcessorMetrics`: the methods without a docstring of their
    own are its interface.
    """

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.created = 0
        self.dropped: Counter[str] = Counter()  # by error.type
        self.exported: Counter[str] = Counter()  # by error.type; "" for what arrived
        self._queue_size: Callable[[], int] = lambda: 0
        self._lock = threading.Lock()

    @property
    def queued(self) -> int:
        """Items that wait to be exported."""
        return self._queue_size()

    def count_created(self) -> None:
        """One more item."""
        with self._lock:
            self.created += 1

    def count_exported(self, items: int, error_type: str = "") -> None:
        """The end of an export: what arrived, or was given up with `error_type`."""
        with self._lock:
            self.exported[error_type] += items

    def count_accepted(self, items: int, rejected: int) -> None:
        """Count an accepted request, of which the receiver rejected some items for good."""
        rejected = min(rejected, items)
        self.count_exported(items - rejected)
        if rejected:
            self.count_exported(rejected, REFUSED)

    def count_dropped(self, items: int, error_type: str) -> None:
        """Items that will not even be tried."""
        with self._lock:
            self.dropped[error_type] += items

    def lost(self) -> int:
        """Items that nobody will ever see."""
        given_up = sum(count for error, count in self.exported.items() if error)
        return sum(self.dropped.values()) + given_up

    def register_queue_size(self, get_queue_size: Callable[[], int]) -> None:
        self._queue_size = get_queue_size

    def drop_items(self, count: int, error_type: str = QUEUE_FULL) -> None:
        # The SDK looks at its queue, and then appends: in between the exporter may have made
        # room, and what was said to be dropped was not. Our queue counts those itself.
        if error_type != QUEUE_FULL:
            self.count_dropped(count, error_type)

    def finish_items(self, count: int) -> None:
        """Handed to the exporter, which tells us more."""


class CountedQueue(deque[Any]):
    """The SDK's queue, in which to be full and to drop the oldest is one step.

    Drops are counted, and reported at most once a minute; `what` names the items.
    """

    def __init__(self, ledger: Ledger, what: str) -> None:
        super().__init__(maxlen=ledger.capacity)
        self._ledger = ledger
        self._what = what
        self._lock = threading.Lock()
        self._unreported = 0
        self._next_report = 0.0

    def appendleft(self, item: Any) -> None:
        """Add the newest; the oldest makes room for it."""
        with self._lock:
            full = len(self) == self.maxlen
            super().appendleft(item)
        if full:
            self._ledger.count_dropped(1, QUEUE_FULL)
            self._report()

    def _report(self) -> None:
        with self._lock:
            self._unreported += 1
            now = time.monotonic()
            if now < self._next_report:
                return
            dropped, self._unreported = self._unreported, 0
            self._next_report = now + _REPORT_SECONDS
        _log.warning("dropped %d %s: the queue of %d is full", dropped, self._what, self.maxlen)

    def pop(self) -> Any:  # type: ignore[override]
        """Take the oldest."""
        with self._lock:
            return super().pop()


class CreatedSpans(SpanProcessor):
    """Counts the spans that start."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """One more."""
        self._ledger.count_created()


class CreatedLogs(LogRecordProcessor):
    """Counts the log records that are emitted, and converts their bodies.

    The SDK does not: the exporter's thread would call the methods of a body that is an object.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Before it is queued, in the thread that emits it."""
        self._ledger.count_created()
        record = log_record.log_record
        record.body = text(record.body) if type(record.body) is str else convert(record.body)

    def shutdown(self) -> None:
        """Nothing to stop."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return True


def observe_signal(meter: Meter, metrics: SignalMetrics, ledger: Ledger) -> None:
    """Show a ledger of spans or log records as metrics."""
    observe(meter, metrics.created, lambda: [Observation(ledger.created)])
    # From zero on: a counter that is born with its first loss shows no increase.
    observe(meter, metrics.dropped, lambda: _by_error({**_NONE_DROPPED, **ledger.dropped}))
    observe(meter, metrics.exported, lambda: _by_error({**_NONE_EXPORTED, **ledger.exported}))
    observe(meter, metrics.queue_size, lambda: [Observation(ledger.queued)])
    observe(meter, metrics.queue_capacity, lambda: [Observation(ledger.capacity)])


def observe_points(meter: Meter, ledger: Ledger) -> None:
    """Show the ledger of metric points."""
    observe(meter, names.POINTS_EXPORTED, lambda: _by_error({"": 0, **ledger.exported}))


def observe_spools(
    meter: Meter, waiting: Mapping[str, Callable[[], Waiting]], capacity: int
) -> None:
    """Show what waits on disk, by signal."""

    def read(of: Callable[[Waiting], int]) -> Iterable[Observation]:
        for signal, get in waiting.items():
            yield Observation(of(get()), {names.SIGNAL: signal})

    observe(meter, names.SPOOL_ITEMS, lambda: read(lambda waiting: waiting.items))
    observe(meter, names.SPOOL_BYTES, lambda: read(lambda waiting: waiting.bytes))
    observe(meter, names.SPOOL_CAPACITY, lambda: [Observation(capacity)])


def _by_error(counts: Mapping[str, int]) -> Iterable[Observation]:
    for error_type, count in counts.items():
        yield Observation(count, {names.ERROR_TYPE: error_type} if error_type else {})
