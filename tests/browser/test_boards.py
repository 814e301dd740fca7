"""Opens each dashboard in a real browser: every panel shows the effects of the load."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Response,
    Route,
    ViewportSize,
)

from stack.facts import is_loopback
from stack.waiting import poll_until
from tests.elapsed import overload
from tests.running import Stack
from tests.stack.boards import Board, Panel, read_boards
from tests.stack.filling import Window
from tests.stack.grafana import grafana_url

_BOARDS = read_boards()
# Two cores cannot draw all panels of a dashboard at once in the usual time.
_PATIENCE_SECONDS = 90.0
# The browser's error of each request when a network interface appears or disappears, such as a
# container's: unrelated to the page, and gone after a reload.
_NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
# A panel is drawn when it is visible: on this screen, all of them are.
_SCREEN = {"width": 1600, "height": 20_000}
# The initially visible part of a page, and its time limit.
_FIRST_SCREEN: ViewportSize = {"width": 1600, "height": 950}
_SCREEN_SECONDS = 2.0
_QUERY_SECONDS = 1.0
_QUERY_PATHS = ("/api/ds/query", "/api/datasources/", "/api/prometheus/")
_QUIET_SECONDS = 1.0
_PANEL = 'section[data-testid^="data-testid Panel header"]'
_LOOK = """() => [...document.querySelectorAll('section[data-testid^="data-testid Panel header"]')]
  .map((panel) => ({
    title: panel.getAttribute('data-testid').replace('data-testid Panel header ', ''),
    loading: !!panel.querySelector('[data-testid*="loading bar"], [aria-label*="loading bar"]'),
    failed: !!panel.querySelector('[data-testid="data-testid Panel status error"]'),
    empty: !!panel.querySelector('[data-testid="data-testid Panel data error message"]'),
    text: panel.innerText,
  }))"""


@dataclass
class Seen:
    """Errors, and requests to other hosts, while a page was open."""

    problems: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def url(browser: Browser, stack: Stack) -> str:
    return grafana_url(stack)


@pytest.fixture(scope="module")
def window(url: str, request: pytest.FixtureRequest) -> Window:
    """Return the time range of the load, without waiting for it if there is no Grafana."""
    found: Window = request.getfixturevalue("window")
    return found


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(browser: Browser, url: str, seen: Seen) -> Iterator[Page]:
    home = urlsplit(url).hostname

    def only_here(route: Route) -> None:
        host = urlsplit(route.request.url).hostname or ""
        if host == home or is_loopback(host):
            route.continue_()
        else:
            seen.outside.append(route.request.url)
            route.abort()

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            seen.problems.append(message.text)

    def answered(response: Response) -> None:
        if response.status >= 400:
            seen.problems.append(f"{response.status} {response.url}")

    page = browser.new_page(viewport={"width": _SCREEN["width"], "height": _SCREEN["height"]})
    page.route("**/*", only_here)
    page.on("console", said)
    page.on("response", answered)
    page.on("pageerror", lambda error: seen.problems.append(str(error)))
    yield page
    page.close()


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_every_panel_shows_something(
    page: Page, url: str, window: Window, seen: Seen, board: Board
) -> None:
    between = {"from": int(window.start * 1000), "to": int(window.end * 1000)}
    # Its content is awaited below.
    address = f"{url}/d/{board.uid}?kiosk&refresh=&{urlencode(between)}"
    page.goto(address, wait_until="commit", timeout=_PATIENCE_SECONDS * 1000)
    expected = {
        panel.title: panel for panel in board.panels if panel.kind != "row" and not panel.folded
    }

    def all_well() -> bool:
        if any(_NETWORK_CHANGED in problem for problem in seen.problems):
            seen.problems.clear()
            page.reload(wait_until="commit", timeout=_PATIENCE_SECONDS * 1000)
        drawn = {panel["title"]: panel for panel in page.evaluate(_LOOK)}
        wrong = {
            title: why for title, p in expected.items() if (why := _wrong(p, drawn.get(title)))
        }
        assert not wrong, f"board {board.uid!r}: {wrong}"
        return True

    poll_until(all_well, f"all panels of board {board.uid!r}", _PATIENCE_SECONDS, 1.0)
    assert seen.problems == []
    assert seen.outside == []


@pytest.mark.parametrize("board", _BOARDS.values(), ids=lambda board: board.uid)
def test_first_screen_is_answered_within_two_seconds(
    browser: Browser, url: str, window: Window, board: Board
) -> None:
    """Check the queries of the first screen, not the page's own code before them.

    Uses the best of three runs, since the machine is busy.
    """
    between = {"from": int(window.start * 1000), "to": int(window.end * 1000)}
    page = browser.new_page(viewport=_FIRST_SCREEN)
    try:
        measured = []
        for _ in range(3):
            page.goto("about:blank")
            measured.append(_queries(page, f"{url}/d/{board.uid}?refresh=&{urlencode(between)}"))
            whole, slowest = measured[-1]
            if max(whole / _SCREEN_SECONDS, slowest / _QUERY_SECONDS) <= overload():
                return
    finally:
        page.close()
    pytest.fail(f"seconds of the first screen, and of its slowest query: {measured}")


def _queries(page: Page, address: str) -> tuple[float, float]:
    """Return the seconds from the first query to the last response, and of the slowest query."""
    asked: dict[Request, float] = {}
    answered: dict[Request, float] = {}

    def ask(request: Request) -> None:
        if any(part in request.url for part in _QUERY_PATHS):
            asked[request] = time.monotonic()

    def answer(request: Request) -> None:
        if request in asked:
            answered[request] = time.monotonic()

    page.on("request", ask)
    page.on("requestfinished", answer)
    page.on("requestfailed", answer)
    page.goto(address, wait_until="commit", timeout=_PATIENCE_SECONDS * 1000)
    page.wait_for_selector(_PANEL, timeout=_PATIENCE_SECONDS * 1000)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        page.wait_for_timeout(_QUIET_SECONDS * 1000)
        still = time.monotonic() - max([*asked.values(), *answered.values()], default=0)
        if len(asked) == len(answered) and still >= _QUIET_SECONDS:
            break
    page.remove_listener("request", ask)
    page.remove_listener("requestfinished", answer)
    page.remove_listener("requestfailed", answer)
    if not asked:
        return 0.0, 0.0
    whole = max(answered.values()) - min(asked.values())
    return whole, max(answered[request] - at for request, at in asked.items())


def _wrong(panel: Panel, drawn: dict[str, str | bool] | None) -> str:
    """Return what is missing in a panel; empty if it is complete."""
    if drawn is None:
        return "not on the page"
    if drawn["failed"]:
        return "it shows an error"
    if drawn["loading"]:
        return "still loading"
    empty = drawn["empty"] or "No data" in str(drawn["text"])
    return "it shows no data" if empty and not panel.may_be_empty else ""
