"""The rules of Loki's ruler: loaded, and with pushed lines quiet, firing and resolved."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import logs
from drill.webhook import WebhookReceiver, webhook_receiver
from stack import facts as stack_facts
from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import binary_path
from stack.secrets import backend_client
from stack.waiting import poll_until
from tests.alerting import alertmanager
from tests.running import PATIENCE_SECONDS, Stack
from tests.stores import ON_A_PORT

_RULES = yaml.safe_load((ROOT / "loki" / "rules" / "fake" / "logs.rules.yaml").read_text())
_NAMES = {rule["alert"] for group in _RULES["groups"] for rule in group["rules"]}
_MOST_ERRORS = 5
_NEW_SECONDS = 10
_TIMES = logs.Times(
    burst="10s", share=1, hold="1s", new=f"{_NEW_SECONDS}s", known="5m", tokens="10s", interval="1s"
)
# Before `new`, within `known`.
_BEFORE_SECONDS = 60
_HOOK = "/hook"
_TOKEN = "sk-" + "canary0123456789abcdef"


@dataclass(frozen=True)
class Ruler:
    """A Loki with the rules in short windows, and the receiver of its Alertmanager."""

    url: str
    people: WebhookReceiver

    def push(
        self,
        service: str,
        severity: str,
        of: Mapping[str, str] | None = None,
        *,
        times: int = 1,
        ago: int = 0,
    ) -> None:
        """Return log lines of a service, as the Collector sends them, each with a different text.

        `of`: metadata that differs from `_PLACE`.
        """
        attributes = [_pair(name, value) for name, value in (_PLACE | dict(of or {})).items()]
        at = time.time_ns() - ago * 10**9
        records = [
            {
                "timeUnixNano": str(at + number),
                "severityText": severity,
                "body": {"stringValue": f"question {number} of {at}"},
                "attributes": attributes,
            }
            for number in range(times)
        ]
        scope = {"scope": {"name": "app.domain.turn"}, "logRecords": records}
        resource = {"attributes": [_pair("service.name", service)]}
        body = {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}
        with local_client(self.url) as client:
            client.post("/otlp/v1/logs", json=body).raise_for_status()

    def firing(self) -> set[tuple[str, str]]:
        """Return name and service of each firing alert."""
        with local_client(self.url) as client:
            answer = client.get("/prometheus/api/v1/alerts").raise_for_status().json()
        return {
            (alert["labels"]["alertname"], alert["labels"]["service_name"])
            for alert in answer["data"]["alerts"]
            if alert["state"] == "firing"
        }

    def told(self, name: str, service: str, status: str = "firing") -> dict[str, Any]:
        """Wait for the webhook message about an alert, and return it."""

        def found() -> dict[str, Any] | None:
            return next(
                (
                    alert
                    for alert in self.people.alerts(_HOOK)
                    if (alert["labels"]["alertname"], alert["status"]) == (name, status)
                    and alert["labels"]["service_name"] == service
                ),
                None,
            )

        return poll_until(found, f"{name} of {service} to be told as {status}", PATIENCE_SECONDS)

    def ever_told(self) -> set[tuple[str, str]]:
        """Return name and service of each alert in the webhook messages."""
        return {
            (alert["labels"]["alertname"], alert["labels"]["service_name"])
            for alert in self.people.alerts(_HOOK)
        }

    def evaluate(self) -> None:
        """Wait until all rules were evaluated twice from now on."""
        for _ in range(2):
            before = poll_until(self._evaluations, "all rules to be well", PATIENCE_SECONDS)
            self._later_than(before)

    def _later_than(self, before: set[str]) -> None:
        poll_until(
            lambda: (now := self._evaluations()) and not now & before,
            "an evaluation of each rule",
            PATIENCE_SECONDS,
        )

    def _evaluations(self) -> set[str]:
        """Return the times of the rules' evaluations; none if one of them is unhealthy."""
        with local_client(self.url) as client:
            answer = client.get("/prometheus/api/v1/rules").raise_for_status().json()
        rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        well = all(rule["health"] == "ok" for rule in rules)
        return {rule["lastEvaluation"] for rule in rules} if well else set()


_TEXTS = ("ERROR", "CRITICAL", "FATAL")
_ODD = {"code.function.name": "<lambda>", "exception.type": 'Odd"Error'}
_PLACE = {"code.function.name": "answer", "code.line.number": "7", "error.type": "timeout"}


def _pair(name: str, value: str) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value}}


@pytest.fixture(scope="module")
def ruler(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ruler]:
    directory = tmp_path_factory.mktemp("ruler")
    folder = directory / "rules" / "fake"
    folder.mkdir(parents=True)
    groups = logs.made(_TIMES, _MOST_ERRORS)
    (folder / "logs.rules.yaml").write_text(json.dumps({"groups": groups}))
    with ExitStack() as running:
        people = running.enter_context(webhook_receiver())
        alerts = running.enter_context(
            alertmanager(directory, ALERT_WEBHOOK_URL=people.url(_HOOK)),
        )
        facts = stack_facts.load(
            {
                "LOKI_PORT": _free_port(),
                "LOKI_GRPC_PORT": _free_port(),
                "ALERTMANAGER_URL": alerts.url,
                "PROMETHEUS_PORT": stack.facts["PROMETHEUS_PORT"],
                "STATE_DIR": str(directory),
            }
        )
        # It writes to the stack's Prometheus.
        facts["SECRETS_DIR"] = stack.facts["SECRETS_DIR"]
        running.enter_context(_loki(directory, facts))
        yield Ruler(facts["LOKI_URL"], people)


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


def _loki(directory: Path, facts: dict[str, str]) -> ExitStack:
    """Run our Loki with the rules of that directory."""
    running = ExitStack()
    log = running.enter_context((directory / "loki.log").open("w"))
    process = subprocess.Popen(
        [
            binary_path("loki"),
            f"-config.file={ROOT / 'loki' / 'loki.yaml'}",
            "-config.expand-env=true",
            f"-ruler.storage.local.directory={directory / 'rules'}",
            *ON_A_PORT,
        ],
        env={**facts, "PATH": os.defpath},
        cwd=directory,
        stderr=log,
    )
    running.callback(process.wait)
    running.callback(process.terminate)
    with backend_client(facts, "LOKI_URL") as client:
        poll_until(lambda: client.get("/ready").is_success, "Loki to be ready", PATIENCE_SECONDS)
    return running


def test_loki_has_each_rule_and_can_answer_it(stack: Stack) -> None:
    with backend_client(stack.facts, "LOKI_URL", timeout=PATIENCE_SECONDS) as client:
        answer = client.get("/prometheus/api/v1/rules").raise_for_status().json()
        rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        for rule in rules:
            # Its first evaluation is minutes away.
            client.get("/loki/api/v1/query", params={"query": rule["query"]}).raise_for_status()
    assert {rule["name"] for rule in rules} == _NAMES
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_loki_reads_the_rules_from_our_folder(stack: Stack) -> None:
    with backend_client(stack.facts, "LOKI_URL") as client:
        answer = client.get("/loki/api/v1/rules").raise_for_status()
    groups = yaml.safe_load(answer.text)["logs.rules.yaml"]
    assert {rule["alert"] for group in groups for rule in group["rules"]} == _NAMES


@pytest.fixture(scope="module")
def pushed(ruler: Ruler) -> Ruler:
    """Push the lines of all tests, so that these wait for their alerts concurrently."""
    ruler.push("well", "INFO", times=50)
    ruler.push("well", "WARNING", times=50)
    ruler.push("below", "ERROR", times=_MOST_ERRORS)
    ruler.push("above", "CRITICAL", times=_MOST_ERRORS + 1)
    ruler.push("shown", "ERROR")
    ruler.push("changed", "ERROR", _ODD)
    ruler.push("asked", "ERROR", {"code.line.number": "8", "exception.type": 'Odd"Error'})
    ruler.push("asked", "ERROR", ago=_BEFORE_SECONDS)
    ruler.push("careless", "INFO", {"note": f"key {_TOKEN}"})
    ruler.push(
        "careful", "INFO", {"note": "key <redacted api key>, sk-learn-and-others-of-science"}
    )
    for text in _TEXTS:
        ruler.push(f"known-{text}", "ERROR", ago=_BEFORE_SECONDS)
        ruler.push(f"known-{text}", text)
        # The same code location in another service is another error.
        ruler.push(f"other-{text}", text)
    for attribute in _PLACE:
        ruler.push(f"differs-{attribute}", "ERROR", ago=_BEFORE_SECONDS)
        ruler.push(f"differs-{attribute}", "ERROR", {attribute: "99"})
    return ruler


def test_burst_of_errors_and_its_end_are_reported(pushed: Ruler) -> None:
    alert = pushed.told("ErrorLogBurst", "above")
    assert alert["labels"] == {
        "alertname": "ErrorLogBurst",
        "severity": "warning",
        "area": "logs",
        "service_name": "above",
    }
    assert alert["annotations"] == {
        "summary": "above logged 6 errors within 10s, more than 5.",
        "value": "6 lines",
        "runbook_url": "docs/runbooks/ErrorLogBurst.md",
        "dashboard": "/d/logs?var-service=above",
        "query": '{service_name="above"} | severity_text=~"ERROR|CRITICAL|FATAL.*"',
    }
    pushed.told("ErrorLogBurst", "above", "resolved")
    assert ("ErrorLogBurst", "below") not in pushed.ever_told()


def test_new_error_is_reported_and_resolved_later(pushed: Ruler) -> None:
    alert = pushed.told("NewErrorPattern", "changed")
    assert alert["labels"] == {
        "alertname": "NewErrorPattern",
        "severity": "warning",
        "area": "logs",
        "service_name": "changed",
        "scope_name": "app.domain.turn",
        "code_function_name": "<lambda>",
        "code_line_number": "7",
        "error_type": "timeout",
        "exception_type": 'Odd"Error',
    }
    assert alert["annotations"]["summary"] == (
        "changed logs an error that did not occur in the 5m before, 1 times: app.domain.turn, "
        'line 7 of <lambda>, timeout, Odd"Error.'
    )
    over = pushed.told("NewErrorPattern", "changed", "resolved")
    # For as long as it is new, not only at the first evaluation. By Loki's own clock.
    began, ended = (datetime.fromisoformat(over[end]) for end in ("startsAt", "endsAt"))
    assert (ended - began).total_seconds() > _NEW_SECONDS / 2


def test_token_in_any_part_of_a_record_is_reported(pushed: Ruler) -> None:
    alert = pushed.told("SecretRecorded", "careless")
    assert alert["labels"] == {
        "alertname": "SecretRecorded",
        "severity": "critical",
        "area": "logs",
        "service_name": "careless",
    }
    annotations = alert["annotations"]
    assert annotations["summary"] == (
        "careless recorded 1 lines with a token of an API within 10s."
    )
    with local_client(pushed.url) as client:
        query = {"query": annotations["query"]}
        answer = client.get("/loki/api/v1/query_range", params=query).raise_for_status()
    [stream] = answer.json()["data"]["result"]
    assert _TOKEN in str(stream["values"])
    pushed.told("SecretRecorded", "careless", "resolved")
    assert ("SecretRecorded", "careful") not in pushed.ever_told()


@pytest.mark.one_machine("Thanos receives at another address")
def test_alert_is_written_to_prometheus_for_dashboards(stack: Stack, pushed: Ruler) -> None:
    series = 'ALERTS{service_name="shown", alertstate="firing"}'
    [alert] = poll_until(
        lambda: stack.backends.prometheus(f"last_over_time({series}[10m])"),
        "the alert in Prometheus",
        PATIENCE_SECONDS,
    )
    assert alert.labels["alertname"] == "NewErrorPattern"
    poll_until(lambda: not stack.backends.prometheus(series), "the end of it", PATIENCE_SECONDS)


def test_the_query_of_a_new_error_finds_its_lines_and_no_others(pushed: Ruler) -> None:
    query = pushed.told("NewErrorPattern", "asked")["annotations"]["query"]
    with local_client(pushed.url) as client:
        answer = client.get("/loki/api/v1/query_range", params={"query": query}).raise_for_status()
    found = [line for stream in answer.json()["data"]["result"] for line in stream["values"]]
    assert len(found) == 1


@pytest.mark.parametrize("attribute", _PLACE)
def test_an_error_that_differs_in(pushed: Ruler, attribute: str) -> None:
    labels = pushed.told("NewErrorPattern", f"differs-{attribute}")["labels"]
    assert labels[attribute.replace(".", "_")] == "99"


def test_known_errors_and_lines_without_errors_are_quiet(pushed: Ruler) -> None:
    for text in _TEXTS:
        pushed.told("NewErrorPattern", f"other-{text}")
    pushed.evaluate()
    told = {service for _, service in pushed.ever_told() | pushed.firing()}
    assert not told & {"well", *(f"known-{text}" for text in _TEXTS)}
