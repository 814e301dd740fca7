"""Many values of a histogram, recorded at once: the metric is that of single records."""

import os
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from statistics import mean
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric, Sum
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chatscope import Telemetry, names, sdk_values
from chatscope.genai.answer import Answer
from chatscope.genai.request import ModelRequest, Usage
from chatscope.instruments import Instruments, histogram
from chatscope.names import PREFIX
from chatscope.providers import TelemetrySettings, build_providers, build_views
from chatscope.tally import Tallies
from tests.elapsed import overload
from tests.receiver import Receiver

_METRIC = names.CLIENT_TIME_PER_OUTPUT_CHUNK
_BUCKETS = _METRIC.buckets or ()
_CHUNKS = 16_000
# Each run is disturbed by others on the machine; the work is the same in all.
_RUNS = 10
# How much longer the same work may take while the processors are shared.
_BUSY = 3


class _Recorded:
    """One histogram of the SDK, and one of tallies, which are exported together."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        provider = MeterProvider([self._reader], shutdown_on_exit=False, views=build_views(PREFIX))
        meter = provider.get_meter("test")
        self.histogram: Histogram = histogram(meter, _METRIC)
        meter.create_counter("other").add(1)
        self.tallies = Tallies(InstrumentationScope("test"))

    def record(self, values: list[float]) -> None:
        for value in values:
            self.histogram.record(value, {"a": 1}, context.get_current())

    def record_at_once(
        self, values: list[float], at: Context | None = None, **attributes: Any
    ) -> None:
        tally = self.tallies.histogram(_METRIC).tally()
        for value in values:
            tally.add(value)
        tally.record(attributes or {"a": 1}, at or context.get_current())

    def metric(self) -> Metric | None:
        collected = self._reader.get_metrics_data()
        assert collected is not None
        [resource] = self.tallies.added_to(collected).resource_metrics
        [scope] = resource.scope_metrics
        found = [metric for metric in scope.metrics if metric.name == _METRIC.name]
        assert len(found) <= 1
        return found[0] if found else None

    def points(self) -> list[HistogramDataPoint]:
        found: Any = self.metric()
        return [] if found is None else list(found.data.data_points)


def _values(count: int) -> list[float]:
    random.seed(count)
    # Values on the boundaries, below and above all of them.
    return [random.choice([*_BUCKETS, 0.0, 1e6, random.random()]) for _ in range(count)]  # noqa: S311


@pytest.mark.parametrize("count", [1, 2, 10, 3_000])
def test_metric_equals_that_of_single_records(count: int) -> None:
    single, at_once = _Recorded(), _Recorded()
    for values in (_values(count), [0.25], _values(count + 1)):
        single.record(values)
        at_once.record_at_once(values)
    wanted, found = single.metric(), at_once.metric()
    assert wanted is not None
    assert found is not None
    assert (found.name, found.unit) == (wanted.name, wanted.unit)
    assert found.description == wanted.description
    assert type(found.data) is type(wanted.data)
    assert found.data.aggregation_temporality == wanted.data.aggregation_temporality  # type: ignore[union-attr]
    [point], [expected] = at_once.points(), single.points()
    assert point.attributes == expected.attributes
    assert point.bucket_counts == expected.bucket_counts
    assert point.explicit_bounds == expected.explicit_bounds
    assert (point.count, point.min, point.max) == (expected.count, expected.min, expected.max)
    assert point.sum == pytest.approx(expected.sum)
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano


def test_collection_does_not_reset_the_sum() -> None:
    recorded = _Recorded()
    recorded.record_at_once([1.0, 2.0])
    [first] = recorded.points()
    recorded.record_at_once([4.0])
    [second] = recorded.points()
    assert (first.count, second.count, second.sum) == (2, 3, 7.0)
    assert second.start_time_unix_nano == first.start_time_unix_nano


def test_forked_process_begins_at_zero() -> None:
    recorded = _Recorded()
    recorded.record_at_once([1.0, 2.0])
    with warnings.catch_warnings():
        # Python 3.12 warns of forks while there are other threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(len(recorded.points()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(recorded.points()) == 1


def test_values_are_forgotten_when_they_are_cleared() -> None:
    recorded = _Recorded()
    recorded.record_at_once([1.0, 2.0])
    recorded.tallies.clear()
    assert recorded.points() == []
    recorded.record_at_once([4.0])
    [point] = recorded.points()
    assert (point.count, point.sum) == (1, 4.0)


@dataclass(eq=False)
class _Changing:
    """Is the same key, and another value."""

    size: int


def test_value_that_has_changed_since_makes_another_point() -> None:
    recorded, changing = _Recorded(), _Changing(1)
    recorded.record_at_once([1.0], of=changing)
    changing.size = 2
    recorded.record_at_once([1.0], of=changing)
    assert len(recorded.points()) == 2


def test_no_values_make_no_point() -> None:
    recorded = _Recorded()
    recorded.record_at_once([])
    assert recorded.points() == []


def test_each_set_of_attributes_has_a_point_up_to_the_limit() -> None:
    recorded = _Recorded()
    for number in range(2_003):
        recorded.record_at_once([1.0], number=number)
    points = recorded.points()
    assert len(points) == 2_001
    [overflow] = [point for point in points if "number" not in (point.attributes or {})]
    assert (overflow.attributes, overflow.count) == ({"otel.metric.overflow": True}, 3)


def test_metrics_without_this_scope_get_it() -> None:
    recorded = _Recorded()
    other = Tallies(InstrumentationScope("other", "1"))
    other.histogram(_METRIC).tally().record({}, context.get_current())
    tally = other.histogram(_METRIC).tally()
    tally.add(1.0)
    tally.record({}, context.get_current())
    collected = recorded._reader.get_metrics_data()
    assert collected is not None
    [resource] = other.added_to(collected).resource_metrics
    assert [scope.scope.name for scope in resource.scope_metrics] == ["test", "other"]


_SPAN = trace.NonRecordingSpan(trace.SpanContext(7, 8, False, trace.TraceFlags(1)))
_UNSAMPLED = trace.NonRecordingSpan(trace.SpanContext(7, 8, False, trace.TraceFlags(0)))


def test_each_bucket_has_its_newest_value_as_exemplar() -> None:
    values = [_BUCKETS[0] / 2, _BUCKETS[0] / 4, _BUCKETS[2], _BUCKETS[-1] * 2]
    recorded = _Recorded()
    recorded.record_at_once(values, trace.set_span_in_context(_SPAN))
    [point] = recorded.points()
    found = {(exemplar.value, exemplar.trace_id) for exemplar in point.exemplars}
    assert found == {(value, 7) for value in values[1:]}


def test_span_that_is_not_sampled_is_no_exemplar() -> None:
    recorded = _Recorded()
    recorded.record_at_once([1.0], trace.set_span_in_context(_UNSAMPLED))
    [point] = recorded.points()
    assert point.exemplars == []


class _Level(IntEnum):
    HIGH = 3


_ODD_ATTRIBUTES: list[Any] = [
    None,
    {},
    {"a": 1, "b": "two", "c": True, "d": 0.5},
    {"model": _Level.HIGH, "list": ["x", "y"]},
    {"deep": {"list": [1, {"b": 2}]}},
    {"object": object(), "": "no name"},
]


def _made_by_both(use: Callable[[Instruments], None]) -> list[dict[str, Any]]:
    """Return the points of the SDK's instruments, and of the tallied ones."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, views=build_views(PREFIX))
    sdk_values.install()
    meter = provider.get_meter("test")
    use(Instruments(meter))
    tallies = Tallies(InstrumentationScope("test"))
    use(Instruments(meter, tallies=tallies))
    data = reader.get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    return [_facts(scope.metrics), _facts(tallies.collect())]


def _facts(metrics: Iterable[Metric]) -> dict[str, Any]:
    times = ("start_time_unix_nano", "time_unix_nano")
    found: dict[str, Any] = {}
    for metric in metrics:
        data: Any = metric.data
        kind = (type(data), getattr(data, "is_monotonic", None), data.aggregation_temporality)
        points = []
        for point in data.data_points:
            facts = {key: value for key, value in vars(point).items() if key not in times}
            # The SDK chooses one of a counter's values by chance.
            is_sum = isinstance(data, Sum)
            facts["exemplars"] = [(is_sum or each.value, each.trace_id) for each in point.exemplars]
            points.append(facts)
        found[metric.name] = (kind, metric.unit, metric.description, points)
    return found


@pytest.mark.parametrize("attributes", _ODD_ATTRIBUTES)
def test_single_values_make_the_points_of_the_sdk(attributes: Any) -> None:
    sampled, unsampled = (trace.set_span_in_context(each) for each in (_SPAN, _UNSAMPLED))

    def use(made: Instruments) -> None:
        for value in (0.5, 7, 0, -1, Decimal("1.5"), _Level.HIGH):
            made.inference_duration.record(value, attributes, sampled)  # type: ignore[arg-type]
            made.websocket_messages.add(value, attributes, sampled)  # type: ignore[arg-type]
            made.answers_active.add(value, attributes, sampled)  # type: ignore[arg-type]
        made.input_tokens.record(2, attributes, unsampled)
        made.answers_active.add(-5, attributes, unsampled)

    wanted, found = _made_by_both(use)
    assert len(found) == 4
    assert found == wanted


def test_a_value_that_is_no_number_raises_as_in_the_sdk() -> None:
    made: Any
    for made in (Tallies(InstrumentationScope("test")).sum(names.LLM_COST), _sdk_counter()):
        with pytest.raises((TypeError, ValueError)):
            made.add("many")


def _sdk_counter() -> Any:
    sdk_values.install()
    return MeterProvider(shutdown_on_exit=False).get_meter("test").create_counter("counter")


def test_values_are_recorded_in_the_current_context_by_default() -> None:
    tallies = Tallies(InstrumentationScope("test"))
    with trace.use_span(_SPAN):
        tallies.sum(names.LLM_COST).add(0.5)
    [metric] = tallies.collect()
    [point] = metric.data.data_points
    assert [each.trace_id for each in point.exemplars] == [7]


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
    assert min(largest for _, largest in runs) < 0.001 * _BUSY * overload()
    assert min(each for each, _ in runs) < 0.000_002 * _BUSY * overload()
    assert telemetry.shutdown()
    [count] = receiver.last(_METRIC.name).values()
    assert count == _RUNS * (_CHUNKS - 1)
