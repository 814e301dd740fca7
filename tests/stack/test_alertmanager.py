"""Alertmanager as it runs: with our configuration, alone, and ready for alerts."""

import secrets

from stack.facts import ROOT
from stack.local_http import local_client
from tests.running import Stack


def test_it_runs_with_our_configuration_and_no_peers(stack: Stack) -> None:
    with local_client(stack.facts["ALERTMANAGER_URL"]) as client:
        status = client.get("/api/v2/status").raise_for_status().json()
    assert "receiver: nobody" in (ROOT / "alertmanager" / "alertmanager.yml").read_text()
    assert "receiver: nobody" in status["config"]["original"]
    assert status["cluster"]["status"] == "disabled"


def test_an_alert_that_comes_in_is_shown_with_its_receiver(stack: Stack) -> None:
    name = f"Test{secrets.token_hex(4)}"
    with local_client(stack.facts["ALERTMANAGER_URL"]) as client:
        client.post("/api/v2/alerts", json=[{"labels": {"alertname": name}}]).raise_for_status()
        wanted = {"filter": f"alertname={name}"}
        [alert] = client.get("/api/v2/alerts", params=wanted).raise_for_status().json()
    assert alert["status"]["state"] in ("active", "unprocessed")
    assert [receiver["name"] for receiver in alert["receivers"]] == ["nobody"]
