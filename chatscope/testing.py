"""Helpers for tests: telemetry that is kept in memory, and assertions about it.

    from chatscope.testing import recorded

    def test_item_is_shown():
        with recorded() as memory:
            client = TestClient(create_app())      # calls configure() and instrument()
            client.get("/items/42")
        assert memory.span("GET /items/{item_id}").status.is_ok
        assert memory.log("item shown").log_record.attributes["item"] == 42

Errors of the package itself are raised in tests of pytest. With `containing_errors` they are only
logged, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chatscope import configuration
from chatscope.genai.deferred import WORKER
from chatscope.guard import containing_errors
from chatscope.muting import MutingLoggerProvider, MutingMeterProvider, MutingTracerProvider
from chatscope.providers import (
    Providers,
    build_resource,
    build_tallies,
    build_views,
    choose_sampler,
    set_global,
)
from chatscope.settings import TelemetrySettings, load_settings
from chatscope.telemetry import Telemetry

_PATIENCE: Final = 5.0  # s

__all__ = ["Memory", "Point", "containing_errors", "recorded"]


@dataclass(frozen=True)
class Point:
    """One point of a metric: the value of a number, or the count of a histogram."""

    attributes: Mapping[str, object]
    value: float


class Memory:
    """Providers of the three signals, and everything that was recorded with them."""

    def __init__(self, settings: TelemetrySettings | None = None) -> None:
        self.settings = settings or TelemetrySettings()
        resource = build_resource(self.settings)
        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self._reader = InMemoryMetricReader()
        muted: set[str] = set()
        options: dict[str, Any] = {"resource": resource, "shutdown_on_exit": False}
        tracer_provider = MutingTracerProvider(muted, sampler=choose_sampler(), **options)
        tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        logger_provider = MutingLoggerProvider(muted, **options)
        logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        meter_provider = MutingMeterProvider(
            muted, views=build_views(self.settings.prefix), **options
        )
        meter_provider.add_metric_reader(self._reader)
        self.tallies = build_tallies(self.settings)
        self.providers = Providers(
            tracer_provider, meter_provider, logger_provider, tallies=self.tallies, muted=muted
        )

    def clear(self) -> None:
        """Forget everything that was recorded; counters begin at zero."""
        self._spans.clear()
        self._logs.clear()
        self.tallies.clear()
        reader = InMemoryMetricReader()
        self.providers.meter_provider.add_metric_reader(reader)
        self.providers.meter_provider.remove_metric_reader(self._reader)
        self._reader = reader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order of their ends."""
        # Streams that are closed early are recorded by a thread.
        WORKER.flush(_PATIENCE)
        return self._spans.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        """Return the only finished span of that name; raise AssertionError for none or more."""
        found = [span for span in self.spans if span.name == name]
        names = [span.name for span in self.spans]
        assert len(found) == 1, f"{len(found)} spans {name!r} among {names}"  # noqa: S101
        return found[0]

    @property
    def logs(self) -> tuple[ReadableLogRecord, ...]:
        """Emitted log records, in order."""
        return tuple(self._logs.get_finished_logs())

    def log(self, body: str) -> ReadableLogRecord:
        """Return the only record with that body; raise AssertionError for none or more."""
        found = [record for record in self.logs if record.log_record.body == body]
        bodies = [record.log_record.body for record in self.logs]
        assert len(found) == 1, f"{len(found)} records {body!r} among {bodies}"  # noqa: S101
        return found[0]

    def metrics(self) -> dict[str, Metric]:
        """Collect now; return all metrics by name."""
        # First: instruments that are read now add to the tallies.
        data = self._reader.get_metrics_data()
        found = {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        return {**found, **{metric.name: metric for metric in self.tallies.collect()}}

    def points(self, name: str) -> list[Point]:
        """Return the points of a metric; none if it was not recorded."""
        metric = self.metrics().get(name)
        return [_point(point) for point in metric.data.data_points] if metric else []

    def value(self, name: str, **attributes: object) -> float:
        """Return the sum of the points of `name` that have `attributes` (dots written as `__`)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(
            point.value for point in self.points(name) if wanted.items() <= point.attributes.items()
        )

    def exemplars(self) -> dict[str, set[str]]:
        """Return the trace IDs of the exemplars by metric; a collection takes them, so ask once."""
        return {
            name: {trace for point in metric.data.data_points for trace in _trace_ids(point)}
            for name, metric in self.metrics().items()
        }


class _Shared:
    """The memory of this process: the API's global providers can be set only once."""

    memory: Memory | None = None


_shared: Final = _Shared()


@contextmanager
def recorded(settings: TelemetrySettings | None = None, **options: Any) -> Iterator[Memory]:
    """Keep in memory what is recorded until the end of the block.

    Calls of `configure()` and `shutdown()` inside change nothing; `options` are settings by name,
    and variables are not read. The service's name and the prefix of metrics are those of the first
    block of the process. Code that uses the global OpenTelemetry API records to the same memory,
    unless another library has set global providers. The memory is empty at first, and keeps what
    was recorded after the block.

    Raises SettingsError with all problems of the options.
    """
    chosen = settings or load_settings({}, **options)
    memory = _shared.memory
    if memory is None:
        memory = _shared.memory = Memory(chosen)
        set_global(memory.providers)
    memory.clear()
    telemetry = Telemetry(chosen, memory.providers)
    telemetry.start()
    with configuration.replaced(telemetry):
        try:
            yield memory
        finally:
            telemetry.detach_logs()


def _trace_ids(point: object) -> tuple[str, ...]:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)  # noqa: S101
    return tuple(f"{exemplar.trace_id:032x}" for exemplar in point.exemplars if exemplar.trace_id)


def _point(point: object) -> Point:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)  # noqa: S101
    value = point.value if isinstance(point, NumberDataPoint) else point.count
    return Point(dict(point.attributes or {}), value)
