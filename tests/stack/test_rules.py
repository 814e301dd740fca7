"""The rules in the running Prometheus: loaded, healthy, and with existing series."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from alerts import llm
from alerts.__main__ import FOLDER
from chatscope.names import OF_KEYS, OF_REPLICAS, OF_SHUTDOWN, OLDER_METRICS
from dashboards import others
from stack.secrets import backend_client
from stack.waiting import poll_until
from tests.config.files import parsed
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.filling import Window

# The slowest group is evaluated every minute.
_EVALUATED_SECONDS = 75.0
# Metrics without data, because no test here produces it, with the reason.
_AFTER_A_FAILURE = {
    **{
        hop.send_failed.prometheus: "a store refused for good what an exporter sent"
        for hop in others.HOPS
    },
    others.POINTS_THROUGH.enqueue_failed.prometheus: "a full queue refused points",
    others.LOKI_DISCARDED.prometheus: "Loki threw a line away",
    others.DELTA_POINTS.prometheus: "a service sent a delta that could not be added up",
}
# Recorded by other libraries, by a service that requires keys, or by one that ends.
_MADE_ELSEWHERE = {
    name
    for metric in (*OLDER_METRICS, *OF_KEYS, *OF_REPLICAS, *OF_SHUTDOWN)
    for name in (
        metric.prometheus,
        *(f"{metric.prometheus}_{part}" for part in others.HISTOGRAM_PARTS),
    )
}
# Of gateways and writers, which only the scaled stack has.
_OF_SCALED = re.compile(
    "|".join(
        (
            others.TRACES_WAITING.prometheus,
            others.KAFKA_LAG.prometheus,
            others.FROM_AGENTS,
            others.SPANS_TO_KAFKA,
        )
    )
)
_AFTER_A_TIME_OUT = "|".join(llm.TIMEOUTS)
_RULES = [
    rule
    for path in sorted(FOLDER.glob("*.rules.yaml"))
    for group in parsed(path)["groups"]
    for rule in group["rules"]
]
_RECORDED = {rule["record"] for rule in _RULES if "record" in rule}


def _get(stack: Stack, path: str, **asked: Any) -> Any:
    with backend_client(stack.facts, "PROMETHEUS_URL") as client:
        answer = client.get(path, params=asked)
    return answer.raise_for_status().json()["data"]


def _selectors(node: Any) -> Iterator[tuple[str, str]]:
    """Yield all metrics in a parsed expression: name and matchers."""
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


def test_prometheus_sends_to_alertmanager(stack: Stack) -> None:
    """The selector of the alert that always fires."""

    def told() -> bool:
        with backend_client(stack.facts, "ALERTMANAGER_URL") as client:
            alerts = client.get("/api/v2/alerts").raise_for_status().json()
        return "Watchdog" in {alert["labels"]["alertname"] for alert in alerts}

    poll_until(told, "the Watchdog in Alertmanager", PATIENCE_SECONDS)


@pytest.mark.one_machine("Thanos does not parse expressions")
def test_each_metric_of_an_expression_is_there(stack: Stack, window: Window) -> None:
    """With its matchers."""
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
        if name not in _MADE_ELSEWHERE | set(_AFTER_A_FAILURE)
        and _AFTER_A_TIME_OUT not in selector
        and not _OF_SCALED.search(selector)
    }

    def all_there() -> bool:
        missing = {s for s in wanted if not _get(stack, "/api/v1/series", **{"match[]": s})}
        assert missing == set()
        return True

    poll_until(all_there, "all that the rules ask for", PATIENCE_SECONDS)
