"""The path of a new user, from the chat page to Grafana: ask, see the trace, its logs, the whole
conversation, rate the response, and find the rating on a dashboard.

Each step is kept as a screenshot (tests/browser/pictures.py).
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, expect
from playwright.sync_api import TimeoutError as NotShown

from tests.browser.pictures import take_screenshot
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.grafana import grafana_url

_PATIENCE_MS: Final = 1.5 * PATIENCE_SECONDS * 1000
# A panel is drawn when it is visible.
_WHOLE_DASHBOARD: Final[ViewportSize] = {"width": 1440, "height": 2400}


@pytest.fixture(scope="module")
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    grafana_url(stack)
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(_PATIENCE_MS)
    yield context
    context.close()


def _follow(context: BrowserContext, link: Locator) -> Page:
    with context.expect_page() as opened:
        link.click()
    return opened.value


def _shows(page: Page, wanted: Locator, name: str) -> None:
    """Wait until Grafana shows something, and take a picture. Data may arrive after the page, which
    is then loaded again."""
    for _ in range(3):
        try:
            wanted.first.wait_for(timeout=_PATIENCE_MS / 3)
        except NotShown:
            page.reload(wait_until="commit")
        else:
            break
    expect(wanted.first).to_be_visible()
    take_screenshot(page, f"newcomer/{name}")


def test_newcomer_follows_a_response_from_the_page_to_the_dashboards(
    context: BrowserContext, stack: Stack
) -> None:
    page = context.new_page()
    page.goto(stack.facts["APP_URL"])
    expect(page.locator("#state")).to_have_text("ready")
    take_screenshot(page, "newcomer/1-page")

    page.locator("#examples button").first.click()
    answer = page.locator("article.assistant")
    expect(answer.locator(".actions")).to_be_visible()
    take_screenshot(page, "newcomer/2-response")

    trace = _follow(context, answer.get_by_role("link", name="Trace"))
    _shows(trace, trace.get_by_text("chat simulated-1"), "3-trace")
    logs = _follow(context, answer.get_by_role("link", name="Logs"))
    _shows(logs, logs.get_by_text("answer completed"), "4-logs")
    talk = _follow(context, answer.get_by_role("link", name="Conversation"))
    talk.set_viewport_size(_WHOLE_DASHBOARD)
    [conversation] = parse_qs(urlsplit(talk.url).query)["var-conversation"]
    _shows(talk, _panel(talk, "Turns").get_by_text(conversation), "5-conversation")

    answer.get_by_role("button", name="Bad response").click()
    expect(answer.get_by_role("button", name="Bad response")).to_be_disabled()
    take_screenshot(page, "newcomer/6-rating")

    home = _follow(context, page.get_by_role("link", name="Dashboards"))
    _shows(home, home.get_by_role("heading", name="Health"), "7-home")
    board = context.new_page()
    board.set_viewport_size(_WHOLE_DASHBOARD)
    board.goto(f"{stack.facts['GRAFANA_URL']}/d/chatscope-conversations?from=now-15m&to=now")
    _shows(board, _panel(board, "Bad ratings").get_by_text(conversation), "8-dashboard")


def _panel(page: Page, title: str) -> Locator:
    return page.locator(f'section[data-testid="data-testid Panel header {title}"]')
