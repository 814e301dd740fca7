"""The chat page, in a real browser against a service whose model sends what a test defines."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.browser.conftest import NETWORK_CHANGED, wait_until_ready
from tests.browser.pictures import take_screenshot
from tests.browser.provider import MODEL, Chat, chat, paced, refusal, service
from tests.clients.endpoint import endpoint

_PATIENCE_MS = 30_000
_GRAFANA = "https://grafana.example.com/graf"
_WIDTHS = (390, 768, 1440)
_MARKDOWN = """# Title

A **bold** word, `code`, a [link](https://example.com) and ~~nothing~~.

| name | size |
|:-----|-----:|
| a    |   12 |

1. one
2. two

> quoted

```python
def f(x):
    return x < 1 and "<b>"
```
"""
_FULL = "void (Storage.prototype.setItem = () => { throw new Error('full') })"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    with chat(tmp_path_factory.mktemp("page"), GRAFANA_PUBLIC_URL=f"{_GRAFANA}/") as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, talk: Chat) -> Iterator[Open]:
    """Opens pages; fails if the browser reported any error other than a stopped service."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    def opened(url: str = talk.url, **options: Any) -> Page:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", said)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        _ready(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    expected = ("ERR_CONNECTION_REFUSED", NETWORK_CHANGED)
    assert [each for each in problems if not any(name in each for name in expected)] == []


@pytest.fixture
def page(open_page: Open) -> Page:
    return open_page()


def _ready(page: Page) -> None:
    wait_until_ready(page, _PATIENCE_MS)


def _ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def _answer(page: Page) -> Locator:
    return page.locator("article.assistant").last


def _ended(page: Page, count: int = 1) -> Locator:
    expect(page.locator("article .actions")).to_have_count(count, timeout=_PATIENCE_MS)
    _ready(page)
    return _answer(page)


def _clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


# -- appearance of a response -------------------------------------------------------------------


def test_markdown_is_shown_as_it_is_meant(page: Page, talk: Chat) -> None:
    talk.model.says("markdown", paced(_MARKDOWN, 3, 0.5))
    _ask(page, "markdown")
    body = _ended(page).locator(".response")
    expect(body.locator("h3")).to_have_text("Title")
    expect(body.locator("strong")).to_have_text("bold")
    expect(body.locator("td.right")).to_have_text("12")
    expect(body.locator("ol > li")).to_have_text(["one", "two"])
    expect(body.locator("blockquote")).to_have_text("quoted")
    expect(body.get_by_role("link", name="link")).to_have_attribute("rel", "noopener noreferrer")
    expect(body.locator("pre")).to_have_text('def f(x):\n    return x < 1 and "<b>"\n')
    expect(body.locator(".code-block span")).to_have_text("python")


def test_code_response_and_trace_id_are_copied(page: Page, talk: Chat) -> None:
    talk.model.says("copy", _MARKDOWN)
    _ask(page, "copy")
    answer = _ended(page)
    answer.get_by_role("button", name="Copy the code").click()
    assert _clipboard(page) == 'def f(x):\n    return x < 1 and "<b>"\n'
    answer.get_by_role("button", name="Copy the response").click()
    assert _clipboard(page) == _MARKDOWN
    answer.get_by_role("button", name="Copy the trace ID").click()
    assert _clipboard(page) == answer.locator(".trace code").inner_text()
    assert re.fullmatch("[0-9a-f]{32}", _clipboard(page))


def test_response_has_its_figures(page: Page, talk: Chat) -> None:
    talk.model.says("figures", paced("x " * 20, 2, 0.5))
    _ask(page, "figures")
    facts = _ended(page).locator(".facts")
    for figure in (
        MODEL,
        r"first token [\d.]+ m?s",
        r"[\d.]+ tokens/s",
        r"10 \+ 20 tokens",
        r"\$0\.000225",
    ):
        expect(facts).to_contain_text(re.compile(figure))
    price = "$2.50 in, $10.00 out per million tokens"
    shown = f"by house · {price} · 128,000 tokens of context"
    expect(page.locator("#price")).to_have_text(shown)


def test_models_for_embeddings_are_not_offered(page: Page) -> None:
    offered = page.locator("#model option")
    expect(offered).to_have_text([MODEL, "simulated-1"])


def test_empty_response_says_so(page: Page, talk: Chat) -> None:
    talk.model.says("empty", ())
    _ask(page, "empty")
    expect(_ended(page)).to_contain_text("The response is empty.")


def test_timeline_shows_what_took_the_time(page: Page, talk: Chat) -> None:
    talk.model.says("timeline", paced("word " * 50, 5, 0.5))
    _ask(page, "timeline")
    _ended(page).get_by_role("button", name="Timeline").click()
    drawer = page.get_by_role("dialog", name="Timeline of the response")
    for event in ("Sent", "Accepted", "First token received", "End", "Whole response"):
        expect(drawer.get_by_role("row", name=re.compile(f"^{event} "))).to_be_visible()
    expect(drawer.get_by_role("row", name="Chunks 50 page")).to_be_visible()
    expect(drawer.get_by_role("img")).to_have_attribute("aria-label", re.compile("first token"))
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()


# -- requests -----------------------------------------------------------------------------------


def test_example_of_the_empty_page_is_asked(page: Page) -> None:
    expect(page.locator("#empty")).to_be_visible()
    example = page.locator("#examples button").first
    text = example.inner_text()
    example.click()
    expect(_ended(page)).to_contain_text(f"You said: {text}")
    expect(page.locator("#empty")).to_be_hidden()


def test_waiting_is_shown_in_place_and_escape_stops(page: Page, talk: Chat) -> None:
    talk.model.waits("slow")
    _ask(page, "slow")
    expect(_answer(page).locator(".waiting")).to_have_text(re.compile(f"Waiting for {MODEL} … 1 s"))
    expect(page.locator("#talk")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Escape")
    expect(_ended(page)).to_contain_text("Stopped.")
    expect(page.locator(".waiting")).to_have_count(0)
    expect(page.get_by_label("Message")).to_be_focused()


def test_stop_keeps_what_came(page: Page, talk: Chat) -> None:
    talk.model.waits("half", "one half")
    _ask(page, "half")
    expect(_answer(page)).to_contain_text("one half")
    page.get_by_role("button", name="Stop").click()
    expect(_ended(page)).to_contain_text("one half")
    expect(_answer(page)).to_contain_text("Stopped.")


def test_up_brings_the_last_question_back(page: Page) -> None:
    _ask(page, "again?")
    _ended(page)
    page.keyboard.press("ArrowUp")
    field = page.get_by_label("Message")
    expect(field).to_have_value("again?")
    field.fill("other\ntext")
    page.keyboard.press("ArrowUp")
    expect(field).to_have_value("other\ntext")


def test_error_has_the_providers_reason_and_is_retried(page: Page, talk: Chat) -> None:
    reason = "You exceeded your current quota"
    talk.model.says("retry", refusal(429, reason, "insufficient_quota"))
    _ask(page, "retry")
    error = _ended(page).get_by_role("alert")
    expect(error).to_contain_text(reason)
    expect(error).to_contain_text("Code rate_limit_exceeded")
    expect(error).to_contain_text("provider's status 429")
    expect(error).to_contain_text("provider's code insufficient_quota")
    talk.model.says("retry", "now it works")
    page.get_by_role("button", name="Retry").click()
    expect(_ended(page)).to_contain_text("now it works")
    expect(page.locator("article")).to_have_count(2)
    assert talk.model.messages == [("user", "retry")]


def test_options_reach_the_model(page: Page, talk: Chat) -> None:
    page.get_by_text("Options").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    _ask(page, "options")
    _ended(page)
    assert talk.model.messages == [("system", "Be brief."), ("user", "options")]
    assert talk.model.bodies[-1]["temperature"] == 0.5


# -- chats of a tab ------------------------------------------------------------------------------


def test_chat_survives_a_reload_also_for_the_model(page: Page, talk: Chat) -> None:
    talk.model.says("first", "**one**")
    _ask(page, "first")
    before = _ended(page).inner_text()
    page.reload()
    assert _ended(page).inner_text() == before
    _ask(page, "second")
    _ended(page, 2)
    assert talk.model.messages == [("user", "first"), ("assistant", "**one**"), ("user", "second")]
    links = page.get_by_role("link", name="Conversation")
    hrefs = links.evaluate_all("all => all.map(a => a.href)")
    first, second = (parse_qs(urlsplit(href).query)["var-conversation"] for href in hrefs)
    assert first == second


def test_another_tab_has_its_own_chats(open_page: Open) -> None:
    page = open_page()
    _ask(page, "mine")
    _ended(page)
    expect(open_page().locator("article")).to_have_count(0)


def test_new_chat_is_empty_and_the_old_one_can_be_reopened(page: Page, talk: Chat) -> None:
    _ask(page, "old")
    _ended(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("article")).to_have_count(0)
    _ask(page, "new")
    _ended(page)
    assert talk.model.messages == [("user", "new")]
    page.get_by_label("Chats of this tab").select_option("old")
    expect(page.locator("article.user")).to_have_text(re.compile("old$"))
    _ask(page, "older")
    _ended(page, 2)
    assert [text for _, text in talk.model.messages] == ["old", "You said: old", "older"]


def test_response_that_a_reload_cut_off_says_so(page: Page, talk: Chat) -> None:
    talk.model.waits("cut", "so far")
    _ask(page, "cut")
    expect(_answer(page)).to_contain_text("so far")
    page.reload()
    answer = _ended(page)
    expect(answer).to_contain_text("so far")
    expect(answer.get_by_role("alert")).to_contain_text("before the response had ended")
    expect(answer.get_by_role("link", name="Trace")).to_be_visible()


def test_storage_that_is_broken_or_full_does_not_break_the_page(page: Page) -> None:
    for broken in ("{", "[]", '{"version": 1, "chats": [{"id": "x", "turns": [{}]}]}', "null"):
        page.evaluate("text => sessionStorage.setItem('chatscope.chats', text)", broken)
        # Navigating away would store the page's content.
        page.evaluate(_FULL)
        page.reload()
        _ready(page)
        expect(page.locator("article")).to_have_count(0)
    page.evaluate(_FULL)
    _ask(page, "full")
    expect(_ended(page)).to_contain_text("You said: full")


# -- the connection -------------------------------------------------------------------------------


def test_lost_connection_says_so_where_one_types(
    open_page: Open, talk: Chat, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with endpoint(talk.model.respond) as provider:
        with service(tmp_path, provider, PORT=port) as url:
            page = open_page(url)
            _ask(page, "before")
            _ended(page)
            talk.model.waits("during", "so far")
            _ask(page, "during")
            expect(_answer(page)).to_contain_text("so far")
        alert = page.locator("#lost")
        expect(alert).to_contain_text("The connection is lost")
        expect(_answer(page).get_by_role("alert")).to_contain_text("connection was lost")
        _ask(page, "kept")
        expect(alert).to_contain_text("Not sent")
        expect(page.get_by_label("Message")).to_have_value("kept")
        talk.model.go_on.set()
        with service(tmp_path, provider, PORT=port):
            # Not `click`: the page may reconnect first, and hide the button.
            page.locator("#connect").dispatch_event("click")
            _ready(page)
            expect(alert).to_be_hidden()
            page.get_by_label("Message").press("Enter")
            _ended(page, 3)
            texts = [text for _, text in talk.model.messages]
            assert texts == ["before", "You said: before", "during", "so far", "kept"]


def test_question_that_is_too_large_is_explained(
    open_page: Open, talk: Chat, tmp_path: Path
) -> None:
    with (
        endpoint(talk.model.respond) as provider,
        service(tmp_path, provider, MAX_BODY_BYTES="2000") as url,
    ):
        page = open_page(url)
        _ask(page, "x" * 3000)
        expect(_ended(page).get_by_role("alert")).to_contain_text("larger than the service accepts")


# -- Grafana --------------------------------------------------------------------------------------


def test_links_lead_to_the_response_in_grafana(page: Page) -> None:
    _ask(page, "links")
    answer = _ended(page)
    trace_id = answer.locator(".trace code").inner_text()

    def pane(name: str) -> dict[str, Any]:
        address = answer.get_by_role("link", name=name).get_attribute("href") or ""
        assert address.startswith(f"{_GRAFANA}/explore?")
        [panes] = parse_qs(urlsplit(address).query)["panes"]
        [found] = json.loads(panes).values()
        start, end = int(found["range"]["from"]), int(found["range"]["to"])
        now = page.evaluate("Date.now()")
        assert start < now < end + 60_000
        assert 120_000 <= end - start < 240_000
        assert isinstance(found, dict)
        return found

    assert pane("Trace")["queries"][0]["query"] == trace_id
    assert pane("Logs")["queries"][0]["expr"] == (
        f'{{service_name="chatscope"}} | trace_id="{trace_id}"'
    )
    talk = answer.get_by_role("link", name="Conversation").get_attribute("href") or ""
    assert talk.startswith(f"{_GRAFANA}/d/chatscope-conversations?var-conversation=")


def test_without_grafana_there_are_no_links(open_page: Open, talk: Chat, tmp_path: Path) -> None:
    with endpoint(talk.model.respond) as provider, service(tmp_path, provider) as url:
        page = open_page(url)
        expect(page.locator("#grafana")).to_be_hidden()
        _ask(page, "hello")
        _ended(page)
        expect(page.get_by_role("link")).to_have_count(0)
        expect(page.locator(".trace code")).to_have_text(re.compile("^[0-9a-f]{32}$"))


def test_grafana_of_the_services_machine_is_reached_by_its_name(
    open_page: Open, talk: Chat, tmp_path: Path
) -> None:
    with (
        endpoint(talk.model.respond) as provider,
        service(tmp_path, provider, GRAFANA_PUBLIC_URL="http://127.0.0.1:3001") as url,
    ):
        link = open_page(url).get_by_role("link", name="Dashboards")
        expect(link).to_have_attribute("href", "http://127.0.0.1:3001")
        # Browsers resolve it to this machine; the page does not know that.
        elsewhere = open_page(url.replace("127.0.0.1", "chat.localhost"))
        link = elsewhere.get_by_role("link", name="Dashboards")
        expect(link).to_have_attribute("href", "http://chat.localhost:3001")


# -- accessibility --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_in_each_state_and_width(
    open_page: Open, talk: Chat, scheme: str
) -> None:
    talk.model.says("markdown", _MARKDOWN + "x" * 300 + "\n\n    indented " + "y" * 300)
    talk.model.says("error", refusal(500, "the provider's reason", "boom"))
    page = open_page(color_scheme=scheme)

    def check(state: str) -> None:
        for width in _WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{state} at {width}: {wide} px wide"
            take_screenshot(page, f"page/{state}-{width}-{scheme}")
            found = Axe().run(page)
            assert found.violations_count == 0, f"{state} {width}: {found.generate_report()}"

    check("empty")
    _ask(page, "markdown")
    _ended(page)
    check("markdown")
    _ask(page, "error")
    _ended(page, 2)
    check("error")
    page.get_by_text("Options").click()
    page.get_by_role("button", name="New chat").click()
    check("options")
    talk.model.waits("wait")
    _ask(page, "wait")
    expect(page.locator(".waiting")).to_contain_text("Waiting for")
    check("waiting")
    page.keyboard.press("Escape")
    _ended(page)
    page.get_by_role("button", name="Timeline").click()
    check("timeline")


def test_keyboard_reaches_everything_from_the_field(page: Page, talk: Chat) -> None:
    talk.model.says("keys", "```\ncode\n```")
    _ask(page, "keys")
    _ended(page)
    page.locator("h1").click()
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(e => e.ariaLabel ?? e.labels?.[0]?.innerText.split('\\n')[0] ?? e.innerText)"
                "(document.activeElement)"
            ).strip()
        )
    expected = ["Dashboards", "New chat", "Conversation", "Copy the code", "Code",
        "Copy the response", "Trace", "Logs", "Conversation", "Timeline", "Good response",
        "Bad response", "Copy the trace ID",
        "Message", "Send", "Model", "Options"]  # fmt: skip
    assert reached[: len(expected)] == expected
