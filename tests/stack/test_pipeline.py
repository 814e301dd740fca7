"""The pipeline: early lines, other senders, retention, the backends' own settings."""

import re
import secrets
import time

import httpx2
import pytest
import yaml

from stack.secrets import backend_client, telemetry_headers
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack


def test_lines_from_before_the_exporter_stood_are_in_loki(stack: Stack) -> None:
    query = '{service_name="chatscope"} |= "Started server process"'
    lines = poll_until(
        lambda: stack.backends.loki(query), "uvicorn's first line in Loki", PATIENCE_SECONDS
    )
    assert lines[0].metadata["scope_name"] == "uvicorn.error"


def test_others_send_over_otlp_http(stack: Stack) -> None:
    trace_id, span_id, now = secrets.token_hex(16), secrets.token_hex(8), time.time_ns()
    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": "elsewhere",
        "kind": 2,
        "startTimeUnixNano": str(now - 1000),
        "endTimeUnixNano": str(now),
    }
    service = {"key": "service.name", "value": {"stringValue": "elsewhere"}}
    body = {
        "resourceSpans": [
            {"resource": {"attributes": [service]}, "scopeSpans": [{"spans": [span]}]}
        ]
    }
    url = f"{stack.facts['OTLP_HTTP_URL']}/v1/traces"
    headers = telemetry_headers(stack.facts)
    httpx2.post(url, json=body, headers=headers, trust_env=False).raise_for_status()
    [found] = poll_until(
        lambda: stack.backends.tempo_trace(trace_id), "the span in Tempo", PATIENCE_SECONDS
    )
    assert (found.name, found.resource["service.name"]) == ("elsewhere", "elsewhere")


def _seconds(duration: str) -> float:
    """Return the hours of a duration in the backends' notations: 15d, 2w1d, 360h, 360h0m0s."""
    units = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+)([wdhms])", duration))


@pytest.mark.one_machine("Thanos reports no flags")
def test_retention_is_the_same_in_each_backend(stack: Stack) -> None:
    wanted = _seconds(stack.facts["RETENTION"])

    def get(url: str, path: str) -> httpx2.Response:
        with backend_client(stack.facts, url) as client:
            return client.get(path).raise_for_status()

    flags = get("PROMETHEUS_URL", "/api/v1/status/flags").json()["data"]
    assert _seconds(flags["storage.tsdb.retention.time"]) == wanted
    loki = yaml.safe_load(get("LOKI_URL", "/config").text)
    assert _seconds(loki["limits_config"]["retention_period"]) == wanted
    assert loki["compactor"]["retention_enabled"] is True
    # Its response starts with a line that names the page.
    tempo = yaml.safe_load(get("TEMPO_URL", "/status/config").text.partition("---")[2])
    assert _seconds(tempo["compactor"]["compaction"]["block_retention"]) == wanted


def test_traceql_metrics_answer(stack: Stack) -> None:
    query = {"q": '{resource.service.name="chatscope"} | rate()', "since": "10m", "step": "10s"}

    def series() -> list[object]:
        with backend_client(stack.facts, "TEMPO_URL") as client:
            answer = client.get("/api/metrics/query_range", params=query)
        return list(answer.raise_for_status().json()["series"])

    assert poll_until(series, "TraceQL metrics of the service", PATIENCE_SECONDS)
