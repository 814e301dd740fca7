"""Queries of the dashboards of conversations, users and logs, sent to a real Loki."""

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from dashboards import datasources, links
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.each import for_each
from tests.stack.boards import Query, read_boards
from tests.stack.filling import Choice, Window, at_first, fill, times
from tests.stores import running_loki
from tests.talks import TALKS, talk

# One Loki for all tests of this file.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("talk queries")]
# More users than Loki returns series by default.
_USERS: Final = 600
_BOARDS: Final = {
    uid: board
    for uid, board in read_boards().items()
    if uid in (links.CONVERSATIONS, links.USERS, links.LOGS, links.LLM)
}
_QUERIES: Final = {
    f"{board.uid}: {panel.title}": query
    for board in _BOARDS.values()
    for panel in board.panels
    for query in panel.queries
    if query.datasource == datasources.LOKI.uid
}
# No response of these conversations was slow.
_WITHOUT_DATA: Final = ["llm: Slow responses"]


class Asked:
    """The Loki with the conversations."""

    def __init__(self, url: str) -> None:
        self._client = local_client(url, timeout=30)

    def close(self) -> None:
        self._client.close()

    def ask(self, query: Query, **chosen: str) -> list[dict[str, Any]]:
        """Return the streams or series of a panel with these values of its variables."""
        now = time.time()
        window = Window(now - 3600, now + 60)
        board = next(b for b in _BOARDS.values() for p in b.panels if query in p.queries)
        values = {v.name: at_first(v) for v in board.variables}
        values |= {name: Choice(raw=value) for name, value in chosen.items()}
        text = fill(query.text, "loki", {**times(window), **values})
        path = "query" if query.raw.get("queryType") == "instant" else "query_range"
        asked: dict[str, str | float] = {"query": text, "limit": query.raw.get("maxLines") or 100}
        asked |= {"time": window.end} if path == "query" else {"start": window.start}
        response = self._client.get(f"/loki/api/v1/{path}", params=asked)
        assert response.status_code == 200, f"{response.text}: {text}"
        found: list[dict[str, Any]] = response.json()["data"]["result"]
        assert not [each for each in found if "__error__" in each.get("stream", {})], found[:3]
        return found

    def lines(self, query: Query, **chosen: str) -> list[str]:
        """Return the lines of a panel, oldest first."""
        found = self.ask(query, **chosen)
        return [line for _, line in sorted(value for each in found for value in each["values"])]


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    users = [{**TALKS[1], "user_id": f"user-{n}"} for n in range(_USERS)]
    with running_loki(tmp_path_factory.mktemp("loki")) as url:
        talk(url, [*users, *TALKS])
        asked = Asked(url)
        last = _QUERIES["chatscope-conversations: Transcript"]
        poll_until(lambda: asked.lines(last, conversation="c-2"), "the last conversation")
        yield asked
        asked.close()


@for_each(_QUERIES)
def test_query_is_one_of_a_panel(query: Query) -> None:
    assert query.text


def test_each_query_is_answered_with_data(loki: Asked) -> None:
    problems = [name for name, query in _QUERIES.items() if not loki.ask(query)]
    assert problems == _WITHOUT_DATA


def test_response_with_captured_texts_is_one_row(loki: Asked) -> None:
    failed = loki.lines(_QUERIES["llm: Failed responses"])
    expensive = loki.lines(_QUERIES["llm: Expensive responses"])
    priced = [talk for talk in TALKS if "said" in talk and talk.get("model") != "gpt-4o-mini"]
    assert len(failed) == len([talk for talk in TALKS if "error" in talk])
    assert len(expensive) == len(priced)


def test_conversation_is_read_from_top_to_bottom(loki: Asked) -> None:
    transcript = loki.lines(_QUERIES["chatscope-conversations: Transcript"], conversation="c-1")
    facts = r"answer completed · gpt-4o · 0.0\d s · 100 \+ 20 tokens · \$0.000450"
    asked, first, answered, last = transcript
    assert asked.splitlines() == [
        "user: Do I need a coat in Rome?",
        "assistant: [weather: city:Rome]",
    ]
    # Earlier messages are not repeated.
    assert answered.splitlines() == ["tool: 21 degrees", "assistant: No, it is warm."]
    for line in (first, last):
        assert re.fullmatch(facts, line), line


def test_line_of_a_failure_shows_its_reason(loki: Asked) -> None:
    [line] = loki.lines(_QUERIES["logs: Log lines"], outcome="failed")
    assert line.startswith("answer failed · gpt-4o · ")
    assert line.endswith(" · rate_limit_exceeded")


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({"conversation": "c-1"}, 3),  # two responses, one rating
        ({"conversation": "c"}, None),
        ({"level": "ERROR|CRITICAL"}, 1),
        ({"text": "answer failed"}, 1),
        ({"text": "nobody wrote this"}, 0),
        ({"trace": "0" * 32}, 0),
    ],
)
def test_fields_filter_the_lines(loki: Asked, chosen: dict[str, str], count: int | None) -> None:
    lines = loki.lines(_QUERIES["logs: Log lines"], **chosen)
    assert len(lines) == (4 if count is None else count)


@pytest.mark.parametrize(("conversation", "turns"), [("c-1", 2), ("c-2", 1), ("c", 0)])
def test_exact_conversation_is_chosen(loki: Asked, conversation: str, turns: int) -> None:
    query = _QUERIES["chatscope-conversations: Turns"]
    assert len(loki.lines(query, conversation=conversation)) == turns


def _figures(found: list[dict[str, Any]], label: str) -> dict[tuple[str, str], float]:
    return {
        (each["metric"][label], each["metric"]["figure"]): float(each["value"][1]) for each in found
    }


def test_spending_is_added_up_by_user_team_and_key(loki: Asked) -> None:
    by_user = _figures(loki.ask(_QUERIES["chatscope-users: Users"]), "user_id")
    assert by_user["ann", "Cost"] == pytest.approx(0.0009)
    assert by_user["ann", "Responses"] == 3
    assert by_user["ann", "Tokens"] == 240
    assert by_user["ann", "Errors"] == 1
    assert len({user for user, figure in by_user if figure == "Cost"}) == 100
    by_team = _figures(loki.ask(_QUERIES["chatscope-users: Teams"]), "chatscope_key_team")
    assert by_team["search", "Responses"] == _USERS + 4
    by_key = _figures(loki.ask(_QUERIES["chatscope-users: API keys"]), "chatscope_key_name")
    assert by_key["k-ann", "Cost"] == by_user["ann", "Cost"]


def test_user_is_chosen_by_the_exact_id(loki: Asked) -> None:
    query = _QUERIES["chatscope-users: Users"]
    assert {user for user, _ in _figures(loki.ask(query, user="user-5"), "user_id")} == {"user-5"}


def test_bad_ratings_lead_to_their_conversation(loki: Asked) -> None:
    [stream] = loki.ask(_QUERIES["chatscope-conversations: Bad ratings"])
    found = stream["stream"]
    assert found["gen_ai_conversation_id"] == "c-1"
    assert found["gen_ai_evaluation_explanation"] == "I still froze."
