"""A Collector that is away while there is a disk: nothing waits in memory, all of it arrives."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import grpc
import pytest
from app.telemetry.ledger import QUEUE_FULL, REFUSED, Ledger
from app.telemetry.spool import SPOOL_FULL, Spool
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.telemetry import last_sums, names, replay, spool
from app.telemetry.instrument import instrument
from app.telemetry.setup import Providers, TelemetrySettings, build_providers
from stack.waiting import poll_until
from tests.receiver import Receiver

_ITEMS = 300
_SIGNALS = ("spans", "log records")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


Start = Callable[..., Providers]


@pytest.fixture
def start(receiver: Receiver, tmp_path: Path) -> Iterator[Start]:
    """Starts what a process of the service has: all of them share one directory."""
    started = []

    def start(*, directory: Path = tmp_path / "spool", spool_bytes: int = 10_000_000) -> Providers:
        providers = build_providers(_settings(receiver.endpoint, directory, spool_bytes))
        started.append(providers)
        return providers

    yield start
    for providers in started:
        providers.shutdown(1.0)


def _settings(endpoint: str, directory: Path, spool_bytes: int = 10_000_000) -> TelemetrySettings:
    return TelemetrySettings(
        endpoint=endpoint,
        metric_interval_ms=100,
        span_delay_ms=20,
        log_delay_ms=20,
        # What waits in memory would be dropped.
        span_queue=50,
        log_queue=50,
        span_batch=10,
        log_batch=10,
        spool_dir=directory,
        spool_bytes=spool_bytes,
    )


def _emit(providers: Providers, numbers: Sequence[int] = range(_ITEMS), name: str = "") -> None:
    """As fast as the exporters take it: the queues of these tests are short."""
    tracer = providers.tracer_provider.get_tracer("test")
    logger = providers.logger_provider.get_logger("test")
    for number in numbers:
        tracer.start_span(f"{name}{number}").end()
        logger.emit(body=f"{name}{number}")
        if number % 10 == 9:
            poll_until(lambda: not any(ledger.queued for ledger in _ledgers(providers)), "room")


def _ledgers(providers: Providers) -> list[Ledger]:
    return [pipeline.ledger for pipeline in providers.pipelines]


def _counted(providers: Providers) -> list[int]:
    """The last batch counts when its sender has heard that it arrived."""
    return [ledger.exported[""] for ledger in _ledgers(providers)]


def _kept(*providers: Providers) -> list[int]:
    """On disk, spans and log records, as all these processes together tell."""
    return [
        sum(each.pipelines[index].waiting().items for each in providers)
        for index in range(len(_SIGNALS))
    ]


def _received(receiver: Receiver) -> list[list[str]]:
    return [
        [span.name for span in receiver.spans],
        [record.body for record in receiver.log_records],
    ]


def _in_order(numbers: Sequence[int] = range(_ITEMS), name: str = "") -> list[list[str]]:
    return [[f"{name}{number}" for number in numbers]] * 2


@pytest.mark.parametrize(
    "status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_outage_beyond_the_queue_costs_nothing(
    receiver: Receiver, start: Start, status: grpc.StatusCode
) -> None:
    receiver.refuse_with(status)
    providers = start()
    _emit(providers)
    poll_until(lambda: _kept(providers) == [_ITEMS, _ITEMS], "all to be on disk")
    receiver.accept()
    poll_until(lambda: _received(receiver) == _in_order(), "all to arrive, once, in order")
    poll_until(lambda: _kept(providers) == [0, 0], "the disk to be empty")
    _emit(providers, range(_ITEMS, _ITEMS + 10))
    wanted = _in_order(range(_ITEMS + 10))
    poll_until(lambda: _received(receiver) == wanted, "what came after")
    poll_until(lambda: _counted(providers) == [_ITEMS + 10] * 2, "all to be counted")
    assert [ledger.lost() for ledger in _ledgers(providers)] == [0, 0]


def test_in_health_nothing_touches_the_disk(receiver: Receiver, start: Start) -> None:
    providers = start()
    appended = []
    for pipeline in providers.pipelines:
        assert pipeline.disk
        pipeline.disk.spool.append = lambda *args, **kwargs: appended.append(args)  # type: ignore
    _emit(providers)
    poll_until(lambda: _received(receiver) == _in_order(), "all to arrive")
    assert not appended


def test_what_comes_after_waits_behind_what_is_on_disk(receiver: Receiver, start: Start) -> None:
    """Loki takes no line that is an hour older than its stream's newest."""
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    providers = start()
    _emit(providers, range(100))
    receiver.accept()
    _emit(providers, range(100, 200))
    poll_until(lambda: _received(receiver) == _in_order(range(200)), "all, in order")


def test_killed_process_leaves_all_to_the_next(
    receiver: Receiver, start: Start, tmp_path: Path
) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    program = f"""
import signal, sys
from pathlib import Path
from tests.unit.telemetry.test_replay import _emit, _kept, _settings
from app.telemetry.setup import build_providers
from stack.waiting import poll_until
providers = build_providers(_settings("{receiver.endpoint}", Path(sys.argv[1])))
_emit(providers, range({_ITEMS}))
poll_until(lambda: _kept(providers) == [{_ITEMS}, {_ITEMS}], "all to be on disk")
print("kept", flush=True)
signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "spool")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "kept\n"
        os.kill(process.pid, signal.SIGKILL)
    receiver.accept()
    providers = start()
    _emit(providers, range(_ITEMS, _ITEMS + 10))
    wanted = _in_order(range(_ITEMS + 10))
    poll_until(lambda: _received(receiver) == wanted, "the old, then the new, each once")


def test_workers_share_the_disk_and_one_of_them_empties_it(
    receiver: Receiver, start: Start
) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    workers = [start(), start()]
    threads = [
        threading.Thread(target=_emit, args=(worker, range(_ITEMS), name))
        for worker, name in zip(workers, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = [2 * _ITEMS, 2 * _ITEMS]
    poll_until(lambda: _kept(*workers) == both, "one worker to tell of all")
    receiver.accept()
    poll_until(lambda: [len(each) for each in _received(receiver)] == both, "all to arrive")
    for received in _received(receiver):
        for name in "ab":
            own = [each for each in received if each.startswith(name)]
            assert own == [f"{name}{number}" for number in range(_ITEMS)]

    def exported() -> int:
        return sum(sum(_counted(worker)) for worker in workers)

    poll_until(lambda: exported() >= 4 * _ITEMS, "all to be counted")
    assert exported() == 4 * _ITEMS


def test_another_worker_takes_over(receiver: Receiver, start: Start) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    first = start()
    poll_until(lambda: all(p.disk and p.disk.spool.lead() for p in first.pipelines), "the first")
    second = start()
    _emit(second)
    first.shutdown(1.0)
    receiver.accept()
    poll_until(lambda: _received(receiver) == _in_order(), "all to arrive")


def test_worker_that_waits_to_try_again_is_not_taken_for_dead(
    receiver: Receiver, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "pauses", lambda: repeat(60.0))
    monkeypatch.setattr(replay, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(spool, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(spool, "_LEASE_SECONDS", 0.8)
    monkeypatch.setattr(spool, "_GRACE_SECONDS", 0.0)
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    _emit(providers := start(), range(10))
    poll_until(lambda: _kept(providers) == [10, 10], "it to send what is on disk")
    other = Spool(tmp_path / "spool" / "spans.db", 1_000_000, lambda items, reason: None)
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        assert not other.lead()
        time.sleep(0.1)
    other.close()


def test_at_the_bound_the_oldest_are_dropped_counted_and_shown(
    receiver: Receiver, start: Start
) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    # Ten batches of a page for each signal.
    providers = start(spool_bytes=20 * 4096)
    _emit(providers)
    ledgers = _ledgers(providers)
    poll_until(lambda: all(_even(ledger, kept) for ledger, kept in _account(providers)), "even")
    receiver.accept()
    poll_until(lambda: _kept(providers) == [0, 0], "the disk to be empty")
    for ledger, received in zip(ledgers, _received(receiver), strict=True):
        dropped = ledger.dropped[SPOOL_FULL]
        assert dropped >= 100
        assert received == [str(number) for number in range(dropped, _ITEMS)]
    providers.shutdown(5.0)
    shown = receiver.last(names.SPANS_DROPPED.name, error__type=SPOOL_FULL)
    assert list(shown.values()) == [ledgers[0].dropped[SPOOL_FULL]]


def _account(providers: Providers) -> list[tuple[Ledger, int]]:
    return list(zip(_ledgers(providers), _kept(providers), strict=True))


def _even(ledger: Ledger, kept: int) -> bool:
    return ledger.created == ledger.lost() + kept


def test_batch_refused_for_good_blocks_nothing(receiver: Receiver, start: Start) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    providers = start()
    _emit(providers, range(20))
    poll_until(lambda: _kept(providers) == [20, 20], "both batches to be on disk")
    receiver.refuse_with(grpc.StatusCode.INVALID_ARGUMENT)
    ledgers = _ledgers(providers)
    poll_until(lambda: all(ledger.exported[REFUSED] for ledger in ledgers), "a refusal")
    receiver.accept()
    _emit(providers, range(20, 30))

    def even() -> bool:
        return all(len(r) == 30 - x.lost() for r, x in zip(_received(receiver), ledgers))  # noqa: B905

    poll_until(even, "what was not refused")
    assert all("29" in received for received in _received(receiver))


def test_item_too_large_for_any_collector_is_refused_and_blocks_nothing(
    receiver: Receiver, start: Start
) -> None:
    """gRPC says of it what it says of a Collector that is full for now."""
    providers = start()
    tracer = providers.tracer_provider.get_tracer("test")
    for name in ("before", "large", "after"):
        span = tracer.start_span(name)
        for number in range(20 if name == "large" else 0):
            span.set_attribute(str(number), "x" * 250_000)
        span.end()
    poll_until(lambda: _received(receiver)[0] == ["before", "after"], "its neighbours")
    assert _ledgers(providers)[0].exported[REFUSED] == 1


def test_batch_too_large_goes_in_parts(receiver: Receiver, start: Start) -> None:
    providers = start()
    logger = providers.logger_provider.get_logger("test")
    for number in range(18):
        large = {str(n): "x" * 250_000 for n in range(2)}
        logger.emit(body=str(number), attributes=large)
    poll_until(lambda: len(receiver.log_records) == 18, "all of it")
    assert [record.body for record in receiver.log_records] == [str(n) for n in range(18)]


def test_hanging_collector_gets_each_batch_once(receiver: Receiver, start: Start) -> None:
    """The first is on its way and on disk, the others on disk; what is tried is empty."""
    receiver.hang()
    providers = start()
    _emit(providers)
    poll_until(lambda: _kept(providers) == [_ITEMS, _ITEMS], "all to be on disk")
    receiver.accept()
    poll_until(lambda: _received(receiver) == _in_order(), "all to arrive, once, in order")


def test_collector_that_hangs_for_long_is_not_sent_the_same_again_and_again(
    receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works off all of that later, as one that was stopped by SIGSTOP does."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    receiver.delay()
    providers = start()
    _emit(providers, range(20))
    # As many as the receiver has threads.
    poll_until(lambda: receiver.attempts == 8, "tries of all kinds")
    receiver.accept()
    poll_until(lambda: _kept(providers) == [0, 0], "the disk to be empty")
    for received in _received(receiver):
        assert set(received) == {str(number) for number in range(20)}
        # The first batch, whose answer nobody awaited any more, and each other once.
        assert received.count("0") <= 2
        assert received.count("19") == 1


def test_late_answer_counts(receiver: Receiver, start: Start) -> None:
    """A Collector that is slow, not away: its answer to the first try ends the matter."""
    receiver.delay()
    providers = start()
    _emit(providers, range(10))
    poll_until(lambda: _kept(providers) == [10, 10], "the batch to be on disk")
    receiver.accept()
    poll_until(lambda: _kept(providers) == [0, 0], "the answer")
    assert _received(receiver) == _in_order(range(10))
    poll_until(lambda: _counted(providers) == [10, 10], "all to be counted")


def test_end_without_a_collector_keeps_all_and_says_so(
    receiver: Receiver, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.hang()
    providers = start()
    _emit(providers, range(40))
    providers.shutdown(5.0)
    for signal_name in _SIGNALS:
        assert f"40 {signal_name} kept on disk" in caplog.text
    assert "lost at the end" not in caplog.text
    receiver.accept()
    start()
    poll_until(lambda: _received(receiver) == _in_order(range(40)), "the next start's replay")


def test_full_disk_leaves_memory_and_is_told(
    receiver: Receiver, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        providers = start()
        for number in range(_ITEMS):
            providers.tracer_provider.get_tracer("t").start_span(str(number)).end()
        spans = _ledgers(providers)[0]
        poll_until(lambda: spans.dropped[QUEUE_FULL], "the queue to be full")
        assert "telemetry waits in memory" in caplog.text
        receiver.accept()
        poll_until(lambda: len(receiver.spans) == _ITEMS - spans.lost(), "what memory held")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_killed_process_leaves_its_last_sums_to_the_next(
    receiver: Receiver, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_sums, "_HOLD_SECONDS", 1.0)
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    dead = start()
    _emit(dead, range(20))
    # As SIGKILL does: nothing more of it, and its files let go.
    disk = dead.metrics_disk
    assert disk
    poll_until(lambda: b"otel.sdk.span.started" in _last_row(disk.spool), "sums on disk")
    poll_until(lambda: _started(_last_row(disk.spool)) == 20, "the last sums on disk")
    monkeypatch.setattr(last_sums.LastSums, "export", lambda self, data, **_: None)
    disk.close()
    for pipeline in dead.pipelines:
        pipeline.shutdown()
    monkeypatch.undo()
    receiver.accept()
    start()

    def all_started() -> bool:
        return 20 in receiver.last(names.SPANS_CREATED.name).values()

    poll_until(all_started, "the dead one's sums")


def _last_row(spool: Spool) -> bytes:
    batch = spool.oldest()
    return batch.body if batch else b""


def _started(body: bytes) -> int:
    request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(body)
    return sum(
        point.as_int
        for resources in request.resource_metrics
        for scope in resources.scope_metrics
        for metric in scope.metrics
        if metric.name == names.SPANS_CREATED.name
        for point in metric.sum.data_points
    )


def test_living_process_keeps_one_row_of_sums_and_takes_it_back(
    receiver: Receiver, start: Start
) -> None:
    receiver.hang()
    providers = start()
    disk = providers.metrics_disk
    assert disk
    numbers = set()

    def three() -> bool:
        if batch := disk.spool.oldest():
            numbers.add(batch.number)
        return len(numbers) >= 3

    poll_until(three, "sums to be put in the place of earlier ones")
    first = disk.spool.oldest()
    assert first is None or disk.spool.oldest(first.number) is None
    receiver.accept()
    poll_until(disk.spool.is_empty, "the row to be gone")


def test_clock_that_is_set_back_holds_nothing_for_long(
    receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.hang()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86_400)
    _emit(killed := start(), range(10))
    poll_until(lambda: _kept(killed) == [10, 10], "the batch to be on disk")
    for pipeline in killed.pipelines:
        assert pipeline.disk
        pipeline.disk.close()
    monkeypatch.undo()
    receiver.accept()
    start()
    poll_until(lambda: _received(receiver) == _in_order(range(10)), "it to be sent")


def test_no_request_waits_for_the_disk(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = threading.Event(), threading.Event()

    def never(self: Spool, body: bytes, items: int, hold_seconds: float = 0.0) -> None:
        stuck.set()
        free.wait()

    monkeypatch.setattr(Spool, "append", never)
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("answered")

    app = Starlette(routes=[Route("/", answer)])
    instrument(app, _settings(receiver.endpoint, tmp_path))
    with TestClient(app) as client:
        client.get("/")
        assert stuck.wait(30)
        # More than the queue holds.
        answers = [client.get("/").text for _ in range(100)]
        assert not free.is_set()
        assert answers == ["answered"] * 100
        free.set()
