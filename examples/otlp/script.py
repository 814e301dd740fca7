"""A plain script whose spans, logs and metrics survive its own death.

    python examples/otlp/script.py --count 1000 --spool ./telemetry

Kill it with SIGKILL, stop the Collector, start either again: what was handed over is delivered
once the Collector accepts it, by this process or by the next one that uses the same directory.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

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
    OtlpSettingsError,
    OtlpSpanProcessor,
)

METRIC_INTERVAL = 1.0  # s


def main() -> int:
    """Emit numbered items until all are made or SIGTERM arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="items of each signal")
    parser.add_argument("--rate", type=float, default=200.0, help="items a second")
    parser.add_argument("--spool", type=Path, required=True, help="a directory on a local disk")
    given = parser.parse_args()

    # 1. One Delivery for the process; where OTLP goes is read from OTEL_EXPORTER_OTLP_*.
    try:
        delivery = Delivery(settings=DeliverySettings(spool_dir=given.spool))
    except OtlpSettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 2

    # 2. Its processors and its exporter go into the SDK's own providers.
    resource = Resource.create({"service.name": "script"})
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(OtlpSpanProcessor(delivery))
    logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(OtlpLogRecordProcessor(delivery))
    reader = PeriodicExportingMetricReader(
        OtlpMetricExporter(delivery, interval=METRIC_INTERVAL),
        export_interval_millis=METRIC_INTERVAL * 1000,
    )
    meter_provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)

    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)

    # 3. The script's own work.
    tracer = tracer_provider.get_tracer("script")
    logger = logger_provider.get_logger("script")
    counter = meter_provider.get_meter("script").create_counter("script.items", "{item}")
    made = 0
    while made < given.count and not stopping:
        with tracer.start_as_current_span("item", attributes={"item.number": made}):
            logger.emit(body=f"item {made}", attributes={"item.number": made})
        counter.add(1)
        made += 1
        # Report progress to a supervisor: the item is delivered or on disk within 0.2 s.
        print(made, flush=True)
        time.sleep(1 / given.rate)

    # 4. The metrics' last export first, then everything that is queued: within five seconds.
    meter_provider.shutdown(timeout_millis=2_000)
    return 0 if delivery.shutdown(3.0) else 1


if __name__ == "__main__":
    sys.exit(main())
