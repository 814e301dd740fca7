"""What a delivery does when its receiver, its disk or its own code fails: counts that add up."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from chatscope.otlp import PipelineLimits, Signal, pipeline, redacting
from chatscope.otlp.self_metrics import LOGS, SPANS
from chatscope.otlp.spool import SPOOL_FULL, Spool
from chatscope.otlp.statistics import INTERNAL_ERROR, UNDELIVERABLE
from stack.waiting import poll_until
from tests.elapsed import overload, takes_at_most
from tests.receiver import Receiver
from tests.unit.otlp.emitting import BATCH, Emitting, emitting, wait_for_counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_ITEMS = 300
_on_disk_or_not = pytest.mark.parametrize("on_disk", [True, False], ids=["spool", "memory"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def started(receiver: Receiver, tmp_path: Path) -> Iterator[Any]:
    """Start deliveries to the receiver, which end with the test."""
    found: list[Emitting] = []

    def start(*, on_disk: bool = True, **settings: Any) -> Emitting:
        spool = tmp_path / "spool" if on_disk else None
        found.append(emitting(receiver.endpoint, spool, **settings))
        return found[-1]

    yield start
    receiver.accept()
    for each in found:
        each.delivery.shutdown(2.0)


def _received(receiver: Receiver) -> list[list[str]]:
    return [
        [span.name for span in receiver.spans],
        [record.body for record in receiver.log_records],
    ]


def _names(*numbers: int) -> list[list[str]]:
    return [[str(number) for number in range(*numbers)]] * 2


@_on_disk_or_not
def test_in_health_all_arrives_and_nothing_touches_the_spool(
    receiver: Receiver, started: Any, monkeypatch: pytest.MonkeyPatch, *, on_disk: bool
) -> None:
    appended: list[int] = []
    monkeypatch.setattr(Spool, "append", lambda self, body, items, *_, **__: appended.append(items))
    # On an overloaded machine the receiver may respond late, which is not what is tested here.
    monkeypatch.setattr(pipeline, "_PATIENCE", 60.0)
    emitted = started(on_disk=on_disk)
    emitted.emit(range(_ITEMS))
    wait_for_counts(emitted, _ITEMS)
    assert _received(receiver) == _names(_ITEMS)
    assert not appended
    emitted.assert_even()


@_on_disk_or_not
@pytest.mark.parametrize("status", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_outage_beyond_the_queue_costs_nothing_and_the_order_stays(
    receiver: Receiver, started: Any, status: str, *, on_disk: bool
) -> None:
    """Loki refuses a line that is an hour older than its stream's newest."""
    receiver.refuse_with(grpc.StatusCode[status])
    emitted = started(on_disk=on_disk)
    emitted.emit(range(_ITEMS))
    poll_until(lambda: emitted.waiting() == [_ITEMS, _ITEMS], "all to be kept")
    receiver.accept()
    poll_until(lambda: _received(receiver) == _names(_ITEMS), "all, once, in order")
    emitted.emit(range(_ITEMS, _ITEMS + 50))
    wait_for_counts(emitted, _ITEMS + 50)
    poll_until(lambda: emitted.waiting() == [0, 0], "the spool to be empty")
    emitted.assert_even()


def test_at_the_bound_the_oldest_are_dropped_counted_and_shown(
    receiver: Receiver, started: Any
) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    # Ten batches of a page for each signal, and all of them complete.
    limits = PipelineLimits(delay=60.0, batch_items=BATCH)
    emitted = started(spool_bytes=10 * 4096, limits=limits)
    emitted.emit(range(_ITEMS))
    poll_until(lambda: emitted.waiting() == [100, 100], "the spool to be full")
    emitted.assert_even()
    receiver.accept()
    poll_until(lambda: _received(receiver) == _names(_ITEMS - 100, _ITEMS), "the newest")
    emitted.meter_provider.force_flush()
    for names, counts in zip((SPANS, LOGS), emitted.statistics(), strict=True):
        assert counts.exported[SPOOL_FULL] == _ITEMS - 100
        shown = receiver.last(names.exported, error__type=SPOOL_FULL)
        assert list(shown.values()) == [_ITEMS - 100]


@pytest.mark.slow
def test_item_too_large_for_the_receiver_is_set_aside_and_blocks_nothing(
    receiver: Receiver, started: Any
) -> None:
    """gRPC answers with the status of a receiver that is full for now."""
    limits = PipelineLimits(delay=0.02, batch_items=BATCH, max_attempts=2)
    emitted = started(limits=limits)
    tracer = emitted.tracer_provider.get_tracer("test")
    for name in ("before", "large", "after"):
        span = tracer.start_span(name)
        for number in range(20 if name == "large" else 0):
            span.set_attribute(str(number), "x" * 250_000)
        span.end()
    poll_until(lambda: sorted(_received(receiver)[0]) == ["after", "before"], "its neighbours")

    def set_aside() -> bool:
        # Others go on to be accepted.
        tracer.start_span("later").end()
        return bool(emitted.statistics()[0].exported[UNDELIVERABLE] == 1)

    poll_until(set_aside, "the large one to be set aside", 40, 0.2)


def test_large_items_go_in_several_requests(receiver: Receiver, started: Any) -> None:
    emitted = started()
    logger = emitted.logger_provider.get_logger("test")
    for number in range(18):
        large = {str(n): "x" * 250_000 for n in range(2)}
        logger.emit(body=str(number), attributes=large)
    poll_until(lambda: len(receiver.log_records) == 18, "all of it")
    assert [record.body for record in receiver.log_records] == [str(n) for n in range(18)]


@_on_disk_or_not
def test_hung_receiver_gets_each_batch_once(
    receiver: Receiver, started: Any, *, on_disk: bool
) -> None:
    """The first is on its way and kept, the others are kept; what is tried is empty."""
    receiver.delay()
    emitted = started(on_disk=on_disk)
    emitted.emit(range(_ITEMS))
    poll_until(lambda: emitted.waiting() == [_ITEMS, _ITEMS], "all to be kept")
    receiver.accept()
    poll_until(lambda: [len(each) for each in _received(receiver)] == [_ITEMS] * 2, "all")
    wait_for_counts(emitted, _ITEMS)
    for received in _received(receiver):
        assert sorted(received, key=int) == _names(_ITEMS)[0]
    emitted.assert_even()


@pytest.mark.slow
def test_receiver_that_hangs_for_long_is_not_sent_the_same_again_and_again(
    receiver: Receiver, started: Any
) -> None:
    """It works off all of that later, as one that was stopped by SIGSTOP does."""
    receiver.delay()
    emitted = started(variables={"TIMEOUT": str(0.7 * overload())})
    emitted.emit(range(20))
    # As many as the receiver has threads.
    poll_until(lambda: receiver.attempts == 8, "tries of all kinds")
    receiver.accept()
    poll_until(lambda: emitted.waiting() == [0, 0], "the spool to be empty")
    for received in _received(receiver):
        assert set(received) == set(_names(20)[0])
        # The first batch, whose response came too late, and each other once.
        assert received.count("0") <= 2
        assert received.count("19") == 1


def test_late_response_counts(receiver: Receiver, started: Any) -> None:
    """The response to the first try of a slow receiver is the batch's result."""
    receiver.delay()
    emitted = started()
    emitted.emit(range(10))
    poll_until(lambda: emitted.waiting() == [10, 10], "the batch to be on disk")
    receiver.accept()
    wait_for_counts(emitted, 10)
    assert emitted.waiting() == [0, 0]
    assert _received(receiver) == _names(10)
    emitted.assert_even()


def test_full_disk_leaves_memory_and_is_reported(
    receiver: Receiver,
    started: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = sqlite3.connect

    def connect_full(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *arguments, **options)
        if Path(database).is_relative_to(tmp_path):
            # The lowest limit that SQLite accepts: a write fails as it does on a full disk.
            connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_full)
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    emitted = started()
    tracer = emitted.tracer_provider.get_tracer("test")
    for number in range(_ITEMS):
        tracer.start_span(str(number)).end()
    poll_until(lambda: emitted.dropped()[0], "the queue to be full")
    poll_until(lambda: "telemetry stays in memory" in caplog.text, "the warning")
    assert "disk is full" in caplog.text
    receiver.accept()
    left = _ITEMS - emitted.dropped()[0]
    poll_until(lambda: len(receiver.spans) == left, "what memory held")
    # The oldest were dropped: what happens now is what a person will look for.
    assert receiver.spans[-1].name == str(_ITEMS - 1)


def test_emitting_thread_never_waits_for_the_disk(
    receiver: Receiver, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = threading.Event(), threading.Event()

    def never(self: Spool, body: bytes, items: int, claim_seconds: float = 0.0) -> None:
        stuck.set()
        free.wait(30)

    monkeypatch.setattr(Spool, "append", never)
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    emitted = started()
    tracer = emitted.tracer_provider.get_tracer("test")
    tracer.start_span("first").end()
    assert stuck.wait(20)
    # A span takes some 40 us.
    with takes_at_most(2, factor=1.0):
        for number in range(_ITEMS):
            tracer.start_span(str(number)).end()
    assert not free.is_set()
    assert emitted.dropped()[0] == _ITEMS - 50
    monkeypatch.undo()
    receiver.accept()
    free.set()
    poll_until(lambda: len(receiver.spans) == 51, "the first and the newest")
    emitted.meter_provider.force_flush()
    shown = receiver.last(SPANS.processed, error__type="queue_full")
    assert list(shown.values()) == [_ITEMS - 50]


def test_error_of_our_own_is_a_loss_that_is_counted(
    receiver: Receiver, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted = started()
    monkeypatch.setattr(pipeline, "encode_request", lambda items: 1 / 0)
    emitted.emit(range(10))
    counts = emitted.statistics()
    poll_until(lambda: [each.exported[INTERNAL_ERROR] for each in counts] == [10, 10], "losses")
    monkeypatch.undo()
    emitted.emit(range(10, 20))
    wait_for_counts(emitted, 10)
    assert _received(receiver) == _names(10, 20)
    emitted.assert_even()


def test_client_that_raises_costs_nothing(
    receiver: Receiver, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted = started()
    for signal in (Signal.TRACES, Signal.LOGS):
        client = emitted.delivery.pipelines[signal]._client
        monkeypatch.setattr(client, "send", lambda body: 1 / 0)
    emitted.emit(range(10))
    poll_until(lambda: emitted.waiting() == [10, 10], "all to be kept")
    monkeypatch.undo()
    poll_until(lambda: _received(receiver) == _names(10), "all")
    wait_for_counts(emitted, 10)
    emitted.assert_even()


def test_what_a_metric_makes_of_a_call_cannot_break_the_delivery(
    receiver: Receiver, started: Any
) -> None:
    emitted = started()
    for counts in emitted.statistics():
        counts.on_call = lambda seconds, error_type: 1 / 0
    emitted.emit(range(10))
    wait_for_counts(emitted, 10)
    emitted.assert_even()


def test_last_metrics_count_all_spans_and_log_records(receiver: Receiver, started: Any) -> None:
    emitted = started()
    emitted.emit(range(_ITEMS))
    assert emitted.delivery.flush(60.0)
    wait_for_counts(emitted, _ITEMS)
    emitted.meter_provider.shutdown(timeout_millis=5_000)
    assert emitted.delivery.shutdown(5.0)
    for names in (SPANS, LOGS):
        for name in (names.created, names.processed, names.exported):
            assert sum(receiver.last(name).values()) == _ITEMS


def test_living_process_keeps_one_row_of_sums_and_removes_it(
    receiver: Receiver, started: Any
) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    emitted = started(interval=0.1)
    spool = emitted.delivery.sums.spool
    kept: set[tuple[int, ...]] = set()

    def replaced() -> bool:
        kept.add(tuple(emitted.delivery.sums._kept))
        return len(kept) >= 4

    poll_until(replaced, "sums to take the place of earlier ones")
    assert all(len(numbers) <= 1 for numbers in kept)
    receiver.accept()
    poll_until(spool.is_empty, "the row to be removed")


def test_finaliser_that_logs_while_the_queue_is_used_deadlocks_nothing(
    receiver: Receiver, started: Any
) -> None:
    emitted = started(queue_items=dict.fromkeys((Signal.TRACES, Signal.LOGS), 20))
    logger = emitted.logger_provider.get_logger("test")

    class Logging:
        def __init__(self) -> None:
            self.itself = self  # only the garbage collector frees it

        def __del__(self) -> None:
            logger.emit(body="finalised")

    for _ in range(3_000):
        Logging()
        logger.emit(body="line")
    assert emitted.delivery.flush(20.0)
    queue = emitted.delivery.pipelines[Signal.LOGS].queue
    assert queue.added == queue.taken + queue.dropped
    assert queue.bytes == 0


def test_item_that_only_the_official_encoder_can_encode_is_delivered_and_counted(
    receiver: Receiver, started: Any
) -> None:
    emitted = started()
    later: Any = SimpleNamespace(value=99)  # a severity that this version does not know
    emitted.logger_provider.get_logger("test").emit(body="line", severity_number=later)
    assert emitted.delivery.flush(60.0)
    emitted.meter_provider.force_flush()
    counted = {
        signal: sum(receiver.last("chatscope.encoder.fallbacks", chatscope__signal=signal).values())
        for signal in ("traces", "logs")
    }
    assert counted == {"traces": 0, "logs": 1}
    assert [record.record.severity_number for record in receiver.log_records] == [99]


def test_metric_larger_than_a_request_is_sent_in_parts(receiver: Receiver, started: Any) -> None:
    emitted = started(limits=PipelineLimits(batch_bytes=10_000))
    sent: list[bytes] = []
    client = emitted.delivery.sums._client
    send = client.send

    def record(body: bytes) -> Any:
        sent.append(body)
        return send(body)

    client.send = record
    histogram = emitted.meter_provider.get_meter("test").create_histogram("large")
    for number in range(500):
        histogram.record(1, {"number": number})
    assert emitted.meter_provider.force_flush()
    points = [point for point in receiver.metric_points if point.name == "large"]
    assert {point.attributes["number"] for point in points} == set(range(500))
    assert len(points) == 500
    assert max(map(len, sent)) < 11_000  # the resource and the metric's name are in each


class _Rules:
    """Redacts each text, and notes the thread that does it; fails on one of them."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def suspects(self, data: bytes) -> bool:
        return b"secret" in data or b"unlucky" in data

    def redact(self, found: str, data: bytes) -> str:
        if "unlucky" in found:
            raise RuntimeError("no")
        self.threads.add(threading.current_thread().name)
        return found.replace("secret", "<redacted>")

    def integer(self, found: int) -> int | str:
        return found

    def attribute(self, name: str, value: Any) -> tuple[Any, bool]:
        return value, False


_LONG = 5_000


def test_long_attributes_are_encoded_and_redacted_by_the_sending_thread(
    receiver: Receiver, started: Any
) -> None:
    """Else a prompt of 100 kB would keep the event loop for up to 0.1 s."""
    before = redacting.process.redaction
    rules = _Rules()
    redacting.redact_with(rules)
    try:
        emitted = started()
        attributes = {"short": "a", "long": "secret " * _LONG, "unlucky": "unlucky " * _LONG}
        tracer = emitted.tracer_provider.get_tracer("test")
        tracer.start_span("prompt", attributes=attributes).end()
        emitted.logger_provider.get_logger("test").emit(body="prompt", attributes=attributes)
        assert emitted.delivery.flush(20.0)
        poll_until(lambda: _received(receiver) == [["prompt"], ["prompt"]], "both")
    finally:
        redacting.redact_with(before)
    expected = {"short": "a", "long": "<redacted> " * _LONG}
    assert receiver.spans[0].attributes == expected
    assert receiver.log_records[0].attributes == expected
    assert rules.threads == {"otlp-traces", "otlp-logs"}
    emitted.assert_even()
