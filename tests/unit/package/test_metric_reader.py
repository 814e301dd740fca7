"""The collection of metrics, when the wall clock steps."""

import time
from collections.abc import Iterable

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics._internal import measurement_consumer

from chatscope.providers import build_providers
from chatscope.settings import TelemetrySettings
from tests.receiver import Receiver

_HOURS_NS = 2 * 3600 * 10**9


def test_clock_that_steps_during_a_collection_costs_no_export(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(measurement_consumer, "time_ns", lambda: time.time_ns() + sum(steps))

    def read(_: CallbackOptions) -> Iterable[Observation]:
        if not steps:
            steps.append(_HOURS_NS)
        return [Observation(7)]

    with Receiver() as receiver:
        providers = build_providers(
            TelemetrySettings(endpoint=receiver.endpoint, metric_interval_ms=3_600_000)
        )
        meter = providers.meter_provider.get_meter("test")
        meter.create_observable_gauge("level", [read])
        # The SDK looks at the clock before the next instrument.
        meter.create_observable_gauge("later", [lambda _: [Observation(1)]])
        assert providers.flush(60.0)
        assert steps
        assert list(receiver.last("level").values()) == [7]
        assert providers.shutdown(5.0)
