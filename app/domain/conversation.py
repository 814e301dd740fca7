"""The memory of one connection: a bounded list of complete turns."""

from collections.abc import Iterable, Sequence

from app.domain.request import Message


class Conversation:
    """Questions with their responses, newest last; the oldest turn is removed first."""

    def __init__(self, max_messages: int, max_chars: int) -> None:
        self._max_turns = max_messages // 2
        self._max_chars = max_chars
        # A question without its response, or the reverse, would mislead the model.
        # A list: most connections are idle, and an empty deque has 700 bytes.
        self._turns: list[tuple[str, str]] = []
        self._chars = 0

    @property
    def turns(self) -> Sequence[tuple[str, str]]:
        """The remembered questions with their responses."""
        return self._turns

    def with_question(self, text: str, system: str | None = None) -> list[Message]:
        """Return the messages for the model: the system prompt, all remembered turns, the
        question."""
        messages: list[Message] = [_message("system", system)] if system else []
        for question, response in self._turns:
            messages += [_message("user", question), _message("assistant", response)]
        return [*messages, _message("user", text)]

    def replace(self, turns: Iterable[tuple[str, str]]) -> set[str]:
        """Remember these turns instead. Return the names of the limits as `remember` does."""
        self._turns.clear()
        self._chars = 0
        return {limit for turn in turns for limit in self.remember(*turn)}

    def remember(self, question: str, response: str) -> set[str]:
        """Add a turn, unless its response is empty or the memory is switched off.

        Return the names of the limits that caused turns to be removed. A turn that is too long
        is removed itself.
        """
        if not response or not self._max_turns:
            return set()
        self._turns.append((question, response))
        self._chars += len(question) + len(response)
        return self._remove_oldest()

    def _remove_oldest(self) -> set[str]:
        reached = set()
        while limit := self._exceeded_limit():
            reached.add(limit)
            self._chars -= sum(len(text) for text in self._turns.pop(0))
        return reached

    def _exceeded_limit(self) -> str | None:
        if len(self._turns) > self._max_turns:
            return "history_messages"
        return "request_chars" if self._chars > self._max_chars else None


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
