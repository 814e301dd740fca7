"""A chat on the page, in a real browser against the running stack."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from chatscope.names import EVENT_EVALUATION
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack

_PATIENCE_MS = PATIENCE_SECONDS * 1000


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(stack.facts["APP_URL"])
    expect(page.locator("#state")).to_have_text("ready", timeout=_PATIENCE_MS)
    yield page
    page.close()
    assert problems == []


def _ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_answer_appears_with_its_tokens_cost_and_trace(page: Page, stack: Stack) -> None:
    _ask(page, "Hello")
    facts = page.locator("article .facts").last
    expect(facts).to_contain_text(re.compile(r"\d+ \+ \d+ tokens"), timeout=_PATIENCE_MS)
    expect(facts).to_contain_text("$")
    trace_id = page.locator("article .trace code").inner_text()
    assert poll_until(
        lambda: stack.backends.tempo_trace(trace_id), f"trace {trace_id}", PATIENCE_SECONDS
    )


def test_second_question_continues_the_conversation(page: Page) -> None:
    for number, text in enumerate(("Hello", "And again"), start=1):
        _ask(page, text)
        expect(page.locator("article .facts")).to_have_count(number, timeout=_PATIENCE_MS)
    questions = [re.compile("Hello$"), re.compile("And again$")]
    expect(page.locator("article.user")).to_have_text(questions)


def test_stop_ends_an_answer(page: Page) -> None:
    _ask(page, "Hello")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("article .note")).to_have_text("Stopped.", timeout=_PATIENCE_MS)
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_rating_is_recorded_on_the_trace_of_the_response(page: Page, stack: Stack) -> None:
    _ask(page, "Hello")
    bad = page.get_by_role("button", name="Bad response")
    bad.click(timeout=_PATIENCE_MS)
    expect(bad).to_have_attribute("aria-pressed", "true", timeout=_PATIENCE_MS)
    expect(page.get_by_role("button", name="Good response")).to_be_disabled()
    trace_id = page.locator("article .trace code").inner_text()
    query = f'{{service_name=~".+"}} |= "{EVENT_EVALUATION}" | trace_id="{trace_id}"'
    [rating] = poll_until(lambda: stack.backends.loki(query), "the rating", PATIENCE_SECONDS)
    assert rating.metadata["gen_ai_evaluation_score_label"] == "bad"


def test_page_offers_the_services_models(page: Page) -> None:
    options = page.get_by_label("Model").locator("option")
    expect(options.first).to_have_text("simulated-1")
    expect(options.filter(has_text="northwind-large")).to_have_count(1)
