"""A delivery with the SDK's providers, for tests in this process."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from chatscope.otlp import (
    Delivery,
    DeliverySettings,
    OtlpLogRecordProcessor,
    OtlpMetricExporter,
    OtlpSpanProcessor,
    PipelineLimits,
    Signal,
    load_endpoints,
    observe,
)
from chatscope.otlp.statistics import Statistics
from stack.waiting import poll_until

BATCH = 10
_ITEM_SIGNALS = (Signal.TRACES, Signal.LOGS)


@dataclass(frozen=True)
class Emitting:
    """Providers that emit, and their delivery."""

    delivery: Delivery
    tracer_provider: TracerProvider
    logger_provider: LoggerProvider
    meter_provider: MeterProvider

    def emit(self, numbers: Iterable[int], prefix: str = "") -> None:
        """Emit a span and a log record of each number, as fast as the queue allows."""
        tracer = self.tracer_provider.get_tracer("test")
        logger = self.logger_provider.get_logger("test")
        for number in numbers:
            tracer.start_span(f"{prefix}{number}").end()
            logger.emit(body=f"{prefix}{number}")
            if number % BATCH == BATCH - 1:
                self.delivery.flush(60.0)

    def statistics(self) -> list[Statistics]:
        """Return the counts of spans and of log records."""
        return [self.delivery.pipelines[signal].statistics for signal in _ITEM_SIGNALS]

    def waiting(self) -> list[int]:
        """Return the current number of spans and log records in the spool."""
        found = [self.delivery.pipelines[signal].spool.backlog() for signal in _ITEM_SIGNALS]
        return [backlog.items if backlog else -1 for backlog in found]

    def dropped(self) -> list[int]:
        """Return how many spans and log records the queues dropped."""
        return [self.delivery.pipelines[signal].queue.dropped for signal in _ITEM_SIGNALS]

    def assert_even(self) -> None:
        """Assert that each item is counted exactly once, when nothing is in transit any more."""
        for signal in _ITEM_SIGNALS:
            pipeline = self.delivery.pipelines[signal]
            queue, counts = pipeline.queue, pipeline.statistics
            processed = queue.taken + queue.dropped + queue.late + counts.not_encodable
            assert counts.started == processed + len(queue)
            waiting = pipeline.spool.backlog() or pipeline.backlog
            assert queue.taken == sum(counts.exported.values()) + waiting.items
        # The end of a call is counted right after its items.
        poll_until(
            lambda: all(counts.inflight == 0 for counts in self.statistics()), "the calls to end"
        )

    def shutdown(self, seconds: float) -> tuple[bool, float]:
        """Shut down; return the result, and the duration in seconds."""
        began = time.monotonic()
        kept = self.delivery.shutdown(seconds)
        return kept, time.monotonic() - began


def emitting(
    endpoint: str,
    spool: Path | None = None,
    *,
    variables: Mapping[str, str] | None = None,
    interval: float = 3600.0,
    **settings: Any,
) -> Emitting:
    """Build providers with small queues and batches that deliver to `endpoint`."""
    prefixed = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in (variables or {}).items()}
    bounds: dict[str, Any] = {
        "spool_dir": spool,
        "spool_bytes": 10_000_000,
        "queue_items": dict.fromkeys(_ITEM_SIGNALS, 50),
        "limits": PipelineLimits(delay=0.02, batch_items=BATCH),
        **settings,
    }
    delivery = Delivery(load_endpoints(prefixed, endpoint=endpoint), DeliverySettings(**bounds))
    resource = Resource.create({"service.name": "test"})
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(OtlpSpanProcessor(delivery))
    logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(OtlpLogRecordProcessor(delivery))
    reader = PeriodicExportingMetricReader(
        OtlpMetricExporter(delivery, interval=interval), export_interval_millis=interval * 1000
    )
    meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    observe(meter_provider.get_meter("chatscope.otlp"), delivery, "chatscope")
    return Emitting(delivery, tracer_provider, logger_provider, meter_provider)


def wait_for_counts(emitted: Emitting, items: int) -> None:
    """Wait until so many items of each signal are counted as accepted."""
    poll_until(
        lambda: [counts.exported[""] for counts in emitted.statistics()] == [items, items],
        f"{items} to be counted",
    )
