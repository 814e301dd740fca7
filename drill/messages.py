"""What is wrong with a message: its labels, its words, and where its links lead."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2

from drill.cases import Case, kind
from drill.ground import ALERTS, WATCHDOG, Alert, Ground
from stack.facts import ROOT

_ANNOTATIONS: Final = {"summary", "value", "runbook_url", "dashboard", "query"}
_BOARDS: Final = ROOT / "grafana-provisioning" / "dashboards"
# What Go's templates leave where something was not there.
_UNFILLED: Final = re.compile(r"\{\{|\}\}|<no value>|%!|<error")
# As alertmanager/messages.tmpl knows them.
_TRACEQL: Final = re.compile(r"^{ *[a-z]+[.:]")


def faults(ground: Ground, case: Case, alert: Alert) -> Iterator[str]:
    """Each fault of an alert that was told."""
    name = kind(alert)
    for fault in (*_labels(ground, case, alert), *_annotations(alert), *_links(ground, alert)):
        yield f"{name}: {fault}"


def of_its_end(resolved: Alert) -> Iterator[str]:
    """What is wrong with the message that it is over."""
    began, ended = (datetime.fromisoformat(resolved[name]) for name in ("startsAt", "endsAt"))
    if began >= ended:
        yield f"{kind(resolved)}: it ends at {ended}, and began at {began}"


def of_watchdog(ground: Ground) -> Iterator[str]:
    """It comes to its own receiver, and nothing else does; and nowhere else."""
    own = {alert["labels"]["alertname"] for alert in ground.people.alerts(WATCHDOG)}
    if own != {"Watchdog"}:
        yield f"who is told that the way is whole was told: {own}"
    if "Watchdog" in {alert["labels"]["alertname"] for alert in ground.people.alerts(ALERTS)}:
        yield "people were told of the Watchdog"
    addresses = {body["externalURL"] for body in ground.people.came(ALERTS)}
    if addresses - {ground.facts["GRAFANA_PUBLIC_URL"]}:
        yield f"messages say that Grafana is at {addresses}"


def _labels(ground: Ground, case: Case, alert: Alert) -> Iterator[str]:
    labels = alert["labels"]
    rules = [rule for rule in ground.rules if rule["alert"] == labels["alertname"]]
    if not any(rule["labels"].items() <= labels.items() for rule in rules):
        yield f"labels of no rule: {labels}"
    if not case.labels.items() <= labels.items():
        yield f"labels are to have {dict(case.labels)}: {labels}"


def _annotations(alert: Alert) -> Iterator[str]:
    texts = alert["annotations"]
    if set(texts) != _ANNOTATIONS:
        yield f"annotations are {sorted(texts)}"
    for name, text in texts.items():
        if not text.strip() or _UNFILLED.search(text):
            yield f"{name} is not filled in: {text!r}"


def _links(ground: Ground, alert: Alert) -> Iterator[str]:
    texts = alert["annotations"]
    if not (ROOT / texts["runbook_url"]).is_file():
        yield f"there is no {texts['runbook_url']}"
    board = urlsplit(texts["dashboard"])
    if board.path.removeprefix("/d/") not in _uids():
        yield f"there is no board {board.path}"
    service = alert["labels"].get("service_name")
    if service and [service] not in parse_qs(board.query).values():
        yield f"its board is not about {service}: {texts['dashboard']}"
    try:
        _ask(ground, texts["query"])
    except httpx2.HTTPStatusError as refused:
        yield f"its query is refused: {texts['query']}: {refused.response.text.strip()}"


def _ask(ground: Ground, query: str) -> list[Any]:
    if _TRACEQL.search(query):
        return list(ground.stores.tempo_search(query))
    return list(ground.stores.loki(query))


def _uids() -> set[str]:
    return {_uid(path) for path in _BOARDS.glob("*.json")}


def _uid(path: Path) -> str:
    return str(json.loads(path.read_text())["uid"])
