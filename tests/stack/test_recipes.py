"""Every query in the documentation, sent to the real backends."""

import re
import time

import httpx2
import pytest

from chatscope import names
from stack.secrets import backend_client
from stack.waiting import poll_until
from tests.recipes import PAGES, RUNBOOKS, Recipe, in_blocks, in_tables
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import Turn, websocket_turn

# Correctly without results while healthy.
_EMPTY_IN_HEALTH = re.compile(
    r'"failed"|"cancelled"|"ERROR"|WARNING|> 10|error_type!=""|status = error|4\.\.|evaluation'
)
# TraceQL metrics, which have another endpoint.
_OVER_TIME = re.compile(r"\| (rate|\w+_over_time)\(")


_RECIPES = list(dict.fromkeys(recipe for page in PAGES for recipe in in_tables(page)))
_STORES = sorted({recipe.store for recipe in _RECIPES})


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


def test_recipes_exist_for_each_backend() -> None:
    assert len(_RECIPES) >= 30
    assert _STORES == ["loki", "prometheus", "tempo"]


@pytest.mark.parametrize("store", _STORES)
def test_every_recipe_of_a_backend_works(
    stack: Stack, turn: Turn, connection_id: str, store: str
) -> None:
    def ready(query: str) -> str:
        # Tempo's search omits leading zeros.
        trace_id = turn.trace_id.lstrip("0") if "trace:id" in query else turn.trace_id
        return query.replace('"TRACE"', f'"{trace_id}"').replace('"ID"', f'"{connection_id}"')

    waiting = [Recipe(store, ready(each.query)) for each in _RECIPES if each.store == store]

    def all_answered() -> bool:
        waiting[:] = [
            recipe
            for recipe in waiting
            if not _answer(stack, recipe) and not _EMPTY_IN_HEALTH.search(recipe.query)
        ]
        assert not waiting, "\n".join(recipe.query for recipe in waiting)
        return True

    poll_until(all_answered, "an answer to each query", PATIENCE_SECONDS)


def test_every_query_of_a_runbook_is_accepted(stack: Stack) -> None:
    """Most of them are about failures, so they may find nothing."""
    recipes = [(page, recipe) for page in RUNBOOKS for recipe in in_blocks(page)]
    refused = []
    for page, recipe in recipes:
        try:
            _answer(stack, recipe)
        except httpx2.HTTPError as error:
            refused.append(f"{page.stem}: {recipe.query}: {error}")
    assert len(recipes) >= len(RUNBOOKS)
    assert not refused, "\n".join(refused)


def _answer(stack: Stack, recipe: Recipe) -> list[object]:
    """Send a query. Raises the error of the backend's rejection."""
    query = recipe.query
    match recipe.store:
        case "loki":
            return list(stack.backends.loki(query)) if query[0] == "{" else _loki(stack, query)
        case "tempo":
            over_time = _OVER_TIME.search(query)
            return _tempo(stack, query) if over_time else list(stack.backends.tempo_search(query))
    return list(stack.backends.prometheus(query))


def _loki(stack: Stack, query: str) -> list[object]:
    with backend_client(stack.facts, "LOKI_URL", PATIENCE_SECONDS) as client:
        answer = client.get("/loki/api/v1/query", params={"query": query}).raise_for_status().json()
    return list(answer["data"]["result"])


def _tempo(stack: Stack, query: str) -> list[object]:
    now = int(time.time())
    asked: dict[str, str | int] = {"q": query, "start": now - 600, "end": now, "step": "15s"}
    with backend_client(stack.facts, "TEMPO_URL", PATIENCE_SECONDS) as client:
        answer = client.get("/api/metrics/query_range", params=asked).raise_for_status().json()
    # A series of zeros proves nothing.
    return [
        series
        for series in answer.get("series", [])
        if any(sample.get("value") for sample in series["samples"])
    ]
