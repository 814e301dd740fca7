"""A process that emits numbered spans, log records and increments, as stdin says.

`python -m tests.delivery.emitter OPTIONS`. One command a line, each answered by one line:
`emit PREFIX FIRST LAST` (a span, a log record and an increment for each number), `quit`.
This is the only place of these tests that knows how the package is started.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from app.telemetry import last_sums, undeliverable
from app.telemetry.setup import Providers, TelemetrySettings, build_providers

BATCH = 10


def main(arguments: Sequence[str]) -> int:
    """Obey until `quit` or the end of stdin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--spool", type=Path)
    parser.add_argument("--spool-bytes", type=int, default=10_000_000)
    parser.add_argument("--queue", type=int, default=1000)
    parser.add_argument("--refusals", type=int, help="until a batch is undeliverable")
    parser.add_argument("--umask", type=lambda text: int(text, 8))
    parser.add_argument("--user", type=int, help="become this user, once all is imported")
    given = parser.parse_args(arguments)
    # What takes half a minute by default.
    if given.refusals:
        undeliverable._MOST_REFUSALS = given.refusals  # type: ignore[misc]
    last_sums._HOLD_SECONDS = 1.0  # type: ignore[misc]
    if given.umask is not None:
        os.umask(given.umask)
    if given.user is not None:
        os.seteuid(given.user)
    providers = build_providers(
        TelemetrySettings(
            service_name="emitter",
            endpoint=given.endpoint,
            metric_interval_ms=200,
            span_delay_ms=20,
            log_delay_ms=20,
            span_queue=given.queue,
            log_queue=given.queue,
            span_batch=BATCH,
            log_batch=BATCH,
            spool_dir=given.spool,
            spool_bytes=given.spool_bytes,
        )
    )
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
    while any(pipeline.ledger.queued for pipeline in providers.pipelines):
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
