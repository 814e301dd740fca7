"""The memory of one connection."""

from app.chat.conversation import Conversation


def _texts(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.with_question("?")]


def test_a_question_comes_with_all_that_is_remembered() -> None:
    conversation = Conversation(10)
    conversation.remember("q1", "a1")
    conversation.remember("q2", "a2")
    messages = conversation.with_question("q3")
    assert [m.content for m in messages] == ["q1", "a1", "q2", "a2", "q3"]
    assert [m.role for m in messages] == ["user", "assistant", "user", "assistant", "user"]


def test_asking_alone_is_not_remembered() -> None:
    conversation = Conversation(10)
    conversation.with_question("q1")
    assert _texts(conversation) == ["?"]


def test_a_question_without_answer_is_forgotten() -> None:
    conversation = Conversation(10)
    conversation.remember("q1", "")
    assert _texts(conversation) == ["?"]


def test_the_oldest_turn_goes_whole() -> None:
    conversation = Conversation(5)
    for n in range(3):
        conversation.remember(f"q{n}", f"a{n}")
    assert _texts(conversation) == ["q1", "a1", "q2", "a2", "?"]


def test_a_bound_of_none_remembers_nothing() -> None:
    conversation = Conversation(0)
    conversation.remember("q", "a")
    assert _texts(conversation) == ["?"]
