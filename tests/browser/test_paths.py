"""Paths through the dashboards: of an on-call engineer, and of a product owner."""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx2
import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, expect

from dashboards import links
from stack.facts import ROOT
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.hostile.provider import body, provider
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.filling import Window
from tests.stack.grafana import grafana_url
from tests.stack.load import service

_MODEL = "gpt-4o-mini"
_WORDS = "You exceeded your current quota, please check your plan and billing details."
_FAILURE = (
    b'{"error": {"message": "' + _WORDS.encode() + b'", "type": "insufficient_quota",'
    b' "code": "insufficient_quota"}}'
)
_ALERT = "ModelRateLimited"
_SCREEN = {"width": 1600, "height": 950}
_PAGE_MS = 60_000.0
_COST = re.compile(r"\$([0-9.]+)")


@dataclass(frozen=True)
class Incident:
    """Run a service whose provider rejects every call; return the trace of one failed response."""

    service: str
    trace_id: str


@pytest.fixture(scope="module")
def url(browser: Browser, stack: Stack) -> str:
    return grafana_url(stack)


@pytest.fixture(scope="module")
def incident(url: str, stack: Stack) -> Iterator[Incident]:
    name = f"incident-{secrets.token_hex(3)}"
    refusal = body("429 Too Many Requests", "application/json", _FAILURE)
    with provider({_MODEL: refusal}) as endpoint:
        variables = {**endpoint.environ, "OTEL_SERVICE_NAME": name, "OPENAI_API_KEY": "none"}
        with service(stack.facts, variables) as address, local_client(address) as client:
            traces = [_failed(client) for _ in range(6)]
            query = f'{{service_name="{name}"}} | trace_id="{traces[-1]}" |~ "answer failed"'
            poll_until(lambda: stack.backends.loki(query), "the failure in Loki", PATIENCE_SECONDS)
            poll_until(
                lambda: stack.backends.tempo_trace(traces[-1]),
                "the trace in Tempo",
                PATIENCE_SECONDS,
            )
            yield Incident(name, traces[-1])


def _failed(client: httpx2.Client) -> str:
    question = {"model": _MODEL, "messages": [{"role": "user", "content": "hello"}]}
    response = client.post("/v1/chat/completions", json=question)
    assert response.status_code == 429, response.text
    return str(response.headers["x-trace-id"])


def _link(alert: str, labels: dict[str, str]) -> str:
    """Return the address of the dashboard in the alert's message."""
    for path in sorted((ROOT / "prometheus" / "rules").glob("*.rules.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == alert:
                    link = str(rule["annotations"]["dashboard"])
                    for name, value in labels.items():
                        link = link.replace(f"{{{{ $labels.{name} }}}}", value)
                    return link
    raise AssertionError(f"no alert {alert}")


def _seen(found: Locator) -> None:
    """Assert that it is visible without scrolling."""
    expect(found.first).to_be_in_viewport(timeout=_PAGE_MS)


def test_message_leads_to_the_providers_words_in_three_clicks(
    browser: Browser,
    url: str,
    incident: Incident,
    record_property: Callable[[str, object], None],
) -> None:
    labels = {"service_name": incident.service, "gen_ai_request_model": _MODEL}
    link = _link(_ALERT, labels)
    page = browser.new_page(viewport={"width": _SCREEN["width"], "height": _SCREEN["height"]})
    try:
        started = time.monotonic()
        # The first click: the link of the message, with the alert's time range.
        sign = "&" if "?" in link else "?"
        page.goto(f"{url}{link}{sign}from=now-30m&to=now", timeout=_PAGE_MS)
        _seen(page.get_by_text(_WORDS))
        words = time.monotonic() - started
        _follow_trace(page, incident)
        trace = time.monotonic() - started
        record_property("seconds until the words and the trace", f"{words:.1f}, {trace:.1f}")
    finally:
        page.close()


def _follow_trace(page: Page, incident: Incident) -> None:
    """The second click, on the trace of a failed response; the third, on the span that failed."""
    row = page.get_by_role("row").filter(has_text=_WORDS).first
    row.get_by_role("link").first.click()
    span = page.get_by_text(f"chat {_MODEL}")
    _seen(span)
    span.first.click()
    _seen(page.get_by_text(_WORDS))


def test_costs_lead_to_the_user_and_the_conversation_behind_them(
    browser: Browser, url: str, window: Window
) -> None:
    page = browser.new_page(viewport={"width": _SCREEN["width"], "height": _SCREEN["height"]})
    between = {"from": int(window.start * 1000), "to": int(window.end * 1000)}
    try:
        page.goto(f"{url}/d/{links.USERS}?{urlencode(between)}", timeout=_PAGE_MS)
        users = page.get_by_test_id("data-testid Panel header Users")
        spent = users.get_by_role("row").filter(has_text="$")
        _seen(spent.get_by_role("gridcell"))
        costs = [
            float(found[1]) for text in spent.all_inner_texts() if (found := _COST.search(text))
        ]
        assert costs == sorted(costs, reverse=True)
        user = spent.first.get_by_role("link").first
        name = user.inner_text()
        # The first click: that user's conversations. The second: one of them.
        user.click()
        page.wait_for_url(f"**/d/{links.CONVERSATIONS}**")
        recent = page.get_by_test_id("data-testid Panel header Recent conversations")
        rows = recent.get_by_role("row").filter(has_text="$")
        _seen(rows.get_by_role("gridcell"))
        assert all(name in text for text in rows.all_inner_texts())
        conversation = rows.first.get_by_role("link").first
        wanted = conversation.inner_text()
        conversation.click()
        page.wait_for_url(f"**var-conversation={wanted}**")
        transcript = page.get_by_test_id("data-testid Panel header Transcript")
        _seen(transcript.get_by_text("answer completed"))
    finally:
        page.close()


def test_bad_ratings_name_the_model_and_lead_to_the_conversation(
    browser: Browser, url: str, window: Window
) -> None:
    page = browser.new_page(viewport={"width": _SCREEN["width"], "height": 2400})
    between = {"from": int(window.start * 1000), "to": int(window.end * 1000)}
    try:
        page.goto(f"{url}/d/{links.CONVERSATIONS}?{urlencode(between)}", timeout=_PAGE_MS)
        by_model = page.get_by_test_id("data-testid Panel header Ratings by model")
        _seen(by_model.get_by_role("gridcell").filter(has_text="%"))
        bad = page.get_by_test_id("data-testid Panel header Bad ratings").get_by_role("row")
        rated = bad.filter(has_text="rated-first")
        cell = rated.get_by_role("gridcell").first
        cell.wait_for(timeout=_PAGE_MS)
        # The newest are first.
        cell.scroll_into_view_if_needed()
        _seen(rated.get_by_role("gridcell"))
        rated.get_by_role("link", name="rated-first").click()
        page.wait_for_url("**var-conversation=rated-first**")
    finally:
        page.close()
