"""Creates items like a service: `python -m ledger.source`, started by `ledger.load`, which sets
the Collector's address in its environment.

Each item is announced on standard output before it is created, so that the parent process knows
what must be stored, however this process ends. At the end of standard input it stops, waits until
its spool has been sent, and exits.
"""

import argparse
import select
import sys
import time
from itertools import count
from pathlib import Path
from typing import Final

from loguru import logger
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from chatscope.instruments import counter
from chatscope.providers import Providers, TelemetrySettings
from chatscope.telemetry import Telemetry
from ledger.item import ITEMS, RUN, SERVICE, SPAN_NAME, attributes, body, trace_id, trace_of

_LOOK_SECONDS: Final = 0.05


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m ledger.source", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--first", type=int, required=True, help="the first number")
    parser.add_argument("--rate", type=float, required=True, help="items a second")
    parser.add_argument("--spool", type=Path, required=True, help="directory of the spool")
    parser.add_argument("--environment", default="local", help="deployment environment")
    parser.add_argument("--linger", type=float, required=True, help="seconds without progress")
    given = parser.parse_args(arguments)
    settings = TelemetrySettings(
        service_name=SERVICE,
        environment=given.environment,
        spool_dir=given.spool,
        console=True,
    )
    telemetry = Telemetry(settings, None)
    telemetry.start()
    _make(telemetry, given.run, given.first, given.rate)
    _wait_until_sent(telemetry.providers, given.linger)
    telemetry.shutdown()
    return 0


def _make(telemetry: Telemetry, run: str, first: int, rate: float) -> None:
    items = counter(telemetry.meter, ITEMS)
    due = time.monotonic()
    for number in count(first):
        if _stop_requested(due - time.monotonic()):
            return
        print(number, time.time_ns(), flush=True)
        with telemetry.tracer.start_as_current_span(
            SPAN_NAME, _parent(run, number), attributes=attributes(run, number)
        ):
            logger.bind(**attributes(run, number)).info(body(number))
            items.add(1, {RUN: run})
        due += 1 / rate


def _stop_requested(seconds: float) -> bool:
    """Wait so many seconds; return whether standard input has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], max(0.0, seconds))
    return bool(readable)


def _parent(run: str, number: int) -> Context:
    """Return the context of a remote parent span whose trace ID is derived from the number."""
    identifier = int(trace_id(run, trace_of(number)), 16)
    caller = SpanContext(identifier, 1 + trace_of(number), True, TraceFlags(TraceFlags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(caller))


def _wait_until_sent(providers: Providers, seconds: float) -> None:
    """Flush the queues in memory, and wait until they and the spool, a predecessor's too, are
    empty, or nothing was accepted for so many seconds."""
    delivery = providers.delivery
    assert delivery is not None  # noqa: S101
    pipelines = delivery.pipelines.values()
    accepted, until = -1, 0.0
    while not (
        delivery.flush(_LOOK_SECONDS) and all(pipeline.spool.is_empty() for pipeline in pipelines)
    ):
        now = sum(pipeline.statistics.exported[""] for pipeline in pipelines)
        if now > accepted:
            accepted, until = now, time.monotonic() + seconds
        elif time.monotonic() >= until:
            return
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
