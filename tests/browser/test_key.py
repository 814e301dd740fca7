"""A chat on the page of a service that requires a key."""

from pathlib import Path

from playwright.sync_api import Browser, Dialog, expect

from app.keys.keyring import digest_of
from tests.unit.process import process, served

_PATIENCE_MS = 30_000
_KEY = "cs-alice"


def test_page_asks_for_the_key_and_keeps_it(browser: Browser, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "alice"\nsha256 = "{digest_of(_KEY).hex()}"\n')
    given = ["wrong", _KEY]

    def answer(dialog: Dialog) -> None:
        assert "API key" in dialog.message
        dialog.accept(given.pop(0))

    with process(KEYS_FILE=str(keys), SIMULATED_TOKENS_PER_SECOND="0") as started:
        url = served(started)
        page = browser.new_page()
        page.on("dialog", answer)
        page.goto(url)
        status = page.locator("#state")
        expect(status).to_have_text("ready", timeout=_PATIENCE_MS)
        assert given == []
        page.get_by_label("Message").fill("hello")
        page.get_by_role("button", name="Send").click()
        facts = page.locator("article .facts").last
        expect(facts).to_contain_text("tokens", timeout=_PATIENCE_MS)
        page.reload()
        expect(status).to_have_text("ready", timeout=_PATIENCE_MS)
        assert _KEY not in page.url
        page.close()
