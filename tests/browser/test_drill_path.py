"""The on-call engineer's path from an alert message to the cause of a service's failures."""

import os
import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from drill.cases import CASES, OBJECTIVES_SERVICE
from drill.target import CHAT, Target, target
from stack import grafana
from stack.waiting import poll_until
from tests.builds import wait_for_binaries

_WORDS = "The simulated model failed, as configured."
_ALERT = "ErrorRateHigh"
_LINK = re.compile(r"<([^|>]+)\|Dashboard>")
# The drill's own limit for its alerts.
_MESSAGE_SECONDS = 150.0
_PAGE_MS = 60_000.0


@pytest.fixture(scope="module")
def message(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the text of the alert's chat message, while the fault of the case `failing` lasts."""
    home = os.environ.get("GRAFANA_HOME")
    if not home:
        pytest.skip(f"no Grafana: {grafana.MISSING}")
    wait_for_binaries()
    [failing] = [case for case in CASES if case.name == "failing"]
    with (
        target(tmp_path_factory.mktemp("drill"), OBJECTIVES_SERVICE, grafana_home=home) as stack,
        failing.fault(stack),
    ):
        yield poll_until(lambda: _message(stack), f"{_ALERT} in the chat", _MESSAGE_SECONDS)


def _message(stack: Target) -> str | None:
    attachments = [part for body in stack.receiver.bodies(CHAT) for part in body["attachments"]]
    return next((part["text"] for part in attachments if _ALERT in part["title"]), None)


def test_message_leads_to_the_providers_words_and_the_failed_span_in_three_clicks(
    browser: Browser, message: str, record_property: Callable[[str, object], None]
) -> None:
    found = _LINK.search(message)
    assert found, message
    page = browser.new_page(viewport={"width": 1600, "height": 950})
    try:
        started = time.monotonic()
        # The first click.
        page.goto(found[1], timeout=_PAGE_MS)
        words = page.get_by_text(_WORDS)
        expect(words.first).to_be_in_viewport(timeout=_PAGE_MS)
        first = time.monotonic() - started
        # The second, on the trace of the failed response; the third, on the span that failed.
        row = page.get_by_role("row").filter(has_text=_WORDS).first
        row.get_by_role("link").first.click()
        span = page.get_by_text("chat simulated-1").first
        expect(span).to_be_in_viewport(timeout=_PAGE_MS)
        span.click()
        expect(words.first).to_be_in_viewport(timeout=_PAGE_MS)
        last = time.monotonic() - started
        record_property("seconds until the words and the span", f"{first:.1f}, {last:.1f}")
    finally:
        page.close()
