"""Expensive queries, each sent to the running backends: refused, or made cheap, by a limit."""

import time
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from stack.secrets import backend_client
from tests.running import PATIENCE_SECONDS, Stack

_HOUR = 3600
_RATE = f"q={quote('{} | rate()')}"
_YEAR = 365 * 24 * _HOUR


def _get(stack: Stack, url: str, target: str) -> httpx2.Response:
    with backend_client(stack.facts, url, timeout=PATIENCE_SECONDS) as client:
        return client.get(target)


def _memory(stack: Stack, part: str) -> float:
    [found] = stack.backends.prometheus(f'process_resident_memory_bytes{{job="{part}"}}')
    return found.value


@pytest.mark.one_machine("Thanos has no limit of samples")
def test_prometheus_refuses_a_query_for_too_many_samples(stack: Stack) -> None:
    query = quote(f"count_over_time(vector(1)[{21_000_000}s:1s])")
    answer = _get(stack, "PROMETHEUS_URL", f"/api/v1/query?query={query}")
    assert answer.status_code == 422
    assert "too many samples" in answer.json()["error"]


@pytest.mark.one_machine("Thanos reports no flags")
def test_prometheus_has_limits_of_time_and_number(stack: Stack) -> None:
    flags: dict[str, Any] = _get(stack, "PROMETHEUS_URL", "/api/v1/status/flags").json()["data"]
    assert flags["query.timeout"] == "1m"
    assert int(flags["query.max-concurrency"]) <= 10


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("query_range?query={}&limit=5001&start={start}&end={end}", "max entries limit"),
        ("query_range?query={}&start={long_ago}&end={end}", "time range exceeds the limit"),
        ("query_range?query={count}&step=1&start={week}&end={end}", "11,000 points"),
    ],
)
def test_loki_refuses(stack: Stack, target: str, reason: str) -> None:
    now = int(time.time())
    lines = quote('{service_name="chatscope"}')
    made = target.replace("query={}", f"query={lines}").format(
        start=now - _HOUR,
        end=now,
        long_ago=now - 2 * _YEAR,
        week=now - 7 * 24 * _HOUR,
        count=quote('count_over_time({service_name="chatscope"}[1m])'),
    )
    answer = _get(stack, "LOKI_URL", f"/loki/api/v1/{made}")
    assert answer.status_code == 400
    assert reason in answer.text


def test_loki_has_limits_of_bytes_series_and_time(stack: Stack) -> None:
    config = _get(stack, "LOKI_URL", "/config").text
    for line in ("query_timeout: 1m", "max_query_series: 5000", "max_query_bytes_read: 100GB"):
        assert f"\n  {line}" in config


def test_tempo_refuses_a_search_for_too_many_traces(stack: Stack) -> None:
    answer = _get(stack, "TEMPO_URL", "/api/search?q=%7B%7D&limit=100000000")
    assert answer.status_code == 400
    assert "exceeds max limit" in answer.text


@pytest.mark.parametrize("step", ["1ns", "0.000001", "1s&step=1ns", "1n%73"])
@pytest.mark.parametrize("name", ["step", "%73tep"])
def test_steps_of_nanoseconds_do_not_end_tempo(stack: Stack, name: str, step: str) -> None:
    """Tempo 2.8 makes room for each step before it checks anything: 28 TB for this hour."""
    now, before = int(time.time()), stack.pid("tempo")
    between = f"start={now - _HOUR}&end={now}"
    answer = _get(stack, "TEMPO_URL", f"/api/metrics/query_range?{_RATE}&{between}&{name}={step}")
    assert answer.status_code == 200
    assert stack.pid("tempo") == before
    for series in answer.json()["series"]:
        assert len(series["samples"]) <= 2 * 240 + 1


@pytest.mark.parametrize("path", ["query", "query_range"])
@pytest.mark.parametrize(
    "between",
    [
        "start=1&end=9999999999",
        "start={now}&end=9999999999",
        "%73tart=1&end={now}",
        "start={now}&start=1&end={now}",
        "start=1900-01-01T00:00:00Z&end=2200-01-01T00:00:00Z",
    ],
)
def test_a_range_of_centuries_is_refused_before_it_reaches_tempo(
    stack: Stack, path: str, between: str
) -> None:
    now, before = int(time.time()), stack.pid("tempo")
    answer = _get(stack, "TEMPO_URL", f"/api/metrics/{path}?{_RATE}&{between.format(now=now)}")
    assert answer.status_code == 400
    assert "since 1970" in answer.text
    assert stack.pid("tempo") == before


def test_tempo_refuses_a_range_that_is_longer_than_its_data(stack: Stack) -> None:
    now = int(time.time())
    between = f"start={now - _YEAR}&end={now}"
    answer = _get(stack, "TEMPO_URL", f"/api/metrics/query_range?{_RATE}&{between}")
    assert answer.status_code == 400
    assert "maximum allowed duration" in answer.text


@pytest.mark.one_machine("a backend is several processes")
def test_backends_are_as_small_afterwards(stack: Stack) -> None:
    for part in ("tempo", "loki"):
        assert _memory(stack, part) < 2 * 2**30
