"""Providers: who emits, where to, and how they stop."""

import socket

import pytest

from chatscope import Telemetry
from chatscope.providers import TelemetrySettings, build_providers, build_resource


def test_resource_says_who_emits() -> None:
    resource = build_resource(
        TelemetrySettings(service_name="shop", service_version="1.2", environment="test")
    )
    found = dict(resource.attributes)
    assert found["service.name"] == "shop"
    assert found["service.version"] == "1.2"
    assert found["deployment.environment.name"] == "test"
    assert found["service.instance.id"]


def test_resource_attributes_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.instance.id=a1"
    )
    found = dict(build_resource(TelemetrySettings()).attributes)
    assert found["deployment.environment.name"] == "prod"
    assert found["service.instance.id"] == "a1"


def test_stop_is_bounded_when_the_collector_hangs() -> None:
    """A Collector that accepts and never answers: the SDK alone waits for half a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        providers = build_providers(TelemetrySettings(endpoint=f"http://127.0.0.1:{port}"))
        providers.tracer_provider.get_tracer("t").start_span("s").end()
        # True would mean that all three had ended, which takes them longer than the bound.
        assert providers.shutdown(seconds=0.5) is False


def test_starting_twice_builds_once() -> None:
    telemetry = Telemetry(TelemetrySettings(endpoint="http://127.0.0.1:9"))
    telemetry.start()
    first = telemetry.providers
    telemetry.start()
    assert telemetry.providers is first
    telemetry.shutdown()
    assert telemetry.shutdown() is True
