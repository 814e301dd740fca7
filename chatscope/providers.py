"""The only place that builds SDK providers and OTLP exporters, and that shuts them down."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
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
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chatscope import sdk_values
from chatscope.direct_spans import RECORD_ALL
from chatscope.exemplars import kept_exemplars
from chatscope.http_metrics import HttpMetrics
from chatscope.metric_reader import MetricExport
from chatscope.muting import MutingLoggerProvider, MutingMeterProvider, MutingTracerProvider
from chatscope.names import METRICS, OLDER_METRICS, PREFIX, Metric
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
from chatscope.processes import worker_name
from chatscope.settings import TelemetrySettings as TelemetrySettings  # noqa: PLC0414
from chatscope.tally import Tallies

# Kubernetes kills 30 s after SIGTERM, and responses need most of that time.
SHUTDOWN_SECONDS = 5.0
_INSTANCE_ID = "service.instance.id"
_SHARE_OF_SPANS_AND_LOGS = 0.5
# Metrics about the delivery without a semantic convention.
_DELIVERY = ("spool", "encoder")
_API_MODULES = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry._logs")


@dataclass(frozen=True)
class Providers:
    """The providers of the three signals in this process."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    delivery: Delivery | None = None
    # None: the readers of the meter provider do not add them.
    tallies: Tallies | None = None
    metric_export: MetricExport | None = None
    # By scope: an instrument that is read at collection has one callback for each provider.
    http_metrics: dict[str, HttpMetrics] = field(default_factory=dict)
    # Instrumentation scopes that are ignored from now on.
    muted: set[str] = field(default_factory=set)

    def flush(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued, within `seconds`; False when that takes longer."""
        deadline = time.monotonic() + seconds
        flushed = self.delivery is None or self.delivery.flush(
            seconds * _SHARE_OF_SPANS_AND_LOGS, drain=True
        )
        collect = (
            self.metric_export.flush if self.metric_export else self.meter_provider.force_flush
        )
        return _within(max(0.0, deadline - time.monotonic()), collect) and flushed

    def shutdown(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued and stop, within `seconds`; False when something was lost.

        Spans and log records first, then the metrics, whose last export counts them.
        """
        deadline = time.monotonic() + seconds
        if self.delivery is not None:
            self.delivery.flush(seconds * _SHARE_OF_SPANS_AND_LOGS, drain=True)
        left = max(0.0, deadline - time.monotonic()) / 2
        stop = (self.metric_export or self.meter_provider).shutdown
        ended = _within(left, partial(stop, left * 1000))
        if self.delivery is None:
            return ended
        return self.delivery.shutdown(max(0.0, deadline - time.monotonic())) and ended


class ProvidersExistError(RuntimeError):
    """Another library has set the global providers, or one of them cannot be used."""


def build_providers(settings: TelemetrySettings) -> Providers:
    """Build providers that deliver over OTLP, and metrics about the delivery.

    Raises OtlpSettingsError for invalid `OTEL_EXPORTER_OTLP_*` variables.
    """
    sdk_values.install()
    resource = build_resource(settings)
    delivery = build_delivery(settings)
    made = _make_providers(settings, resource, delivery)
    export = _deliver(settings, delivery, made)
    export.renew_after_fork()
    # An idle process also sends what its predecessor left in the spool.
    delivery.start()
    return replace(made, metric_export=export)


def _make_providers(
    settings: TelemetrySettings, resource: Resource, delivery: Delivery
) -> Providers:
    muted: set[str] = set()
    options: dict[str, Any] = {"resource": resource, "shutdown_on_exit": False}
    return Providers(
        MutingTracerProvider(muted, sampler=choose_sampler(), **options),
        MutingMeterProvider(muted, views=_views(settings), **options),
        MutingLoggerProvider(muted, **options),
        delivery,
        build_tallies(settings),
        muted=muted,
    )


def set_global(providers: Providers) -> None:
    """Make the providers those of OpenTelemetry's API, where none are set."""
    if _global_tracer_provider() is None:
        trace.set_tracer_provider(providers.tracer_provider)
    if _global_meter_provider() is None:
        metrics.set_meter_provider(providers.meter_provider)
    if _global_logger_provider() is None:
        set_logger_provider(providers.logger_provider)


def refuse_existing() -> None:
    """Raise ProvidersExistError if another library has set a global provider."""
    for kind, found in (
        ("tracer", _global_tracer_provider()),
        ("meter", _global_meter_provider()),
        ("logger", _global_logger_provider()),
    ):
        _refuse_own(found)
        if found is not None:
            raise ProvidersExistError(
                f"the global {kind} provider is {_describe(found)}, set by another library: call"
                " configure(use_existing_providers=True) to deliver what it makes as well, or call"
                " configure() first"
            )


def adopt_providers(settings: TelemetrySettings) -> Providers:
    """Add our processors and metric reader to the global providers; build those that are missing.

    Raises ProvidersExistError for a provider that accepts none.
    """
    sdk_values.install()
    # The settings describe the service on all signals, those of existing providers too.
    delivery = build_delivery(settings, resource_attributes=_set_attributes(settings))
    tracer_provider = _adoptable("add_span_processor", _global_tracer_provider())
    logger_provider = _adoptable("add_log_record_processor", _global_logger_provider())
    meter_provider = _adoptable("add_metric_reader", _global_meter_provider())
    resource = _resource_of(tracer_provider, logger_provider) or build_resource(settings)
    made = _make_providers(settings, resource, delivery)
    used = replace(
        made,
        tracer_provider=tracer_provider or made.tracer_provider,
        meter_provider=meter_provider or made.meter_provider,
        logger_provider=logger_provider or made.logger_provider,
        # Its other readers get all values from the provider itself.
        tallies=None if meter_provider else made.tallies,
    )
    export = _deliver(settings, delivery, used)
    if meter_provider is None:
        export.renew_after_fork()
    set_global(used)
    delivery.start()
    return replace(used, metric_export=export)


def _deliver(settings: TelemetrySettings, delivery: Delivery, providers: Providers) -> MetricExport:
    """Deliver what the providers make."""
    providers.tracer_provider.add_span_processor(OtlpSpanProcessor(delivery))
    providers.logger_provider.add_log_record_processor(OtlpLogRecordProcessor(delivery))
    meter = providers.meter_provider.get_meter(settings.scope, settings.service_version)
    observe(meter, delivery, settings.prefix)
    interval = settings.metric_interval_ms / 1000
    exporter = _Exporter(delivery, providers.tallies, interval)
    return MetricExport(providers.meter_provider, exporter, interval)


def _adoptable(method: str, found: Any) -> Any:
    """Return a global provider that has `method`, or the one inside of it; None if none is set."""
    if found is None:
        return None
    _refuse_own(found)
    for candidate in (found, getattr(found, "provider", None)):
        if callable(getattr(candidate, method, None)):
            return candidate
    raise ProvidersExistError(f"the global provider {_describe(found)} has no {method}()")


def _refuse_own(found: Any) -> None:
    if isinstance(found, MutingTracerProvider | MutingMeterProvider | MutingLoggerProvider):
        raise ProvidersExistError(
            "the global providers are chatscope's, and cannot be replaced: configure() cannot be"
            " called after shutdown(), nor outside of chatscope.testing.recorded() after its use"
        )


def _describe(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _global_tracer_provider() -> Any:
    """Return the global provider; None while the API's placeholder is set."""
    return _unless_placeholder(trace.get_tracer_provider())


def _global_meter_provider() -> Any:
    return _unless_placeholder(metrics.get_meter_provider())


def _global_logger_provider() -> Any:
    return _unless_placeholder(get_logger_provider())


def _unless_placeholder(found: Any) -> Any:
    """The API's own providers do nothing, or wait for another to be set."""
    of_the_api = type(found).__module__.startswith(_API_MODULES)
    return None if of_the_api else found


def build_delivery(
    settings: TelemetrySettings, *, resource_attributes: Mapping[str, str] | None = None
) -> Delivery:
    """Build the delivery of this process; it opens nothing before the first item.

    `resource_attributes` take the place of those of the providers.
    """
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
            resource_attributes=resource_attributes or {},
        ),
    )


def build_tallies(settings: TelemetrySettings) -> Tallies:
    """Build the instruments that are exported beside those of the meter provider."""
    scope = InstrumentationScope(settings.scope, settings.service_version)
    return Tallies(scope, _exemplars())


def _exemplars() -> ExemplarFilter:
    """Return the filter that the SDK's meter provider uses by default."""
    chosen = os.environ.get(OTEL_METRICS_EXEMPLAR_FILTER, "").strip().lower()
    if chosen == "always_on":
        return AlwaysOnExemplarFilter()
    return AlwaysOffExemplarFilter() if chosen == "always_off" else TraceBasedExemplarFilter()


class _Exporter(OtlpMetricExporter):
    """Exports the tallied metrics with the collected ones."""

    def __init__(self, delivery: Delivery, tallies: Tallies | None, interval: float) -> None:
        super().__init__(delivery, interval=interval)
        self._tallies = tallies

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> MetricExportResult:
        """Send all points, or keep them until the next export."""
        if self._tallies is not None:
            metrics_data = self._tallies.added_to(metrics_data)
        return super().export(metrics_data, timeout_millis, **options)


def build_resource(settings: TelemetrySettings) -> Resource:
    """Describe this process: its service and an instance ID of its own.

    `OTEL_RESOURCE_ATTRIBUTES` takes precedence, except for the service name where
    `OTEL_SERVICE_NAME` or the settings have one. An instance ID from there is the same for all
    workers of a server: each forked or spawned one adds its own name, because the counters of all
    would be one series otherwise.
    """
    given = OTELResourceDetector().detect().attributes
    attributes = {**given, **_set_attributes(settings)}
    if (instance := given.get(_INSTANCE_ID)) and (name := worker_name()):
        attributes[_INSTANCE_ID] = f"{instance}-{name}"
    return Resource.create({name: value for name, value in attributes.items() if value})


def _set_attributes(settings: TelemetrySettings) -> dict[str, str]:
    """Return the resource attributes that the settings have."""
    given = OTELResourceDetector().detect().attributes
    attributes = {
        "service.version": given.get("service.version", settings.service_version),
        "deployment.environment.name": given.get(
            "deployment.environment.name", settings.environment
        ),
        "service.name": settings.service_name,
    }
    return {name: str(value) for name, value in attributes.items() if value}


def _resource_of(*providers: Any) -> Resource | None:
    """Return the resource of the first provider that shows one."""
    found = (getattr(provider, "resource", None) for provider in providers)
    return next((each for each in found if isinstance(each, Resource)), None)


def choose_sampler() -> Sampler | None:
    """Record everything, also where a client's `traceparent` says not to.

    `OTEL_TRACES_SAMPLER` has its standard meaning: None leaves the choice to the SDK.
    """
    return None if os.environ.get(OTEL_TRACES_SAMPLER) else RECORD_ALL


def build_views(prefix: str, *, spool: bool = True) -> Sequence[View]:
    """Return the views of all metrics that the package knows; those of the spool may be dropped."""
    dropped = (
        ()
        if spool
        else [
            View(instrument_name=f"{prefix}.{part}.*", aggregation=DropAggregation())
            for part in _DELIVERY
        ]
    )
    ours = tuple(f"{PREFIX}.{part}." for part in _DELIVERY)
    shown = [metric for metric in METRICS if spool or not metric.name.startswith(ours)]
    return (*dropped, *(_view(each.with_prefix(prefix)) for each in (*shown, *OLDER_METRICS)))


def _views(settings: TelemetrySettings) -> Sequence[View]:
    spool = settings.spool_metrics or settings.spool_dir is not None
    return build_views(settings.prefix, spool=spool)


def _view(metric: Metric) -> View:
    buckets = metric.buckets
    return View(
        instrument_name=metric.name,
        # The default buckets of HTTP durations end at 10 s; streamed responses take longer.
        aggregation=ExplicitBucketHistogramAggregation(buckets) if buckets else None,
        exemplar_reservoir_factory=kept_exemplars,
    )


def _within(seconds: float, call: Callable[[], object]) -> bool:
    """Whether `call` ended within `seconds`; it goes on in a daemon thread otherwise."""
    thread = threading.Thread(target=call, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending
        call()
        return True
    thread.join(seconds)
    return not thread.is_alive()
