"""A process that emits numbered spans, log records and increments on command.

`python -m tests.delivery.emitter OPTIONS` reads one command per line from stdin, and responds with
one line to each: `emit PREFIX FIRST LAST` (a span, a log record and an increment for each number),
`quit`. Only this module of these tests starts the package.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
    grpc_client,
    load_endpoints,
    observe,
    sums,
)

BATCH = 10


def main(arguments: Sequence[str]) -> int:
    """Execute commands until `quit` or the end of stdin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--spool", type=Path)
    parser.add_argument("--spool-bytes", type=int, default=10_000_000)
    parser.add_argument("--queue", type=int, default=1000)
    parser.add_argument("--refusals", type=int, help="until a batch is undeliverable")
    parser.add_argument("--umask", type=lambda text: int(text, 8))
    parser.add_argument("--user", type=int, help="become this user, once all is imported")
    given = parser.parse_args(arguments)
    assert grpc_client  # imported before the user changes, who may not be able to read it
    # Default: twenty seconds.
    sums._CLAIM = 1.0  # type: ignore[misc]
    if given.umask is not None:
        os.umask(given.umask)
    if given.user is not None:
        os.seteuid(given.user)
    providers = Providers(given)
    _say("ready")
    for line in sys.stdin:
        match line.split():
            case ["emit", prefix, first, last]:
                _emit(providers, prefix, range(int(first), int(last)))
                _say("emitted")
            case _:
                break
    providers.shutdown()
    _say("ended")
    return 0


class Providers:
    """The SDK's providers, with our delivery."""

    def __init__(self, given: argparse.Namespace) -> None:
        limits = PipelineLimits(delay=0.02, batch_items=BATCH)
        if given.refusals:
            limits = replace(limits, max_attempts=given.refusals)
        self.delivery = Delivery(
            load_endpoints(os.environ, endpoint=given.endpoint),
            DeliverySettings(
                spool_dir=given.spool,
                spool_bytes=given.spool_bytes // 2,
                queue_items={Signal.TRACES: given.queue, Signal.LOGS: given.queue},
                limits=limits,
            ),
        )
        resource = Resource.create({"service.name": "emitter"})
        self.tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(OtlpSpanProcessor(self.delivery))
        self.logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(OtlpLogRecordProcessor(self.delivery))
        reader = PeriodicExportingMetricReader(
            OtlpMetricExporter(self.delivery, interval=0.2), export_interval_millis=200
        )
        self.meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        observe(self.meter_provider.get_meter("chatscope.otlp"), self.delivery, "chatscope")

    def shutdown(self) -> None:
        """Deliver everything, or store it in the spool."""
        self.delivery.flush(3.0, drain=True)
        self.meter_provider.shutdown(timeout_millis=1_000)
        self.delivery.shutdown(3.0)


def _emit(providers: Providers, prefix: str, numbers: Sequence[int]) -> None:
    tracer = providers.tracer_provider.get_tracer("test")
    logger = providers.logger_provider.get_logger("test")
    counter = providers.meter_provider.get_meter("test").create_counter(f"{prefix}.increments")
    for number in numbers:
        tracer.start_span(f"{prefix}{number}").end()
        logger.emit(body=f"{prefix}{number}")
        counter.add(1)
        if number == numbers[-1] or number % BATCH == BATCH - 1:
            _let_go(providers)


def _let_go(providers: Providers) -> None:
    """Wait until the batch has left the queue, if it does, so that batches are not mixed."""
    deadline = time.monotonic() + 0.5
    while any(len(pipeline.queue) for pipeline in providers.delivery.pipelines.values()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
