"""Screenshots of the browser tests, kept for inspection."""

from pathlib import Path
from typing import Final

from playwright.sync_api import Page

from stack.facts import ROOT

FOLDER: Final = ROOT / ".chatscope" / "screenshots"
# A page reacts to a new window size one frame later.
_DRAWN: Final = "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r())))"


def take_screenshot(page: Page, name: str) -> Path:
    """Save a screenshot as `name`.png in the folder; return the file."""
    path = FOLDER / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.evaluate(_DRAWN)
    page.screenshot(path=path)
    return path
