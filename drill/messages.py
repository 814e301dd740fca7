"""Checks of alert messages: labels, annotations and links."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2

from drill.cases import Case, kind
from drill.target import ALERTS, WATCHDOG, Alert, Target
from stack.facts import ROOT

_ANNOTATIONS: Final = {"summary", "value", "runbook_url", "dashboard", "query"}
_DASHBOARDS: Final = ROOT / "grafana-provisioning" / "dashboards"
# Leftovers of Go's templates where a value is missing.
_UNFILLED: Final = re.compile(r"\{\{|\}\}|<no value>|%!|<error")
# The same condition as in alertmanager/messages.tmpl.
_TRACEQL: Final = re.compile(r"^{ *[a-z]+[.:]")


def problems(target: Target, case: Case, alert: Alert) -> Iterator[str]:
    """Yield each problem of an alert that arrived."""
    name = kind(alert)
    for problem in (*_labels(target, case, alert), *_annotations(alert), *_links(target, alert)):
        yield f"{name}: {problem}"


def resolved_problems(alert: Alert) -> Iterator[str]:
    """Yield the problems of a message that an alert is resolved."""
    started, ended = (datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt"))
    if started >= ended:
        yield f"{kind(alert)}: ended at {ended}, before its start at {started}"


def watchdog_problems(target: Target) -> Iterator[str]:
    """Check that the watchdog's receiver gets the Watchdog only, and the other one never does."""
    own = {alert["labels"]["alertname"] for alert in target.receiver.alerts(WATCHDOG)}
    if own != {"Watchdog"}:
        yield f"the watchdog's receiver got {own}"
    if "Watchdog" in {alert["labels"]["alertname"] for alert in target.receiver.alerts(ALERTS)}:
        yield "the Watchdog was sent to the receiver of alerts"
    addresses = {body["externalURL"] for body in target.receiver.bodies(ALERTS)}
    if addresses - {target.facts["GRAFANA_PUBLIC_URL"]}:
        yield f"messages contain a wrong address of Grafana: {addresses}"


def _labels(target: Target, case: Case, alert: Alert) -> Iterator[str]:
    labels = alert["labels"]
    rules = [rule for rule in target.rules if rule["alert"] == labels["alertname"]]
    if not any(rule["labels"].items() <= labels.items() for rule in rules):
        yield f"labels match no rule: {labels}"
    if not case.labels.items() <= labels.items():
        yield f"labels must include {dict(case.labels)}: {labels}"


def _annotations(alert: Alert) -> Iterator[str]:
    texts = alert["annotations"]
    if set(texts) != _ANNOTATIONS:
        yield f"annotations are {sorted(texts)}"
    for name, text in texts.items():
        if not text.strip() or _UNFILLED.search(text):
            yield f"{name} is not filled in: {text!r}"


def _links(target: Target, alert: Alert) -> Iterator[str]:
    texts = alert["annotations"]
    if not (ROOT / texts["runbook_url"]).is_file():
        yield f"{texts['runbook_url']} does not exist"
    dashboard = urlsplit(texts["dashboard"])
    if dashboard.path.removeprefix("/d/") not in _uids():
        yield f"dashboard {dashboard.path} does not exist"
    service = alert["labels"].get("service_name")
    if service and [service] not in parse_qs(dashboard.query).values():
        yield f"the dashboard does not select {service}: {texts['dashboard']}"
    try:
        _query(target, texts["query"])
    except httpx2.HTTPStatusError as error:
        yield f"the query is rejected: {texts['query']}: {error.response.text.strip()}"


def _query(target: Target, query: str) -> list[Any]:
    if _TRACEQL.search(query):
        return list(target.backends.tempo_search(query))
    return list(target.backends.loki(query))


def _uids() -> set[str]:
    return {_uid(path) for path in _DASHBOARDS.glob("*.json")}


def _uid(path: Path) -> str:
    return str(json.loads(path.read_text())["uid"])
