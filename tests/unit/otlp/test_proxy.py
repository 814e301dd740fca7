"""Which endpoints are reached without a proxy."""

import pytest

from chatscope.otlp.proxy import bypasses_proxy


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:4317",
        "http://127.0.0.1:4317",
        "https://127.8.9.1:4317",
        "http://[::1]:4317",
        "127.0.0.1:4317",
        "[::1]:4317",
        "dns:///localhost:4317",
        "ipv4:127.0.0.1:4317",
        "ipv6:[::1]:4317",
        "http://collector.localhost:4317",
    ],
)
def test_this_machine_is_reached_directly(endpoint: str) -> None:
    assert bypasses_proxy(endpoint)


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exceptions_are_reached_directly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    remote = ("http://collector:4317", "dns:///collector:4317", "http://otel.corp.example:4317")
    assert not any(map(bypasses_proxy, remote))
    monkeypatch.setenv(name, "collector, .corp.example")
    assert all(map(bypasses_proxy, remote))
    assert not bypasses_proxy("http://othercollector:4317")
    monkeypatch.setenv(name, "*")
    assert bypasses_proxy("http://othercollector:4317")


def test_exception_may_name_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", "collector:4317")
    assert bypasses_proxy("http://collector:4317")
    assert not bypasses_proxy("http://collector:4318")
    assert not bypasses_proxy("http://collector")
