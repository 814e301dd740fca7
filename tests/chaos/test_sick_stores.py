"""Backends that respond slowly, with 429, 503 or garbage: all is retried, and nothing is lost."""

import os
import uuid
from pathlib import Path

from ledger import otlp
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.chaos import sick
from tests.chaos.service import even, service
from tests.chaos.sick import Health, Stores
from tests.chaos.watching import answers
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.collectors import collector

_ITEMS = 20
_SICK = (Health.SLOW, Health.TOO_MANY, Health.AWAY, Health.GARBAGE)
_STORES = ("loki", "prometheus", "tempo")


def _to(stores: Stores) -> dict[str, str]:
    return {
        "LOKI_URL": stores.loki,
        "PROMETHEUS_URL": stores.prometheus,
        "TEMPO_OTLP_ENDPOINT": stores.tempo,
    }


def test_items_rejected_by_faulty_backends_are_stored_after_recovery(
    stack: Stack, tmp_path: Path
) -> None:
    name = f"sick-{uuid.uuid4().hex[:8]}"
    numbers = [f"{health.value} {number}" for health in _SICK for number in range(_ITEMS)]
    traces = {number: os.urandom(16) for number in numbers}
    with sick.stores(stack.facts) as stores, collector(stack, tmp_path, _to(stores)) as beside:
        with (
            service(stack, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=beside["OTLP_URL"]) as one,
            otlp.sender(beside["OTLP_URL"], telemetry_headers(beside)) as sender,
        ):
            with answers(one.facts):
                for health in _SICK:
                    stores.health = health
                    for number in (each for each in numbers if each.startswith(health.value)):
                        sender.send(otlp.lines(name, otlp.line(number)))
                        sender.send(otlp.spans(name, otlp.span(traces[number], number)))
                        sender.send(otlp.sums(name, "sick", otlp.point(1, {"number": number})))
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
