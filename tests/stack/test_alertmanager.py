"""Alertmanager at run time: readiness, and messages to each receiver."""

import json
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from drill.webhook import WebhookReceiver, webhook_receiver
from stack.secrets import backend_client
from stack.waiting import poll_until
from tests.alerting import GRAFANA, Alertmanager, Mailbox, alertmanager, mailbox
from tests.running import PATIENCE_SECONDS, Stack

_LOGQL = '{service_name="chatscope"} | severity_text=~"ERROR|FATAL.*" |= "50 % & <more>"'
_TRACEQL = '{ resource.service.name = "chatscope" && status = error }'
_ANNOTATIONS = {
    "summary": "Answers fail: 7 % of <all> & more.",
    "value": "7 %",
    "runbook_url": "docs/runbooks/ErrorRateHigh.md",
    "dashboard": "/d/service?var-service=chatscope",
    "query": _LOGQL,
}


def alert(name: str, severity: str = "warning", **labels: str) -> dict[str, Any]:
    """Return an alert as Prometheus pushes it."""
    return {
        "labels": {
            "alertname": name,
            "severity": severity,
            "area": "service",
            "service_name": "chatscope",
            **labels,
        },
        "annotations": _ANNOTATIONS,
    }


def over(pushed: dict[str, Any]) -> dict[str, Any]:
    """Return the same alert, resolved."""
    return {**pushed, "endsAt": "2025-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def people() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def mails() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


@pytest.fixture(scope="module")
def told(
    people: WebhookReceiver, mails: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Alertmanager]:
    """Run an Alertmanager with all kinds of receivers."""
    with alertmanager(
        tmp_path_factory.mktemp("alertmanager"),
        ALERT_WEBHOOK_URL=people.url("/hook?key=a%20b"),
        ALERT_WATCHDOG_URL=people.url("/watchdog"),
        ALERT_SLACK_URL=people.url("/slack"),
        ALERT_SLACK_CHANNEL="#o'clock",
        ALERT_PAGERDUTY_KEY="k$y",
        ALERT_PAGERDUTY_URL=people.url("/enqueue"),
        ALERT_EMAIL_TO="Ann <ann@example.com>, bob@example.com",
        ALERT_EMAIL_FROM="chatscope@example.com",
        ALERT_SMTP_HOST=mails.address,
        ALERT_SMTP_REQUIRE_TLS="false",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def critical(told: Alertmanager) -> str:
    """Push a critical alert; return its name."""
    name = "ErrorRateHigh"
    told.push(alert(name, "critical"))
    return name


def test_it_runs_with_our_configuration_and_no_peers(stack: Stack) -> None:
    with backend_client(stack.facts, "ALERTMANAGER_URL") as client:
        status = client.get("/api/v2/status").raise_for_status().json()
    assert "receiver: none" in status["config"]["original"]
    assert status["cluster"]["status"] == "disabled"


def test_an_alert_that_comes_in_is_shown_with_its_receiver(stack: Stack) -> None:
    name = f"Test{secrets.token_hex(4)}"
    with backend_client(stack.facts, "ALERTMANAGER_URL") as client:
        pushed = {"labels": {"alertname": name, "severity": "none"}}
        client.post("/api/v2/alerts", json=[pushed]).raise_for_status()
        wanted = {"filter": f"alertname={name}"}
        [found] = client.get("/api/v2/alerts", params=wanted).raise_for_status().json()
    assert found["status"]["state"] in ("active", "unprocessed")
    assert [receiver["name"] for receiver in found["receivers"]] == ["none"]


def test_a_webhook_gets_labels_annotations_and_where_grafana_is(
    told: Alertmanager, people: WebhookReceiver, critical: str
) -> None:
    got = people.wait_for_alert("/hook?key=a%20b", critical)
    assert got["labels"] == alert(critical, "critical")["labels"]
    assert got["annotations"] == _ANNOTATIONS
    assert {body["externalURL"] for body in people.bodies("/hook?key=a%20b")} == {GRAFANA}


def test_slack_gets_words_and_links_with_its_own_signs_escaped(
    people: WebhookReceiver, critical: str
) -> None:
    [body, *_] = _came(people, "/slack")
    assert body["channel"] == "#o'clock"
    [said] = body["attachments"]
    assert said["title"] == f"Critical: {critical} (chatscope)"
    assert said["color"] == "danger"
    assert "Answers fail: 7 % of &lt;all&gt; &amp; more." in said["text"]
    assert "Runbook: docs/runbooks/ErrorRateHigh.md" in said["text"]
    assert said["title_link"].startswith(f"{GRAFANA}/d/service?var-service=chatscope&from=")
    query = said["text"].partition(f"<{GRAFANA}/explore?")[2].partition("|Query>")[0]
    assert _pane(query)["queries"][0]["expr"] == _LOGQL


def test_pagerduty_gets_key_severity_and_links(people: WebhookReceiver, critical: str) -> None:
    [body, *_] = _came(people, "/enqueue")
    assert body["routing_key"] == "k$y"
    assert body["event_action"] == "trigger"
    assert body["payload"]["severity"] == "critical"
    assert body["payload"]["summary"] == f"Critical: {critical} (chatscope)"
    assert body["payload"]["component"] == "chatscope"
    assert _ANNOTATIONS["summary"] in body["payload"]["custom_details"]["alerts"]
    board, query = (link["href"] for link in body["links"])
    assert board.startswith(f"{GRAFANA}/d/service?var-service=chatscope&from=")
    assert _pane(query)["datasource"] == "loki"


def test_a_mail_has_summary_and_links_as_text_and_as_html(mails: Mailbox, critical: str) -> None:
    recipients, mail = mails.next()
    assert recipients == ["ann@example.com", "bob@example.com"]
    assert mail["From"] == "chatscope@example.com"
    assert mail["Subject"] == f"Critical: {critical} (chatscope)"
    text, html = (part.get_content() for part in mail.iter_parts())
    assert _ANNOTATIONS["summary"] in text
    assert _LOGQL in text
    query = text.partition(f"{GRAFANA}/explore?")[2].splitlines()[0]
    assert _pane(query)["queries"][0]["expr"] == _LOGQL
    assert "Answers fail: 7 % of &lt;all&gt; &amp; more." in html
    assert f'<a href="{GRAFANA}/explore?{query.replace("&", "&amp;")}">' in html
    assert f'<a href="{GRAFANA}/d/service?var-service=chatscope&amp;from=' in html


def test_a_traceql_query_opens_tempo(told: Alertmanager, people: WebhookReceiver) -> None:
    pushed = alert("AnswersSlow")
    told.push({**pushed, "annotations": {**_ANNOTATIONS, "query": _TRACEQL}})

    def query() -> str:
        texts = [body["attachments"][0]["text"] for body in people.bodies("/slack")]
        slow = [text for text in texts if _is_tempo(text)]
        return slow[0].partition(f"<{GRAFANA}/explore?")[2].partition("|Query>")[0] if slow else ""

    pane = _pane(poll_until(query, "the message with the query", PATIENCE_SECONDS))
    assert pane["datasource"] == "tempo"
    assert pane["queries"][0]["query"] == _TRACEQL
    assert pane["queries"][0]["queryType"] == "traceql"


def test_resolved_alert_is_reported(told: Alertmanager, people: WebhookReceiver) -> None:
    pushed = alert("MemoryHigh")
    told.push(pushed)
    people.wait_for_alert("/hook?key=a%20b", "MemoryHigh")
    told.push(over(pushed))
    people.wait_for_alert("/hook?key=a%20b", "MemoryHigh", "resolved")

    def titles() -> list[str]:
        said = [body["attachments"][0] for body in people.bodies("/slack")]
        return [one["color"] for one in said if one["title"] == "Resolved: MemoryHigh (chatscope)"]

    assert poll_until(titles, "Slack to hear of it", PATIENCE_SECONDS) == ["good"]


def test_warning_is_not_sent_to_pagerduty(
    told: Alertmanager, people: WebhookReceiver, critical: str
) -> None:
    told.push(alert("TokenSpike"))
    people.wait_for_alert("/hook?key=a%20b", "TokenSpike")
    told.push(alert("CollectorDown", "critical", service_name=""))
    people.wait_for_alert("/hook?key=a%20b", "CollectorDown")

    def woken() -> set[str]:
        said = {body["payload"]["summary"] for body in people.bodies("/enqueue")}
        return said if "Critical: CollectorDown" in said else set()

    summaries = poll_until(woken, "PagerDuty to hear of the later one", PATIENCE_SECONDS)
    assert not any("TokenSpike" in summary for summary in summaries)
    told.push(over(alert("CollectorDown", "critical", service_name="")))


def test_the_watchdog_goes_to_its_own_address_and_nowhere_else(
    told: Alertmanager, people: WebhookReceiver
) -> None:
    """Repetitions are checked by the drill."""
    told.push(alert("Watchdog", "none"))
    people.wait_for_alert("/watchdog", "Watchdog")
    # It would have arrived before an alert that is pushed later.
    told.push(alert("AnswersStall"))
    people.wait_for_alert("/hook?key=a%20b", "AnswersStall")
    assert not [a for a in people.alerts("/hook?key=a%20b") if a["labels"]["severity"] == "none"]


@pytest.mark.parametrize(
    ("cause", "consequence", "other"),
    [
        (
            alert("CollectorDown", "critical"),
            alert("QueueFilling", service_name=""),
            alert("EventLoopLagHigh"),
        ),
        (
            alert("ServiceDown", "critical", service_name="one"),
            alert("ModelTimeouts", area="llm", service_name="one"),
            alert("ModelTimeouts", area="llm", service_name="two"),
        ),
        (
            alert("AvailabilityBudgetBurn", "critical"),
            alert("AvailabilityBudgetBurn", service_name="chatscope"),
            alert("LatencyBudgetBurn"),
        ),
    ],
    ids=["collector", "service", "severity"],
)
def test_inhibited_alert_is_silent_while_its_cause_is_reported(
    told: Alertmanager,
    people: WebhookReceiver,
    cause: dict[str, Any],
    consequence: dict[str, Any],
    other: dict[str, Any],
) -> None:
    told.push(cause)
    people.wait_for_alert("/hook?key=a%20b", cause["labels"]["alertname"])
    told.push(consequence, other)
    poll_until(lambda: _hooked(people, other), "the other one to be told", PATIENCE_SECONDS)
    assert told.state(consequence["labels"]) == "suppressed"
    assert not _hooked(people, consequence)
    # Check that it is sent at all.
    told.push(over(cause))
    poll_until(lambda: _hooked(people, consequence), "it to be told then", PATIENCE_SECONDS)


def _hooked(people: WebhookReceiver, pushed: dict[str, Any]) -> bool:
    labels = {name: value for name, value in pushed["labels"].items() if value}
    return any(alert["labels"] == labels for alert in people.alerts("/hook?key=a%20b"))


def _came(people: WebhookReceiver, path: str) -> list[Any]:
    return poll_until(lambda: people.bodies(path), f"something to come to {path}", PATIENCE_SECONDS)


def _is_tempo(text: str) -> bool:
    return "%22tempo%22" in text


def _pane(address: str) -> dict[str, Any]:
    """Return what Grafana's Explore shows, from the link's address."""
    [panes] = parse_qs(urlsplit(address).query or address)["panes"]
    [pane] = json.loads(panes).values()
    found: dict[str, Any] = pane
    return found
