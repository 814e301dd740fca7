"""The rules in the running Prometheus: healthy, asking for what is there, and seeing a death."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alerts import llm
from alerts.__main__ import FOLDER
from app.settings import SIMULATED_MODEL
from app.telemetry import names
from dashboards import others
from demo.asking import Conversation
from stack.facts import ROOT
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.config.files import parsed
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.collectors import collector
from tests.stack.load import load

# What a person may wait until the death of a service is told.
_DEATH_SECONDS = 120.0
# The slowest group is evaluated each minute.
_EVALUATED_SECONDS = 75.0
_VICTIM = "victim"
_SERVICE = names.prometheus_label(others.SERVICE_NAME)
# Where nothing is found, because no test here leads to it: the metric's name, and why.
_AFTER_A_FAILURE = {
    **{
        hop.send_failed.prometheus: "a store refused for good what an exporter sent"
        for hop in others.HOPS
    },
    others.POINTS_THROUGH.enqueue_failed.prometheus: "a full queue refused points",
    others.LOKI_DISCARDED.prometheus: "Loki threw a line away",
    others.DELTA_POINTS.prometheus: "a service sent a delta that could not be added up",
}
_AFTER_A_TIME_OUT = "|".join(llm.TIMEOUTS)
_RULES = [
    rule
    for path in sorted(FOLDER.glob("*.rules.yaml"))
    for group in parsed(path)["groups"]
    for rule in group["rules"]
]
_RECORDED = {rule["record"] for rule in _RULES if "record" in rule}


def _get(stack: Stack, path: str, **asked: Any) -> Any:
    with local_client(stack.facts["PROMETHEUS_URL"]) as client:
        answer = client.get(path, params=asked)
    return answer.raise_for_status().json()["data"]


def _selectors(node: Any) -> Iterator[tuple[str, str]]:
    """All metrics in a parsed expression: the name, and how they are selected."""
    if isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            conditions = [
                f"{each['name']}{each['type']}{json.dumps(each['value'])}"
                for each in node["matchers"]
                if each["name"] != "__name__"
            ]
            yield node["name"], f"{node['name']}{{{','.join(conditions)}}}"
        for inner in node.values():
            yield from _selectors(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _selectors(inner)


def test_each_rule_is_loaded_and_healthy(stack: Stack) -> None:
    def healthy() -> bool:
        rules = [rule for g in _get(stack, "/api/v1/rules")["groups"] for rule in g["rules"]]
        sick = {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"}
        assert sick == {}
        loaded = sorted(rule["name"] for rule in rules)
        assert loaded == sorted(rule.get("alert") or rule["record"] for rule in _RULES)
        return True

    poll_until(healthy, "each rule to have been evaluated", _EVALUATED_SECONDS)


def test_prometheus_tells_alertmanager(stack: Stack) -> None:
    """Of the alert that always fires."""

    def told() -> bool:
        with local_client(stack.facts["ALERTMANAGER_URL"]) as client:
            alerts = client.get("/api/v2/alerts").raise_for_status().json()
        return "Watchdog" in {alert["labels"]["alertname"] for alert in alerts}

    poll_until(told, "the Watchdog in Alertmanager", PATIENCE_SECONDS)


def test_each_metric_of_an_expression_is_there(stack: Stack) -> None:
    """With the labels by which it is chosen."""
    asked = {
        (name, selector)
        for rule in _RULES
        for name, selector in _selectors(_get(stack, "/api/v1/parse_query", query=rule["expr"]))
        if name not in _RECORDED
    }
    assert set(_AFTER_A_FAILURE) <= {name for name, _ in asked}
    wanted = {
        selector
        for name, selector in asked
        if name not in _AFTER_A_FAILURE and _AFTER_A_TIME_OUT not in selector
    }

    def all_there() -> bool:
        missing = {s for s in wanted if not _get(stack, "/api/v1/series", **{"match[]": s})}
        assert missing == set()
        return True

    with load(stack.facts):
        poll_until(all_there, "all that the rules ask for", PATIENCE_SECONDS)


@contextmanager
def _service(address: str, otlp: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PORT": address.rpartition(":")[2],
        "OTEL_SERVICE_NAME": _VICTIM,
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _firing(stack: Stack) -> set[str]:
    query = f'ALERTS{{{_SERVICE}="{_VICTIM}", alertstate="firing"}}'
    return {sample.labels["alertname"] for sample in stack.backends.prometheus(query)}


def _seen(stack: Stack) -> bool:
    """It is ready and heard, as Prometheus knows it."""
    where = f'{_SERVICE}="{_VICTIM}"'
    ready = stack.backends.prometheus(f"{others.CHECKED.prometheus}{{{where}}} == 1")
    return bool(ready and stack.backends.prometheus(_sockets(where)))


def _sockets(where: str = f'{_SERVICE}="{_VICTIM}"') -> str:
    return f"{names.SOCKET_CONNECTIONS.prometheus}{{{where}}}"


def test_death_of_a_service_is_told_within_two_minutes_and_its_return_too(
    stack: Stack, tmp_path: Path
) -> None:
    host = stack.facts["STACK_HOST"]
    with socket.create_server((host, 0)) as free:
        address = f"{host}:{free.getsockname()[1]}"
    asking = {"APP_URL": f"http://{address}", "OTEL_SERVICE_NAME": _VICTIM}
    with collector(stack, tmp_path, asking) as beside:
        with _service(address, beside["OTLP_URL"]) as process:
            with local_client(f"http://{address}") as client:
                poll_until(
                    lambda: client.get("/readyz").is_success, "the service", PATIENCE_SECONDS
                )
            # Its socket dies with it.
            with Conversation(f"http://{address}") as conversation:
                conversation.ask("Are you there?", SIMULATED_MODEL)
                poll_until(lambda: _seen(stack), "the service to be seen", PATIENCE_SECONDS)
                poll_until(lambda: not _firing(stack), "no alert", PATIENCE_SECONDS)
                os.kill(process.pid, signal.SIGKILL)
            poll_until(
                lambda: {"ServiceDown", "ServiceSilent"} <= _firing(stack),
                "both alerts of a dead service",
                _DEATH_SECONDS,
            )
            poll_until(
                lambda: not stack.backends.prometheus(_sockets()),
                "the sockets of the dead process to be gone",
                PATIENCE_SECONDS,
            )
        with _service(address, beside["OTLP_URL"]):
            poll_until(lambda: not _firing(stack), "the alerts to be resolved", PATIENCE_SECONDS)
