"""What one connection remembers: a bounded list of whole turns."""

from collections import deque

from app.chat.request import Message


class Conversation:
    """Questions with their answers, newest last; the oldest turn goes first."""

    def __init__(self, most_messages: int) -> None:
        # A question without its answer, or the reverse, would mislead the model.
        self._turns: deque[tuple[Message, Message]] = deque(maxlen=most_messages // 2)

    def with_question(self, text: str) -> list[Message]:
        """What the model is asked: all that is remembered, then the question."""
        remembered = [message for turn in self._turns for message in turn]
        return [*remembered, Message(role="user", content=text)]

    def remember(self, question: str, answer: str) -> None:
        """Keep a turn; one that nothing was answered to is as if never asked."""
        if answer:
            asked = Message(role="user", content=question)
            self._turns.append((asked, Message(role="assistant", content=answer)))
