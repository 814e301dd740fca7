"""The demo's texts: users, conversations, tools, long prompts; reproducible for a seed."""

import json
from collections import Counter
from random import Random

import pytest

from app.settings import load_settings
from demo import models, story
from tests.each import for_each


def _random() -> Random:
    return Random(5)  # noqa: S311


def test_a_dozen_users_are_in_three_teams() -> None:
    assert len({user.id for user in story.USERS}) == 12
    assert {user.team for user in story.USERS} == {"support", "sales", "engineering"}
    assert story.USERS[0].id == "ana@support"


@for_each({user.id: user for user in story.USERS})
def test_user_has_conversations_and_questions_without_gaps(user: story.User) -> None:
    random = _random()
    for _ in range(20):
        turns = story.conversation(user, random)
        assert len(turns) >= 3
        assert not any("{" in text for text in [*turns, story.question(user, random)])


def test_same_seed_gives_the_same_story() -> None:
    def told() -> list[object]:
        random = _random()
        return [
            story.conversation(story.USERS[0], random),
            story.tool_question(random),
            story.complaint(random),
            story.search(random),
            story.report(random),
        ]

    assert told() == told()


def test_report_is_long_but_accepted_by_the_service() -> None:
    text = story.report(_random())
    assert len(text.split()) > 3000
    assert len(text) < load_settings({}).max_message_chars


def test_tools_return_json_and_fail_now_and_then() -> None:
    random, failures = _random(), 0
    for _ in range(100):
        try:
            found = json.loads(story.call_tool("find_order", '{"order_id": "A-1"}', random))
            assert found["order"] == "A-1"
            found = json.loads(story.call_tool("get_weather", '{"city": "Oslo"}', random))
            assert found["city"] == "Oslo"
        except story.ToolError:
            failures += 1
    assert 0 < failures < 40


@pytest.mark.parametrize(("second", "peak"), [(0, False), (239, False), (240, True), (299, True)])
def test_cost_has_its_peak_in_the_last_minute_of_five(second: int, peak: bool) -> None:
    assert story.is_peak(second) == story.is_peak(3000 + second) == peak


def test_free_models_are_those_of_the_vendors_else_the_simulated_one() -> None:
    settings = load_settings({"DEMO_PROVIDERS": "true"})
    file = settings.further_models
    assert file is not None
    assert tuple(provider.name for provider in file.providers) == models.VENDORS
    offered = {m.name: provider.name for provider in file.providers for m in provider.models}
    offered |= {"simulated-1": "simulated", "gpt-4o": "openai"}
    assert models.free(offered) == file.names
    assert models.free({"simulated-1": "simulated", "gpt-4o": "openai"}) == ["simulated-1"]
    # A real provider with such a name has models with other names.
    assert models.free({"gpt-4o": "northwind"}) == []


def test_models_are_asked_for_what_they_can() -> None:
    random, found = _random(), models.DemoModels(("a-large", "a-small", "a-embed"))
    for _ in range(20):
        assert found.chat(random) in ("a-large", "a-small")
        assert found.large(random) == "a-large"
        assert found.embedding(random) == "a-embed"
    assert not models.DemoModels(("gpt-4o",)).has_embeddings
    alone = models.DemoModels(("simulated-1",))
    assert {alone.chat(random), alone.large(random), alone.embedding(random)} == {"simulated-1"}


def test_some_responses_are_rated_and_those_of_one_model_worse() -> None:
    random = _random()
    found = {
        model: Counter(rating[0] for _ in range(2000) if (rating := story.rating(model, random)))
        for model in ("northwind-large", "contoso-small")
    }
    for labels in found.values():
        assert 300 < labels.total() < 500
    assert found["northwind-large"]["good"] > 5 * found["northwind-large"]["bad"]
    assert found["contoso-small"]["bad"] > found["contoso-small"]["good"]
