"""A Collector that is away, refuses or hangs: what is kept, what is lost, and who is told."""

from collections.abc import Iterator

import grpc
import pytest
from app.telemetry.ledger import INTERNAL_ERROR, QUEUE_FULL, REFUSED, Ledger
from app.telemetry.patience import PatientExporter

from app.telemetry import names
from app.telemetry.setup import Providers, TelemetrySettings, build_providers
from stack.waiting import poll_until
from tests.receiver import Receiver

_ITEMS = 300


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def _providers(receiver: Receiver, *, queue: int = 1000) -> Providers:
    return build_providers(
        TelemetrySettings(
            endpoint=receiver.endpoint,
            metric_interval_ms=100,
            span_queue=queue,
            log_queue=queue,
            span_batch=10,
            log_batch=10,
        )
    )


def _emit(providers: Providers, items: int = _ITEMS) -> None:
    tracer = providers.tracer_provider.get_tracer("test")
    logger = providers.logger_provider.get_logger("test")
    for number in range(items):
        tracer.start_span(f"span {number}").end()
        logger.emit(body=f"record {number}")


def _ledgers(providers: Providers) -> list[Ledger]:
    return [pipeline.ledger for pipeline in providers.pipelines]


def _received(receiver: Receiver) -> tuple[int, int]:
    return len(receiver.spans), len(receiver.log_records)


def test_in_health_the_account_is_even(receiver: Receiver) -> None:
    providers = _providers(receiver)
    _emit(providers)
    assert providers.shutdown(20.0) is True
    assert _received(receiver) == (_ITEMS, _ITEMS)
    for ledger in _ledgers(providers):
        assert (ledger.created, ledger.exported[""], ledger.lost()) == (_ITEMS, _ITEMS, 0)


@pytest.mark.parametrize(
    "status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_outage_within_the_queue_costs_nothing(
    receiver: Receiver, status: grpc.StatusCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In seconds: the SDK's exporter gives a batch up at its first refusal.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    receiver.refuse_with(status)
    providers = _providers(receiver)
    _emit(providers)
    poll_until(lambda: receiver.attempts > 5, "exports to be refused")
    assert _received(receiver) == (0, 0)
    receiver.accept()
    poll_until(lambda: _received(receiver) == (_ITEMS, _ITEMS), "everything to arrive")
    assert [ledger.lost() for ledger in _ledgers(providers)] == [0, 0]
    assert providers.shutdown(20.0) is True
    assert len({span.name for span in receiver.spans}) == _ITEMS


def test_what_the_queue_cannot_hold_is_counted_and_shown(receiver: Receiver) -> None:
    receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    providers = _providers(receiver, queue=100)
    _emit(providers)
    receiver.accept()
    spans, logs = _ledgers(providers)
    assert spans.dropped[QUEUE_FULL] > 0

    def even() -> bool:
        arrived = _received(receiver)
        return arrived == (_ITEMS - spans.lost(), _ITEMS - logs.lost())

    poll_until(even, "arrived and lost to make up all")
    # The oldest go first: what happens now is what a person will look for.
    assert f"span {_ITEMS - 1}" in {span.name for span in receiver.spans}
    providers.shutdown(20.0)
    for metric, ledger in ((names.SPANS_DROPPED, spans), (names.LOGS_DROPPED, logs)):
        shown = receiver.last(metric.name, error__type=QUEUE_FULL)
        assert list(shown.values()) == [ledger.dropped[QUEUE_FULL]]


def test_batch_refused_for_good_is_counted_and_holds_nothing_up(receiver: Receiver) -> None:
    receiver.refuse_with(grpc.StatusCode.INVALID_ARGUMENT)
    providers = _providers(receiver)
    _emit(providers, 10)
    spans, logs = _ledgers(providers)
    poll_until(lambda: spans.exported[REFUSED] == logs.exported[REFUSED] == 10, "the refusal")
    receiver.accept()
    _emit(providers, 10)
    poll_until(lambda: _received(receiver) == (10, 10), "what came after")
    assert providers.shutdown(20.0) is True
    assert list(receiver.last(names.SPANS_EXPORTED.name, error__type=REFUSED).values()) == [10]


def test_fault_of_our_own_is_a_loss_that_is_counted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = _providers(receiver)
    monkeypatch.setattr(PatientExporter, "_attempt", lambda self, body, items: None)
    _emit(providers, 10)
    ledgers = _ledgers(providers)
    poll_until(lambda: [x.dropped[INTERNAL_ERROR] for x in ledgers] == [10, 10], "the losses")
    monkeypatch.undo()
    _emit(providers, 10)
    assert providers.shutdown(20.0) is True
    assert _received(receiver) == (10, 10)


def test_last_metrics_tell_of_all_spans_and_logs(receiver: Receiver) -> None:
    providers = _providers(receiver)
    _emit(providers)
    providers.shutdown(20.0)
    exported = receiver.last(names.SPANS_EXPORTED.name)
    assert list(exported.values()) == [_ITEMS]
    assert list(receiver.last(names.LOGS_EXPORTED.name).values()) == [_ITEMS]
    assert list(receiver.last(names.SPANS_CREATED.name).values()) == [_ITEMS]


@pytest.mark.parametrize("trouble", ["hangs", "is gone"])
def test_end_without_a_collector_is_bounded_and_says_what_is_lost(
    receiver: Receiver, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK alone waits for half a minute a signal here, and reports success."""
    if trouble == "hangs":
        receiver.hang()
    else:
        receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
    providers = _providers(receiver)
    _emit(providers)
    assert providers.shutdown(1.0) is False
    said = caplog.text
    assert f"{_ITEMS} spans lost at the end" in said
    assert f"{_ITEMS} log records lost at the end" in said


def test_waiting_exporter_holds_up_nobody(receiver: Receiver) -> None:
    """The emitting thread goes on while the exporter's is stuck in a call."""
    receiver.hang()
    providers = _providers(receiver, queue=50)
    _emit(providers, 1)
    poll_until(lambda: receiver.attempts > 0, "the exporter to be stuck")
    _emit(providers)
    assert _ledgers(providers)[0].created == _ITEMS + 1
    receiver.accept()
    providers.shutdown(1.0)
