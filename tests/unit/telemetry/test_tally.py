"""Many values of a histogram, recorded at once: the metric is that of single records."""

import random
import time
from collections.abc import Iterator
from statistics import mean
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from chatscope import Telemetry, names
from chatscope.genai.answer import Answer
from chatscope.genai.request import ModelRequest, Usage
from chatscope.instruments import histogram
from chatscope.providers import VIEWS, TelemetrySettings, build_providers
from chatscope.tally import Tally
from tests.receiver import Receiver

_METRIC = names.CLIENT_TIME_PER_OUTPUT_CHUNK
_BUCKETS = _METRIC.buckets or ()
_CHUNKS = 16_000
# Each run is disturbed by others on the machine; the work is the same in all.
_RUNS = 10
# How much longer the same work may take while the processors are shared.
_BUSY = 3


class _Recorded:
    """One histogram, and its point."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        provider = MeterProvider([self._reader], shutdown_on_exit=False, views=VIEWS)
        self.histogram: Histogram = histogram(provider.get_meter("test"), _METRIC)

    def record(self, values: list[float]) -> None:
        for value in values:
            self.histogram.record(value, {"a": 1}, context.get_current())

    def record_at_once(self, values: list[float]) -> None:
        tally = Tally(_BUCKETS)
        for value in values:
            tally.add(value)
        tally.record(self.histogram, {"a": 1}, context.get_current())

    def point(self) -> HistogramDataPoint | None:
        found: Any = self._reader.get_metrics_data()
        if found is None:
            return None
        [metric] = found.resource_metrics[0].scope_metrics[0].metrics
        [point] = metric.data.data_points
        return point  # type: ignore[no-any-return]


def _values(count: int) -> list[float]:
    random.seed(count)
    # Values on the boundaries, below and above all of them.
    return [random.choice([*_BUCKETS, 0.0, 1e6, random.random()]) for _ in range(count)]  # noqa: S311


@pytest.mark.parametrize("count", [1, 2, 10, 3_000])
def test_point_is_that_of_single_records(count: int) -> None:
    single, at_once = _Recorded(), _Recorded()
    for values in (_values(count), [0.25], _values(count + 1)):
        single.record(values)
        if len(values) == 1:
            at_once.record(values)
        else:
            at_once.record_at_once(values)
    wanted, found = single.point(), at_once.point()
    assert wanted is not None
    assert found is not None
    assert found.attributes == wanted.attributes
    assert found.bucket_counts == wanted.bucket_counts
    assert (found.count, found.min, found.max) == (wanted.count, wanted.min, wanted.max)
    assert found.sum == pytest.approx(wanted.sum)


def test_no_values_make_no_point() -> None:
    recorded = _Recorded()
    recorded.record_at_once([])
    assert recorded.point() is None


def test_each_bucket_has_its_newest_value_as_exemplar() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(7, 8, False, trace.TraceFlags(1)))
    values = [_BUCKETS[0] / 2, _BUCKETS[0] / 4, _BUCKETS[2], _BUCKETS[-1] * 2]
    recorded, tally = _Recorded(), Tally(_BUCKETS)
    for value in values:
        tally.add(value)
    tally.record(recorded.histogram, {}, trace.set_span_in_context(span))
    point = recorded.point()
    assert point is not None
    found = {(exemplar.value, exemplar.trace_id) for exemplar in point.exemplars}
    assert found == {(value, 7) for value in values[1:]}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def telemetry(receiver: Receiver) -> Iterator[Telemetry]:
    settings = TelemetrySettings(endpoint=receiver.endpoint, known_models=frozenset({"model"}))
    telemetry = Telemetry(settings, build_providers(settings))
    telemetry.start()
    yield telemetry
    telemetry.shutdown()


def _answer(telemetry: Telemetry) -> Answer:
    request = ModelRequest(provider="simulated", model="model", stream=True)
    return telemetry.start_answer(request, started=time.perf_counter())


def _streamed(answer: Answer) -> tuple[float, float]:
    """CPU seconds of a chunk on average, and of the largest step: a chunk, or the end."""
    steps = []
    for _ in range(_CHUNKS):
        started = time.thread_time()
        answer.received("text")
        answer.sent()
        steps.append(time.thread_time() - started)
    started = time.thread_time()
    answer.completed(finish_reason="stop", usage=Usage(5, _CHUNKS))
    steps.append(time.thread_time() - started)
    started = time.thread_time()
    answer.close()
    steps.append(time.thread_time() - started)
    return mean(steps), max(steps)


def test_end_of_a_long_response_holds_the_event_loop_for_less_than_a_millisecond(
    telemetry: Telemetry, receiver: Receiver
) -> None:
    runs = [_streamed(_answer(telemetry)) for _ in range(_RUNS)]
    assert min(largest for _, largest in runs) < 0.001 * _BUSY
    assert min(each for each, _ in runs) < 0.000_002 * _BUSY
    assert telemetry.shutdown()
    [count] = receiver.last(_METRIC.name).values()
    assert count == _RUNS * (_CHUNKS - 1)
