"""The browser that is shared by all tests of this layer."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# The browser's error of each request when a network interface appears or disappears.
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# As root there is no sandbox; the other arguments disable network access of the browser itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def wait_until_ready(page: Page, patience_ms: float) -> None:
    """Wait until the chat page is ready; load it again if the network changed meanwhile."""
    for attempts_left in (2, 1, 0):
        try:
            expect(page.locator("#state")).to_have_text("ready", timeout=patience_ms / 2)
        except AssertionError:
            if not attempts_left:
                raise
            page.reload()
        else:
            return
