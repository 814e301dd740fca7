"""A person opens each board in a real browser: every panel shows what the load led to."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, Route

from stack.facts import is_loopback
from stack.waiting import poll_until
from tests.running import Stack
from tests.stack.boards import Board, Panel, read_boards
from tests.stack.filling import Window
from tests.stack.grafana import grafana_url

_BOARDS = read_boards()
# All panels of a board at once are more than two cores draw in the usual time.
_PATIENCE_SECONDS = 90.0
# What the browser says of each request when an interface of the machine comes or goes, such as
# that of a container: nobody's fault, and over when the page is asked again.
_NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
# A panel is drawn when it is in sight: on this screen, all of them are.
_SCREEN = {"width": 1600, "height": 8000}
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
    """What went wrong, and who was asked outside, while a page was open."""

    problems: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def url(browser: Browser, stack: Stack) -> str:
    return grafana_url(stack)


@pytest.fixture(scope="module")
def window(url: str, request: pytest.FixtureRequest) -> Window:
    """The time of the load, which is waited for only where there is a Grafana to look at it."""
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
    # What it shows is waited for below.
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


def _wrong(panel: Panel, drawn: dict[str, str | bool] | None) -> str:
    """What a person would miss of a panel; empty when all is well."""
    if drawn is None:
        return "not on the page"
    if drawn["failed"]:
        return "it shows an error"
    if drawn["loading"]:
        return "still loading"
    empty = drawn["empty"] or "No data" in str(drawn["text"])
    return "it shows no data" if empty and not panel.may_be_empty else ""
