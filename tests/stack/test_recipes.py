"""Every query in the documentation, asked of the real stores."""

import re
import time
from pathlib import Path

import pytest

from app.telemetry import names
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import Turn, websocket_turn

_ROOT = Path(__file__).parents[2]
_PAGES = (
    _ROOT / "README.md",
    _ROOT / "docs" / "telemetry.md",
    _ROOT / "docs" / "exploring.md",
)
# Rightly without an answer while all is well.
_EMPTY_IN_HEALTH = re.compile(
    r'"failed"|"cancelled"|"ERROR"|WARNING|> 10|error_type!=""|status = error|4\.\.'
)
# TraceQL that is drawn over time, which has an address of its own.
_OVER_TIME = re.compile(r"\| (rate|\w+_over_time)\(")


def _queries() -> list[str]:
    cells = re.findall(r"^\|.*\|$", "\n".join(page.read_text() for page in _PAGES), re.MULTILINE)
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    starts = ("{", "sum ", "histogram_quantile", "otel_sdk_", "3600 ")
    queries = [text.replace("\\|", "|") for text in quoted if text.startswith(starts)]
    return list(dict.fromkeys(queries))


@pytest.fixture(scope="module")
def turn(stack: Stack) -> Turn:
    return websocket_turn(stack.facts)


@pytest.fixture(scope="module")
def connection_id(stack: Stack, turn: Turn) -> str:
    def found() -> list[str]:
        spans = stack.backends.tempo_trace(turn.trace_id) or []
        ids = [span.attributes.get(names.CONNECTION_ID) for span in spans]
        return [str(found) for found in ids if found]

    return poll_until(found, "the turn's root span in Tempo", PATIENCE_SECONDS)[0]


def test_there_are_recipes_for_each_store() -> None:
    assert len(_queries()) >= 30


@pytest.mark.parametrize("query", _queries())
def test_recipe_answers(stack: Stack, turn: Turn, connection_id: str, query: str) -> None:
    trace_id = turn.trace_id.lstrip("0") if "trace:id" in query else turn.trace_id
    ready = query.replace('"TRACE"', f'"{trace_id}"').replace('"ID"', f'"{connection_id}"')

    def answer() -> list[object]:
        if "_over_time({" in ready:
            return _loki_metric(stack, ready)
        if ready.startswith("{ ") and _OVER_TIME.search(ready):
            return _tempo_metric(stack, ready)
        if ready.startswith("{service_name"):
            return list(stack.backends.loki(ready))
        if ready.startswith("{"):
            return list(stack.backends.tempo_search(ready))
        return list(stack.backends.prometheus(ready))

    if _EMPTY_IN_HEALTH.search(query):
        answer()
    else:
        poll_until(answer, f"an answer to {ready}", PATIENCE_SECONDS)


def _loki_metric(stack: Stack, query: str) -> list[object]:
    url = f"{stack.facts['LOKI_URL']}/loki/api/v1/query"
    with local_client(timeout=PATIENCE_SECONDS) as client:
        answer = client.get(url, params={"query": query}).raise_for_status().json()
    return list(answer["data"]["result"])


def _tempo_metric(stack: Stack, query: str) -> list[object]:
    now = int(time.time())
    asked: dict[str, str | int] = {"q": query, "start": now - 600, "end": now, "step": "15s"}
    url = f"{stack.facts['TEMPO_URL']}/api/metrics/query_range"
    with local_client(timeout=PATIENCE_SECONDS) as client:
        answer = client.get(url, params=asked).raise_for_status().json()
    # A series of nothing but zeros tells nothing.
    return [
        series
        for series in answer.get("series", [])
        if any(sample.get("value") for sample in series["samples"])
    ]
