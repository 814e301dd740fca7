"""Takes the pictures of the documentation: python -m tests.browser.docs_pictures.

Requires a running stack with Grafana, with OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT set
to `span_and_event`, and about ten minutes of `make demo`. Each picture shows the initial view.
"""

import argparse
import shutil
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

from playwright.sync_api import Page, ViewportSize, sync_playwright

from chatscope.cli.grafana import trace_url
from chatscope.names import GEN_AI_CONVERSATION_ID, prometheus_label
from stack import facts as stack_facts
from stack import way
from stack.backends import Backends
from tests.browser.conftest import ARGUMENTS, PROGRAMS
from tests.stack.boards import read_boards

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_SCREEN: ViewportSize = {"width": 1440, "height": 860}
_QUIET_SECONDS = 3.0
# A panel of a dashboard, or a trace in Explore.
_SHOWN = '[data-testid^="data-testid Panel header"], [aria-label="Search trace"], [role="row"]'
_MINUTES = 15


def main() -> int:
    """Take the pictures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suffix", default="", help="of the names of the files, such as -incident")
    parser.add_argument("--only", nargs="*", help="the names of some pictures")
    chosen = parser.parse_args()
    found = way.running(stack_facts.load())
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None or program is None:
        print("A running stack (make up) and Chromium are needed.", file=sys.stderr)
        return 2
    with Backends(found.facts) as backends, sync_playwright() as playwright:
        pages = _pages(found.facts["GRAFANA_URL"], backends)
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        for name, url in pages.items():
            if not chosen.only or name in chosen.only:
                path = _IMAGES / f"{name}{chosen.suffix}.png"
                with closing(browser.new_page(viewport=_SCREEN, color_scheme="dark")) as page:
                    _take(page, url, path)
                print(path.relative_to(_IMAGES.parents[1]), f"{path.stat().st_size / 1000:.0f} kB")
        browser.close()
    return 0


def _pages(grafana: str, backends: Backends) -> dict[str, str]:
    """Return the address of each picture, by its name."""
    times = {"from": f"now-{_MINUTES}m", "to": "now"}
    pages = {
        uid.removeprefix("chatscope-"): f"{grafana}/d/{uid}?{urlencode(times)}"
        for uid in read_boards()
        if uid != "runbooks"
    }
    since = time.time() - 60 * _MINUTES
    lines = backends.loki('{service_name="chatscope"} |= `answer completed`', start=since)
    key = prometheus_label(GEN_AI_CONVERSATION_ID)
    [(conversation, _)] = Counter(
        line.metadata[key] for line in lines if key in line.metadata
    ).most_common(1)
    address = f"{pages['conversations']}&var-conversation={quote(conversation)}"
    pages["conversation"] = address
    agents = backends.tempo_search('{ name =~ "invoke_agent .*" && status != error }')
    trace = max(agents, key=lambda each: int(each.get("durationMs", 0)))["traceID"]
    pages["trace"] = trace_url(grafana, str(trace))
    return pages


def _take(page: Page, url: str, path: Path) -> None:
    waiting: list[int] = []
    last = [time.monotonic()]

    def changed(delta: int) -> None:
        waiting.append(delta)
        last[0] = time.monotonic()

    page.on("request", lambda _: changed(1))
    page.on("requestfinished", lambda _: changed(-1))
    page.on("requestfailed", lambda _: changed(-1))
    # Without Grafana's side menu.
    page.add_init_script("localStorage.setItem('grafana.navigation.docked', 'false')")
    page.goto(url, wait_until="commit")
    page.wait_for_selector(_SHOWN, timeout=60_000)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        page.wait_for_timeout(500)
        if sum(waiting) <= 0 and time.monotonic() - last[0] > _QUIET_SECONDS:
            break
    path.parent.mkdir(exist_ok=True)
    trace = page.get_by_test_id("data-testid panel content").filter(has_text="Trace ID")
    if trace.count():
        # In Explore, without the query above it.
        page.set_viewport_size({**_SCREEN, "height": 2 * _SCREEN["height"]})
        trace.last.screenshot(path=path)
    else:
        page.screenshot(path=path)


if __name__ == "__main__":
    sys.exit(main())
