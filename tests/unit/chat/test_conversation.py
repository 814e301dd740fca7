"""The memory of one connection."""

from app.chat.conversation import Conversation
from app.chat.request import Message


def _texts(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.with_question("?")]


def test_a_question_comes_with_all_that_is_remembered() -> None:
    conversation = Conversation(10, 1000)
    conversation.remember("q1", "a1")
    conversation.remember("q2", "a2")
    messages = conversation.with_question("q3")
    assert [m.content for m in messages] == ["q1", "a1", "q2", "a2", "q3"]
    assert [m.role for m in messages] == ["user", "assistant", "user", "assistant", "user"]


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


def test_a_bound_of_none_remembers_nothing() -> None:
    conversation = Conversation(0, 1000)
    conversation.remember("q", "a")
    assert _texts(conversation) == ["?"]


def test_it_is_bounded_in_characters_too() -> None:
    conversation = Conversation(10, 6)
    assert conversation.remember("one", "1") == 0
    assert conversation.remember("two", "22") == 1
    assert [m.content for m in conversation.with_question("?")] == ["two", "22", "?"]


def test_a_turn_that_is_longer_than_the_bound_is_not_kept() -> None:
    conversation = Conversation(10, 6)
    conversation.remember("one", "1")
    assert conversation.remember("x" * 6, "y") == 2
    assert conversation.with_question("?") == [Message(role="user", content="?")]
