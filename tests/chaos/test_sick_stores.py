"""Stores that answer slowly, with 429, 503 or garbage: all is tried again, and nothing lost."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.facts import shifted
from stack.local_http import local_client
from stack.parts import binary_path
from stack.waiting import poll_until
from tests.chaos import otlp, sick
from tests.chaos.service import even, service
from tests.chaos.sick import Health, Stores
from tests.chaos.watching import answers
from tests.config.files import COLLECTOR
from tests.running import PATIENCE_SECONDS, Stack

# Of its Collector's ports from those of the stack's.
_APART = 720
_ITEMS = 20
# As the stack starts its own.
_GATE = "--feature-gates=exporter.prometheusremotewritexporter.RetryOn429"
_SICK = (Health.SLOW, Health.TOO_MANY, Health.AWAY, Health.GARBAGE)
_STORES = ("loki", "prometheus", "tempo")


@contextmanager
def _collector(stack: Stack, stores: Stores, directory: Path, name: str) -> Iterator[str]:
    """One more Collector, with the stack's configuration; where it takes OTLP."""
    facts = {**stack.facts, **shifted(_APART, stack.facts)}
    host = facts["STACK_HOST"]
    environment = {
        **os.environ,
        **facts,
        "LOKI_URL": stores.loki,
        "PROMETHEUS_URL": stores.prometheus,
        "TEMPO_OTLP_ENDPOINT": stores.tempo,
        "OTEL_SERVICE_NAME": name,
        "DATA_DIR": str(directory),
    }
    # The machine is the stack's own Collector's to tell of.
    quiet = "yaml:receivers::host_metrics::initial_delay: 1h"
    command = [str(binary_path("otelcol")), f"--config={COLLECTOR}", f"--config={quiet}", _GATE]
    with (directory / "collector.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    try:
        with local_client(f"http://{host}:{facts['COLLECTOR_HEALTH_PORT']}") as client:
            poll_until(lambda: client.get("/").is_success, "the Collector", PATIENCE_SECONDS)
        yield f"http://{host}:{facts['OTLP_GRPC_PORT']}"
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def test_what_sick_stores_did_not_take_is_there_once_they_are_well(
    stack: Stack, tmp_path: Path
) -> None:
    name = f"sick-{uuid.uuid4().hex[:8]}"
    numbers = [f"{health.value} {number}" for health in _SICK for number in range(_ITEMS)]
    traces = {number: os.urandom(16) for number in numbers}
    with sick.stores(stack.facts) as stores, _collector(stack, stores, tmp_path, name) as collector:
        with (
            service(stack, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector) as one,
            otlp.sender(collector) as sender,
        ):
            with answers(one.facts):
                for health in _SICK:
                    stores.health = health
                    for number in (each for each in numbers if each.startswith(health.value)):
                        sender.send(otlp.lines(name, otlp.line(number)))
                        sender.send(otlp.spans(name, otlp.span(traces[number], number)))
                        sender.send(otlp.sums(name, "sick", otlp.point(1, number=number)))
                    for store in _STORES:
                        poll_until(
                            lambda: stores.asked[store, health] > 1,  # noqa: B023
                            f"{store} to be asked while it is {health}",
                            PATIENCE_SECONDS,
                        )
                stores.health = Health.WELL
            poll_until(lambda: even(stack, one), "the service's account", PATIENCE_SECONDS)

        def stored() -> bool:
            lines = stack.backends.loki(f'{{service_name="{name}"}}')
            assert sorted(line.line for line in lines) == sorted(numbers)
            points = stack.backends.prometheus(f'last_over_time(sick_total{{job="{name}"}}[10m])')
            assert sorted(point.labels["number"] for point in points) == sorted(numbers)
            for number, trace_id in traces.items():
                spans = stack.backends.tempo_trace(trace_id.hex())
                assert [span.name for span in spans or []] == [number]
            return True

        poll_until(stored, "all that was sent meanwhile", PATIENCE_SECONDS)
