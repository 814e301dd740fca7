"""The memory of one connection."""

import pytest

from app.domain.conversation import Conversation


def _texts(conversation: Conversation) -> list[str]:
    return [message["content"] for message in conversation.with_question("?")]


def test_a_question_comes_with_all_that_is_remembered() -> None:
    conversation = Conversation(10, 1000)
    conversation.remember("q1", "a1")
    conversation.remember("q2", "a2")
    messages = conversation.with_question("q3")
    assert [m["content"] for m in messages] == ["q1", "a1", "q2", "a2", "q3"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]


def test_asking_alone_is_not_remembered() -> None:
    conversation = Conversation(10, 1000)
    conversation.with_question("q1")
    assert _texts(conversation) == ["?"]


def test_a_question_without_answer_is_forgotten() -> None:
    conversation = Conversation(10, 1000)
    conversation.remember("q1", "")
    assert _texts(conversation) == ["?"]


def test_the_oldest_turn_goes_whole() -> None:
    conversation = Conversation(5, 1000)
    for n in range(3):
        conversation.remember(f"q{n}", f"a{n}")
    assert _texts(conversation) == ["q1", "a1", "q2", "a2", "?"]


@pytest.mark.parametrize("most", [0, 1])
def test_without_a_memory_no_limit_is_reached(most: int) -> None:
    conversation = Conversation(most, 6)
    assert conversation.remember("q", "a") == set()
    assert conversation.remember("q" * 10, "a") == set()
    assert _texts(conversation) == ["?"]


@pytest.mark.parametrize(
    ("bounds", "turns", "reached"),
    [
        ((2, 1000), [("q", "a")], [set()]),
        ((2, 1000), [("q", "a"), ("q", "a")], [set(), {"history_messages"}]),
        ((10, 6), [("qqq", "a"), ("qqq", "a")], [set(), {"request_chars"}]),
        ((10, 4), [("q", "a"), ("q", "a")], [set(), set()]),
        ((2, 6), [("q", "a"), ("qqqqqq", "a")], [set(), {"history_messages", "request_chars"}]),
        ((10, 6), [("q", "")], [set()]),
    ],
)
def test_the_limit_that_made_it_forget_is_the_one_reached(
    bounds: tuple[int, int], turns: list[tuple[str, str]], reached: list[set[str]]
) -> None:
    conversation = Conversation(*bounds)
    assert [conversation.remember(*turn) for turn in turns] == reached


def test_it_is_bounded_in_characters_too() -> None:
    conversation = Conversation(10, 6)
    assert conversation.remember("one", "1") == set()
    assert conversation.remember("two", "22") == {"request_chars"}
    assert [m["content"] for m in conversation.with_question("?")] == ["two", "22", "?"]


def test_a_turn_that_is_longer_than_the_bound_is_not_kept() -> None:
    conversation = Conversation(10, 6)
    conversation.remember("one", "1")
    assert conversation.remember("x" * 6, "y") == {"request_chars"}
    assert conversation.with_question("?") == [{"role": "user", "content": "?"}]
