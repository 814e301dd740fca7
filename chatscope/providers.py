"""The only place that builds SDK providers and OTLP exporters, and that takes them down."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.environment_variables import (
    OTEL_METRICS_EXEMPLAR_FILTER,
    OTEL_TRACES_SAMPLER,
)
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chatscope import sdk_values
from chatscope.exemplars import kept_exemplars
from chatscope.names import METRICS, Metric
from chatscope.otlp import (
    Delivery,
    DeliverySettings,
    OtlpLogRecordProcessor,
    OtlpMetricExporter,
    OtlpSpanProcessor,
    Signal,
    load_endpoints,
    observe,
)
from chatscope.settings import TelemetrySettings as TelemetrySettings  # noqa: PLC0414
from chatscope.tally import TalliedHistograms

SCOPE = "chatscope"
# Kubernetes kills 30 s after SIGTERM, and responses need most of those.
SHUTDOWN_SECONDS = 5.0
_INSTANCE_ID = "service.instance.id"
_SHARE_OF_SPANS_AND_LOGS = 0.5
_PREFIX = "chatscope"


@dataclass(frozen=True)
class Providers:
    """The three signals' providers of one process."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    delivery: Delivery | None = None
    # None: the meter provider's reader does not add them.
    tallies: TalliedHistograms | None = None

    def shutdown(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued and stop, within `seconds`; False when something was lost.

        Spans and log records first, then the metrics, whose last export counts them.
        """
        deadline = time.monotonic() + seconds
        if self.delivery is not None:
            self.delivery.flush(seconds * _SHARE_OF_SPANS_AND_LOGS, drain=True)
        left = max(0.0, deadline - time.monotonic()) / 2
        ended = _within(left, partial(self.meter_provider.shutdown, left * 1000))
        if self.delivery is None:
            return ended
        return self.delivery.shutdown(max(0.0, deadline - time.monotonic())) and ended


def build_providers(settings: TelemetrySettings) -> Providers:
    """Build providers that deliver over OTLP, and metrics about the delivery.

    Raises OtlpSettingsError for invalid `OTEL_EXPORTER_OTLP_*` variables.
    """
    sdk_values.install()
    resource = build_resource(settings)
    delivery = build_delivery(settings)
    tracer_provider = TracerProvider(choose_sampler(), resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(OtlpSpanProcessor(delivery))
    logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(OtlpLogRecordProcessor(delivery))
    interval = settings.metric_interval_ms / 1000
    tallies = build_tallies(settings)
    reader = PeriodicExportingMetricReader(
        _TallyingExporter(delivery, tallies, interval),
        export_interval_millis=settings.metric_interval_ms,
    )
    meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False, views=VIEWS)
    observe(meter_provider.get_meter(SCOPE, settings.service_version), delivery, _PREFIX)
    # A service without requests also sends what its predecessor left.
    delivery.start()
    return Providers(tracer_provider, meter_provider, logger_provider, delivery, tallies)


def build_delivery(settings: TelemetrySettings) -> Delivery:
    """Build the delivery of this process; nothing is sent or opened before the first item."""
    return Delivery(
        load_endpoints(os.environ, endpoint=settings.endpoint),
        DeliverySettings(
            spool_dir=settings.spool_dir,
            spool_bytes=settings.spool_bytes // 2,
            queue_items={Signal.TRACES: settings.span_queue, Signal.LOGS: settings.log_queue},
            delays={
                Signal.TRACES: settings.span_delay_ms / 1000,
                Signal.LOGS: settings.log_delay_ms / 1000,
            },
            batch_items={Signal.TRACES: settings.span_batch, Signal.LOGS: settings.log_batch},
        ),
    )


def build_tallies(settings: TelemetrySettings) -> TalliedHistograms:
    """Build the histograms that are exported beside those of the meter provider."""
    return TalliedHistograms(InstrumentationScope(SCOPE, settings.service_version), _exemplars())


def _exemplars() -> ExemplarFilter:
    """Return the filter that the SDK's meter provider uses by default."""
    chosen = os.environ.get(OTEL_METRICS_EXEMPLAR_FILTER, "").strip().lower()
    if chosen == "always_on":
        return AlwaysOnExemplarFilter()
    return AlwaysOffExemplarFilter() if chosen == "always_off" else TraceBasedExemplarFilter()


class _TallyingExporter(OtlpMetricExporter):
    """Exports the tallied histograms with the collected metrics."""

    def __init__(self, delivery: Delivery, tallies: TalliedHistograms, interval: float) -> None:
        super().__init__(delivery, interval=interval)
        self._tallies = tallies

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> MetricExportResult:
        """Send all points, or keep them until the next export."""
        return super().export(self._tallies.added_to(metrics_data), timeout_millis, **options)


def build_resource(settings: TelemetrySettings) -> Resource:
    """Who emits: the service, its version and a new instance id for each process.

    OTEL_RESOURCE_ATTRIBUTES wins over all but the service's name, as the specification has it
    (OTEL_SERVICE_NAME is where `service_name` comes from). An instance id from there is that of
    a parent process; its children add their names, or their counters would be one series.
    """
    attributes = {"service.name": settings.service_name, "deployment.environment.name": "local"}
    if settings.service_version:
        attributes["service.version"] = settings.service_version
    from_environment = {
        key: value
        for key, value in OTELResourceDetector().detect().attributes.items()
        if key != "service.name"
    }
    instance = from_environment.get(_INSTANCE_ID)
    if instance and multiprocessing.parent_process():
        own_name = multiprocessing.current_process().name
        from_environment[_INSTANCE_ID] = f"{instance}-{own_name}"
    return Resource.create({**attributes, **from_environment})


def choose_sampler() -> Sampler | None:
    """Everything is recorded, also what a caller's `traceparent` says not to.

    By the SDK's default any client could switch its traces off. An operator's
    OTEL_TRACES_SAMPLER has its standard meaning: None leaves it to the SDK.
    """
    if os.environ.get(OTEL_TRACES_SAMPLER):
        return None
    return ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON)


def _view(metric: Metric) -> View:
    buckets = metric.buckets
    return View(
        instrument_name=metric.name,
        # The stock middleware's own buckets end where a streamed answer only begins.
        aggregation=ExplicitBucketHistogramAggregation(buckets) if buckets else None,
        exemplar_reservoir_factory=kept_exemplars,
    )


VIEWS: Sequence[View] = tuple(_view(metric) for metric in METRICS)


def _within(seconds: float, call: Callable[[], object]) -> bool:
    """Whether `call` ended within `seconds`; it goes on in a daemon thread otherwise."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
