"""Metrics that the Collector changes: deltas of other services, and edges of the service graph."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dashboards import others
from stack import facts as stack_facts
from stack.backends import Backends
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.config.files import COLLECTOR
from tests.running import PATIENCE_SECONDS
from tests.stores import prepare

# A Collector on fixed ports for each test.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deltas")]

_DELTA, _CUMULATIVE = 1, 2
_OFFSET = 7_500
_SERVICE = "shop"


@pytest.fixture(scope="module")
def facts(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The facts of a Collector and a Prometheus with our configuration."""
    directory = tmp_path_factory.mktemp("deltas")
    ports = stack_facts.shifted(_OFFSET, {})
    facts = stack_facts.load({**ports, "STATE_DIR": str(directory)})
    prepare(facts)
    (directory / "prometheus.yml").write_text("global: {}\n")
    prometheus = [
        binary("prometheus"),
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data/prometheus",
        f"--web.listen-address=127.0.0.1:{facts['PROMETHEUS_PORT']}",
        "--web.enable-remote-write-receiver",
    ]
    collector = [binary("otelcol"), f"--config={COLLECTOR}"]
    with (
        _running(prometheus, facts, f"{facts['PROMETHEUS_URL']}/-/ready"),
        _running(collector, facts, facts["COLLECTOR_HEALTH_URL"]),
    ):
        yield facts


@contextmanager
def _running(command: list[Any], environ: Mapping[str, str], ready: str) -> Iterator[None]:
    process = subprocess.Popen(command, env=dict(environ), stderr=subprocess.DEVNULL)

    def answers() -> bool:
        return httpx2.get(ready, trust_env=False).is_success

    try:
        poll_until(answers, f"{ready} to answer", PATIENCE_SECONDS)
        yield
    finally:
        process.kill()
        process.wait()


def _send(facts: Mapping[str, str], *metrics: Mapping[str, Any]) -> None:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": _SERVICE}}]}
    scopes = [{"scope": {"name": "test"}, "metrics": metrics}]
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": scopes}]}
    url = f"{facts['OTLP_HTTP_URL']}/v1/metrics"
    headers = telemetry_headers(facts)
    httpx2.post(url, json=body, headers=headers, trust_env=False).raise_for_status()


def _metric(name: str, kind: str, temporality: int, **point: Any) -> dict[str, Any]:
    monotonic = {"isMonotonic": True} if kind == "sum" else {}
    return {
        "name": name,
        kind: {"aggregationTemporality": temporality, "dataPoints": [point], **monotonic},
    }


def _interval(since: float, number: int) -> dict[str, str]:
    """Return start and end of an export interval of a second, by its number."""
    start = since + number
    return {
        "startTimeUnixNano": str(int(start * 1e9)),
        "timeUnixNano": str(int((start + 1) * 1e9)),
    }


def _series(facts: Mapping[str, str], query: str) -> float | None:
    with Backends(facts) as backends:
        found = backends.prometheus(query)
    return found[0].value if found else None


def test_delta_metrics_add_up_to_cumulative_series(facts: dict[str, str]) -> None:
    since = time.time() - 3
    for number in range(3):
        when = _interval(since, number)
        _send(
            facts,
            _metric("orders", "sum", _DELTA, asInt="2", **when),
            _metric(
                "took",
                "histogram",
                _DELTA,
                count="2",
                sum=0.6,
                bucketCounts=["0", "1", "1"],
                explicitBounds=[0.1, 1],
                **when,
            ),
            _metric(
                "size",
                "exponentialHistogram",
                _DELTA,
                count="3",
                sum=7.0,
                scale=2,
                zeroCount="1",
                positive={"offset": 0, "bucketCounts": ["1", "1"]},
                **when,
            ),
            _metric("visits", "sum", _CUMULATIVE, asInt=str(number + 1), **when),
        )
    expected = {
        "orders_total": 6.0,
        "took_count": 6.0,
        "took_sum": pytest.approx(1.8),
        'took_bucket{le="1"}': 3.0,
        'took_bucket{le="+Inf"}': 6.0,
        "histogram_count(size)": 9.0,
        "histogram_sum(size)": 21.0,
        "visits_total": 3.0,
    }

    def stored() -> bool:
        found = {query: _series(facts, query) for query in expected}
        assert found == expected
        return True

    poll_until(stored, "every series with its sum", PATIENCE_SECONDS)


def test_delta_that_cannot_be_added_up_is_counted(facts: dict[str, str]) -> None:
    since = time.time() - 10
    for number in (5, 2):
        point = _interval(since, number)
        _send(facts, _metric("late", "sum", _DELTA, asInt="1", **point))

    def counted() -> bool:
        text = httpx2.get(facts["COLLECTOR_METRICS_URL"], trust_env=False).text
        lines = [line for line in text.splitlines() if others.DELTA_POINTS.prometheus in line]
        assert any('error="' in line and line.endswith(" 1") for line in lines), lines
        return True

    poll_until(counted, "the dropped point among the Collector's own metrics", PATIENCE_SECONDS)


def test_edge_to_a_provider_has_the_latency_of_the_client(facts: dict[str, str]) -> None:
    start = time.time() - 3
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": str(int(start * 1e9)),
        "endTimeUnixNano": str(int((start + 2) * 1e9)),
        "attributes": [{"key": "gen_ai.provider.name", "value": {"stringValue": "openai"}}],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": _SERVICE}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    url = f"{facts['OTLP_HTTP_URL']}/v1/traces"
    headers = telemetry_headers(facts)
    httpx2.post(url, json=body, headers=headers, trust_env=False).raise_for_status()
    edge = f'{{client="{_SERVICE}", server="openai"}}'
    expected = {
        f"sum(traces_service_graph_request_server_seconds_{part}{edge})": value
        for part, value in (("sum", pytest.approx(2.0)), ("count", 1.0))
    }

    def stored() -> bool:
        found = {query: _series(facts, query) for query in expected}
        assert found == expected
        return True

    poll_until(stored, "the edge with its latency", PATIENCE_SECONDS)
