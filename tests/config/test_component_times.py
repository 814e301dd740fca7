"""Documented durations of the components: measured, or compared with the configuration where
waiting would take minutes."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from drill.webhook import WebhookReceiver, webhook_receiver
from stack.facts import ROOT
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.alerting import Alertmanager, listening, started
from tests.config.files import (
    ALERTMANAGER,
    COLLECTOR,
    COMPOSE,
    LOKI,
    PROCESSES,
    PROMETHEUS,
    TEMPO,
    parsed,
    seconds,
)
from tests.elapsed import assert_elapsed

_WAIT_SECONDS = 1.0
_INTERVAL_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
# Alertmanager's default, which the configuration does not change.
_RESOLVED_AFTER = "5m"


@pytest.fixture
def notified(
    binary: Callable[[str], Path], tmp_path: Path
) -> Iterator[tuple[Alertmanager, WebhookReceiver, str]]:
    """Run an Alertmanager with short intervals; yield it with its receiver."""
    binary("alertmanager")
    with (
        webhook_receiver() as people,
        started(
            tmp_path,
            str,
            ALERT_WEBHOOK_URL=people.url("/hook"),
            ALERT_GROUP_WAIT=f"{_WAIT_SECONDS:g}s",
            ALERT_GROUP_INTERVAL=f"{_INTERVAL_SECONDS:g}s",
        ) as process,
    ):
        url, _ = listening(process)
        yield Alertmanager(url), people, url


@pytest.mark.slow
def test_messages_of_a_group_wait_as_long_as_set(
    notified: tuple[Alertmanager, WebhookReceiver, str],
) -> None:
    alerts, people, url = notified
    begun = time.monotonic()
    alerts.push(_alert("first"))
    poll_until(lambda: people.bodies("/hook"), "the first message", _PATIENCE_SECONDS, 0.01)
    first = time.monotonic()
    assert_elapsed(first - begun, _WAIT_SECONDS)
    alerts.push(_alert("second"))
    poll_until(lambda: len(people.bodies("/hook")) > 1, "the second", _PATIENCE_SECONDS, 0.01)
    assert_elapsed(time.monotonic() - first, _INTERVAL_SECONDS)
    with local_client(url) as client:
        loaded = client.get("/api/v2/status").raise_for_status().json()["config"]["original"]
    assert f"resolve_timeout: {_RESOLVED_AFTER}\n" in loaded


def _alert(instance: str) -> dict[str, Any]:
    return {"labels": {"alertname": "Slow", "severity": "warning", "instance": instance}}


@contextmanager
def _supervised(program: Path, directory: Path, policy: dict[str, Any]) -> Iterator[Path]:
    """Run a process with that restart policy; each start appends its PID to the file."""
    starts = directory / "starts"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    script = directory / "one.sh"
    script.write_text(f"echo $$ >> {starts}; exec sleep 600\n")
    one = {"command": f"sh {script}", "availability": policy}
    config = directory / "process-compose.yaml"
    config.write_text(yaml.safe_dump({"version": "0.5", "processes": {"one": one}}))
    with subprocess.Popen(
        [program, "up", "--tui=false", "--port", str(port), "--config", config],
        cwd=directory,
        env={"PATH": os.defpath, "HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield starts
        finally:
            process.terminate()


@pytest.mark.slow
def test_component_that_ends_is_started_again_in_time(
    binary: Callable[[str], Path], tmp_path: Path
) -> None:
    policies = {name: part["availability"] for name, part in parsed(PROCESSES)["processes"].items()}
    [policy] = [dict(each) for each in {tuple(policy.items()) for policy in policies.values()}]

    def pids() -> list[str]:
        return starts.read_text().split() if starts.exists() else []

    with _supervised(binary("process-compose"), tmp_path, policy) as starts:
        poll_until(pids, "the start", _PATIENCE_SECONDS, 0.01)
        begun = time.monotonic()
        os.kill(int(pids()[0]), 9)
        poll_until(lambda: len(pids()) > 1, "the second start", _PATIENCE_SECONDS, 0.01)
        assert_elapsed(
            time.monotonic() - begun,
            _documented("docs/runbooks/CollectorDown.md", r"(\d+) s after its end"),
        )


def _documented(page: str, pattern: str) -> float:
    [number] = re.findall(pattern, re.sub(r"\s+", " ", (ROOT / page).read_text()))
    return float(number)


def _restarts_after_hang() -> set[float]:
    """Return the seconds until process-compose restarts a component whose probe fails."""
    probes = [part["readiness_probe"] for part in parsed(PROCESSES)["processes"].values()]
    return {probe["period_seconds"] * probe["failure_threshold"] for probe in probes}


def test_hang_shows_as_documented_in_both_ways() -> None:
    health = parsed(COMPOSE)["x-health"]
    unhealthy = health["retries"] * (seconds(health["interval"]) + seconds(health["timeout"]))
    assert unhealthy == pytest.approx(
        _documented("docs/running.md", r"shows as `unhealthy` after about (\d+) s"), abs=2
    )
    page = "docs/running.md"
    least = _documented(page, r"restarted after (\d+) to \d+ minutes")
    most = _documented(page, r"restarted after \d+ to (\d+) minutes")
    assert {60 * least, 60 * most} == _restarts_after_hang()


@pytest.mark.parametrize(
    ("page", "pattern", "unit", "configured"),
    [
        (
            "docs/running.md",
            r"does not accept within (\d+) minute",
            60,
            lambda: (
                parsed(ROOT / "deploy" / "forward.collector.yaml")["exporters"]["otlp_http/forward"]
                ["retry_on_failure"]["max_elapsed_time"]
            ),
        ),
        (
            "docs/telemetry.md",
            r"that has ended is shown for another (\d+) s",
            1,
            lambda: parsed(COLLECTOR)["exporters"]["prometheus"]["metric_expiration"],
        ),
        (
            "docs/telemetry.md",
            r"a series is not silent for (\d+) hours",
            3600,
            lambda: parsed(COLLECTOR)["processors"]["delta_to_cumulative"]["max_stale"],
        ),
        (
            "docs/reliability.md",
            r"held back for (\d+) s \(`artificial_delay`\)",
            1,
            lambda: parsed(TEMPO)["distributor"]["artificial_delay"],
        ),
        (
            "docs/reliability.md",
            r"open block, up to (\d+) s of spans",
            1,
            lambda: parsed(TEMPO)["ingester"]["max_block_duration"],
        ),
        (
            "docs/reliability.md",
            r"waits ([\d.]+) s for a response",
            1,
            lambda: parsed(COLLECTOR)["exporters"]["otlp_grpc/tempo"]["timeout"],
        ),
        (
            "docs/reliability.md",
            r"its kill takes up to (\d+) s of their counts",
            1,
            lambda: parsed(COLLECTOR)["connectors"]["span_metrics"]["metrics_flush_interval"],
        ),
        (
            "docs/reliability.md",
            r"A sample that waited for more than (\d+) hours",
            3600,
            lambda: parsed(PROMETHEUS)["storage"]["tsdb"]["out_of_order_time_window"],
        ),
        (
            "docs/runbooks/StoreDown.md",
            r"for up to (\d+) minutes a failed health check does not count",
            60,
            lambda: parsed(COMPOSE)["x-health"]["start_period"],
        ),
        ("docs/running.md", r"After (\d+) minutes it is reported as resolved", 60,
         lambda: _RESOLVED_AFTER),
    ],
)  # fmt: skip
def test_documented_duration_is_the_configured_one(
    page: str, pattern: str, unit: int, configured: Callable[[], str]
) -> None:
    assert _documented(page, pattern) * unit == seconds(configured())


def test_line_is_refused_when_it_is_older_than_documented() -> None:
    """Loki rejects a line older than half of the maximum age of a chunk."""
    hours = _documented("docs/reliability.md", r"a line more than (\d+) hours older")
    assert hours * 3600 == seconds(parsed(LOKI)["ingester"]["max_chunk_age"]) / 2


def test_watchdog_is_sent_as_often_as_documented() -> None:
    [route] = [
        route
        for route in parsed(ALERTMANAGER)["route"]["routes"]
        if route["receiver"] == "watchdog"
    ]
    interval = seconds(route["group_interval"])
    # It is checked once per interval, and sent again once the repeat interval has passed.
    looks = -(-seconds(route["repeat_interval"]) // interval)
    assert looks * interval == _documented("docs/running.md", r"by POST every (\d+) s")
