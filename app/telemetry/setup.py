"""The only place that builds SDK providers and OTLP exporters, and that takes them down."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from .exemplars import kept_exemplars
from .names import METRICS, Metric
from .prices import PriceTable

SCOPE = "chatscope"
# Kubernetes kills 30 s after SIGTERM, and answers want most of those.
_SHUTDOWN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """All that telemetry wants to know; the exporters' own OTEL_* variables stand beside it."""

    service_name: str = "chatscope"
    service_version: str | None = None
    endpoint: str | None = None  # None: OTEL_EXPORTER_OTLP_*, else the Collector on this host
    span_delay_ms: int = 200
    log_delay_ms: int = 200
    metric_interval_ms: int = 1000
    capture_content: bool = False
    log_level: str = "INFO"
    known_models: frozenset[str] = frozenset()
    # Paths that health checks ask every few seconds: no span, no metric, no access line.
    quiet_paths: frozenset[str] = frozenset({"/healthz", "/readyz"})
    prices: PriceTable = field(default_factory=PriceTable.load)


@dataclass(frozen=True)
class Providers:
    """The three signals' providers of one process."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider

    def shutdown(self, seconds: float = _SHUTDOWN_SECONDS) -> bool:
        """Send what is queued and stop; False when `seconds` did not suffice for all three.

        Side by side: the SDK alone goes one by one and may take half a minute for each.
        """
        return _all_within(
            seconds,
            [
                self.tracer_provider.shutdown,
                self.meter_provider.shutdown,
                self.logger_provider.shutdown,
            ],
        )


def build_providers(settings: TelemetrySettings) -> Providers:
    """Providers that export over OTLP/gRPC."""
    resource = build_resource(settings)
    tracer_provider = TracerProvider(choose_sampler(), resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(endpoint=settings.endpoint),
            schedule_delay_millis=settings.span_delay_ms,
        )
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=settings.endpoint),
        export_interval_millis=settings.metric_interval_ms,
    )
    meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False, views=VIEWS)
    logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(
        BatchLogRecordProcessor(
            OTLPLogExporter(endpoint=settings.endpoint),
            schedule_delay_millis=settings.log_delay_ms,
        )
    )
    return Providers(tracer_provider, meter_provider, logger_provider)


def build_resource(settings: TelemetrySettings) -> Resource:
    """Who emits: the service, its version and a new instance id for each process.

    OTEL_RESOURCE_ATTRIBUTES wins over all but the service's name, as the specification has it
    (OTEL_SERVICE_NAME is where `service_name` comes from).
    """
    attributes = {"service.name": settings.service_name, "deployment.environment.name": "local"}
    if settings.service_version:
        attributes["service.version"] = settings.service_version
    from_environment = {
        key: value
        for key, value in OTELResourceDetector().detect().attributes.items()
        if key != "service.name"
    }
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


def _all_within(seconds: float, calls: Sequence[Callable[[], object]]) -> bool:
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
