"""Telemetry kept in memory, for tests: what the exporters would have sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chatscope.otlp import observe
from chatscope.providers import (
    VIEWS,
    Providers,
    TelemetrySettings,
    build_delivery,
    build_resource,
    build_tallies,
    choose_sampler,
)


@dataclass(frozen=True)
class Point:
    """One point of one metric: a number's value, or a histogram's count."""

    attributes: Mapping[str, object]
    value: float


class Memory:
    """Providers of all three signals, and what came through them."""

    def __init__(self, settings: TelemetrySettings | None = None) -> None:
        resource = build_resource(settings or TelemetrySettings())
        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self._reader = InMemoryMetricReader()
        tracer_provider = TracerProvider(choose_sampler(), resource, shutdown_on_exit=False)
        tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
        logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        meter_provider = MeterProvider(
            [self._reader], resource, shutdown_on_exit=False, views=VIEWS
        )
        self.tallies = build_tallies(settings or TelemetrySettings())
        self.providers = Providers(
            tracer_provider, meter_provider, logger_provider, tallies=self.tallies
        )
        # It delivers nothing: no processor is connected to it.
        self.delivery = build_delivery(settings or TelemetrySettings())
        observe(meter_provider.get_meter("test"), self.delivery, "chatscope")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order of their ends."""
        return self._spans.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        """The one finished span of that name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans {name!r} among {[s.name for s in self.spans]}"
        return found[0]

    @property
    def logs(self) -> tuple[ReadableLogRecord, ...]:
        """Emitted log records, in order."""
        return tuple(self._logs.get_finished_logs())

    def log(self, body: str) -> ReadableLogRecord:
        """The one record with that body."""
        found = [record for record in self.logs if record.log_record.body == body]
        bodies = [record.log_record.body for record in self.logs]
        assert len(found) == 1, f"{len(found)} records {body!r} among {bodies}"
        return found[0]

    def metrics(self) -> dict[str, Metric]:
        """All metrics by name, collected now."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in self.tallies.added_to(data).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Point]:
        """The points of one metric; none when it was not recorded."""
        metric = self.metrics().get(name)
        return [_point(point) for point in metric.data.data_points] if metric else []

    def value(self, name: str, **attributes: object) -> float:
        """Sum of the points of `name` that carry `attributes` (dots written as `__`)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(
            point.value for point in self.points(name) if wanted.items() <= point.attributes.items()
        )

    def exemplars(self) -> dict[str, set[str]]:
        """Trace ids of the exemplars by metric; a collection takes them, so ask once."""
        return {
            name: {trace for point in metric.data.data_points for trace in _trace_ids(point)}
            for name, metric in self.metrics().items()
        }


def _trace_ids(point: object) -> tuple[str, ...]:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
    return tuple(f"{exemplar.trace_id:032x}" for exemplar in point.exemplars if exemplar.trace_id)


def _point(point: object) -> Point:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
    value = point.value if isinstance(point, NumberDataPoint) else point.count
    return Point(dict(point.attributes or {}), value)
