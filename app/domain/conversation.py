"""What one connection remembers: a bounded list of whole turns."""

from collections import deque

from app.wire.request import Message


class Conversation:
    """Questions with their answers, newest last; the oldest turn goes first."""

    def __init__(self, most_messages: int, most_chars: int) -> None:
        self._most_turns = most_messages // 2
        self._most_chars = most_chars
        # A question without its answer, or the reverse, would mislead the model.
        self._turns: deque[tuple[Message, Message]] = deque()
        self._chars = 0

    def with_question(self, text: str) -> list[Message]:
        """What the model is asked: all that is remembered, then the question."""
        remembered = [message for turn in self._turns for message in turn]
        return [*remembered, Message(role="user", content=text)]

    def remember(self, question: str, answer: str) -> set[str]:
        """Keep a turn, unless it has no answer or nothing is to be remembered.

        Returns the names of the limits because of which turns were forgotten, this one among
        them if it is too long.
        """
        if not answer or not self._most_turns:
            return set()
        asked = Message(role="user", content=question)
        self._turns.append((asked, Message(role="assistant", content=answer)))
        self._chars += len(question) + len(answer)
        return self._forget()

    def _forget(self) -> set[str]:
        reached = set()
        while limit := self._exceeded():
            reached.add(limit)
            self._chars -= sum(len(message.text) for message in self._turns.popleft())
        return reached

    def _exceeded(self) -> str | None:
        if len(self._turns) > self._most_turns:
            return "history_messages"
        return "request_chars" if self._chars > self._most_chars else None
