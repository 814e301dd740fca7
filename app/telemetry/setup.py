"""The only place that builds SDK providers and OTLP exporters, and that takes them down."""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk._shared_internal import BatchProcessor
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from . import encodable, sdk_values
from .exemplars import kept_exemplars
from .last_sums import LastSums
from .ledger import (
    CountedQueue,
    CreatedLogs,
    CreatedSpans,
    Ledger,
    observe_points,
    observe_signal,
    observe_spools,
)
from .names import LOG_METRICS, METRICS, SPAN_METRICS, Metric
from .patience import PatientExporter
from .proxy import bypasses_proxy
from .replay import Replay
from .sender import CHANNEL_OPTIONS, Sender
from .settings import TelemetrySettings as TelemetrySettings  # noqa: PLC0414
from .spool import Spool, Waiting
from .tally import TallyingBuckets

SCOPE = "chatscope"
# Kubernetes kills 30 s after SIGTERM, and responses need most of those.
SHUTDOWN_SECONDS = 5.0
_INSTANCE_ID = "service.instance.id"
_SHARE_OF_SPANS_AND_LOGS = 0.7
# The channel is closed by then, and with it the call that Replay waits for.
_REPLAY_ENDS_SECONDS = 0.3
_SERVICE = "/opentelemetry.proto.collector.{}Service/Export"
_DEFAULT_ENDPOINT = "http://localhost:4317"
_DIRECT = (("grpc.enable_http_proxy", 0),)
# By the SDK's logger name: shown on the console, never fed back into the exporters.
_log = logging.getLogger("opentelemetry.chatscope")


@dataclass(frozen=True)
class Pipeline:
    """How one signal's items leave: their exporter, and the account of them."""

    what: str
    exporter: PatientExporter
    ledger: Ledger
    disk: "Disk | None" = None

    def waiting(self) -> Waiting:
        """What waits on disk."""
        return self.disk.replay.waiting if self.disk else Waiting()

    def shutdown(self) -> None:
        """Cut what is under way; what is on disk stays there for the next start."""
        self.exporter.shutdown()
        if self.disk:
            self.disk.close()


@dataclass(frozen=True)
class Disk:
    """One signal's place on disk, and what empties it."""

    spool: Spool
    replay: Replay

    def close(self) -> None:
        """What is there stays."""
        self.replay.stop(_REPLAY_ENDS_SECONDS)
        self.spool.close()


@dataclass(frozen=True)
class Providers:
    """The three signals' providers of one process."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    pipelines: Sequence[Pipeline] = ()
    metrics_disk: "Disk | None" = None

    def shutdown(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued and stop, within `seconds`; False when something was lost.

        Spans and logs side by side, then the metrics, whose last export tells of the others.
        The SDK alone goes one by one, may take half a minute for each, and reports success.
        """
        deadline = time.monotonic() + seconds
        lost_before = [pipeline.ledger.lost() for pipeline in self.pipelines]
        for pipeline in self.pipelines:
            pipeline.exporter.hurry()
        ended = _all_within(
            seconds * _SHARE_OF_SPANS_AND_LOGS,
            self.tracer_provider.shutdown,
            self.logger_provider.shutdown,
        )
        disks = [self.metrics_disk.close] if self.metrics_disk else []
        left = max(0.0, deadline - time.monotonic())
        ended &= _all_within(left, *(pipeline.shutdown for pipeline in self.pipelines))
        left = max(0.0, deadline - time.monotonic())
        ended &= _all_within(left, partial(self.meter_provider.shutdown, left * 1000))
        ended &= _all_within(max(0.0, deadline - time.monotonic()), *disks)
        lost = [
            _report_lost(pipeline, before)
            for pipeline, before in zip(self.pipelines, lost_before, strict=True)
        ]
        return ended and not any(lost)


def build_providers(settings: TelemetrySettings) -> Providers:
    """Providers that export over OTLP/gRPC, and metrics about what they export."""
    sdk_values.install()
    resource = build_resource(settings)
    tracer_provider, spans = _traces(settings, resource)
    logger_provider, logs = _logs(settings, resource)
    last_sums, points, metrics_disk = _sums(settings)
    reader = PeriodicExportingMetricReader(
        last_sums, export_interval_millis=settings.metric_interval_ms
    )
    meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False, views=VIEWS)
    meter = meter_provider.get_meter(SCOPE, settings.service_version)
    observe_signal(meter, SPAN_METRICS, spans.ledger)
    observe_signal(meter, LOG_METRICS, logs.ledger)
    observe_points(meter, points)
    capacity = settings.spool_bytes if settings.spool_dir else 0
    observe_spools(meter, {"traces": spans.waiting, "logs": logs.waiting}, capacity)
    return Providers(tracer_provider, meter_provider, logger_provider, (spans, logs), metrics_disk)


def _traces(settings: TelemetrySettings, resource: Resource) -> tuple[TracerProvider, Pipeline]:
    ledger = Ledger(settings.span_queue)
    options = _channel_options(settings, "TRACES")
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, channel_options=options)
    sender = Sender(exporter, _SERVICE.format("trace.v1.Trace"), _encode_spans, "spans")
    pipeline = _pipeline(settings, "spans", sender, ledger)
    processor = BatchSpanProcessor(
        cast(SpanExporter, pipeline.exporter),
        max_queue_size=settings.span_queue,
        schedule_delay_millis=settings.span_delay_ms,
        max_export_batch_size=settings.span_batch,
    )
    _report_to(ledger, processor._batch_processor, "spans")
    provider = TracerProvider(choose_sampler(), resource, shutdown_on_exit=False)
    provider.add_span_processor(CreatedSpans(ledger))
    provider.add_span_processor(processor)
    return provider, pipeline


def _logs(settings: TelemetrySettings, resource: Resource) -> tuple[LoggerProvider, Pipeline]:
    ledger = Ledger(settings.log_queue)
    options = _channel_options(settings, "LOGS")
    exporter = OTLPLogExporter(endpoint=settings.endpoint, channel_options=options)
    sender = Sender(exporter, _SERVICE.format("logs.v1.Logs"), _encode_logs, "log records")
    pipeline = _pipeline(settings, "log records", sender, ledger)
    processor = BatchLogRecordProcessor(
        cast(LogRecordExporter, pipeline.exporter),
        max_queue_size=settings.log_queue,
        schedule_delay_millis=settings.log_delay_ms,
        max_export_batch_size=settings.log_batch,
    )
    _report_to(ledger, processor._batch_processor, "log records")
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(CreatedLogs(ledger))
    provider.add_log_record_processor(processor)
    return provider, pipeline


def _channel_options(settings: TelemetrySettings, signal: str) -> Any:
    """The options of a signal's channel; the SDK's annotation knows only strings as values."""
    endpoint = (
        settings.endpoint
        or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        or os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT)
        or _DEFAULT_ENDPOINT
    )
    return CHANNEL_OPTIONS + (_DIRECT if bypasses_proxy(endpoint) else ())


def _encode_spans(batch: Sequence[Any]) -> Any:
    return encode_spans([encodable.span(span) for span in batch])


def _encode_logs(batch: Sequence[Any]) -> Any:
    return encode_logs([encodable.record(record) for record in batch])


def _pipeline(settings: TelemetrySettings, what: str, sender: Sender, ledger: Ledger) -> Pipeline:
    disk = _disk(settings, what, sender, ledger)
    spool = disk.spool if disk else None
    return Pipeline(what, PatientExporter(sender, ledger, spool), ledger, disk)


def _sums(settings: TelemetrySettings) -> tuple[LastSums, Ledger, Disk | None]:
    ledger = Ledger()
    options = _channel_options(settings, "METRICS")
    exporter = OTLPMetricExporter(endpoint=settings.endpoint, channel_options=options)
    sender = Sender(exporter, _SERVICE.format("metrics.v1.Metrics"), encode_metrics, "metrics")
    disk = _disk(settings, "metrics", sender, ledger)
    spool = disk.spool if disk else None
    interval_seconds = settings.metric_interval_ms / 1000
    return LastSums(exporter, sender, ledger, spool, interval_seconds), ledger, disk


def _disk(settings: TelemetrySettings, what: str, sender: Sender, ledger: Ledger) -> Disk | None:
    if settings.spool_dir is None:
        return None
    path = settings.spool_dir / f"{what.replace(' ', '-')}.db"
    spool = Spool(path, settings.spool_bytes // 2, ledger.count_dropped)
    replay = Replay(sender, ledger, spool)
    replay.start()
    return Disk(spool, replay)


def _report_to(ledger: Ledger, processor: BatchProcessor[Any], what: str) -> None:
    # The SDK has no public way to count its drops but its own metrics, which cost as much as
    # a span; its versions are pinned, and a test fails when this hook is gone.
    processor._metrics = ledger
    processor._queue = queue = CountedQueue(ledger, what)
    ledger.register_queue_size(lambda: len(queue))
    logging.getLogger(BatchProcessor.__module__).addFilter(_is_not_reported)


def _is_not_reported(record: logging.LogRecord) -> bool:
    # `CountedQueue` reports a full queue with the number of items dropped.
    return not str(record.msg).startswith("Queue full")


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
        aggregation=TallyingBuckets(buckets) if buckets else None,
        exemplar_reservoir_factory=kept_exemplars,
    )


VIEWS: Sequence[View] = tuple(_view(metric) for metric in METRICS)


def _all_within(seconds: float, *calls: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _report_lost(pipeline: Pipeline, before: int) -> int:
    """Say what did not get away; nobody else will."""
    if kept := pipeline.waiting().items:
        _log.warning("%d %s kept on disk for the next start", kept, pipeline.what)
    lost = pipeline.ledger.lost() - before + pipeline.ledger.queued
    if lost:
        _log.warning("%d %s lost at the end: the Collector did not take them", lost, pipeline.what)
    return lost
