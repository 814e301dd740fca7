"""The messages of a chat completion, built from the items of another format."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Part = dict[str, Any]


@dataclass
class _Answer:
    """The items of one turn of the assistant."""

    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def render(self) -> dict[str, Any]:
        """Return the message. Its content is null only if there is something else."""
        content = "\n\n".join(filter(None, self.texts))
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if not content and (self.calls or self.refusals):
            message["content"] = None
        if self.refusals:
            message["refusal"] = "".join(self.refusals)
        if self.reasoning:
            # Most providers have it in this field.
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        return message


class Conversation:
    """Items of an assistant's turn become one message, because a provider requires the results of
    tools directly after the message with all their calls."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._answer: _Answer | None = None  # the last message, if it is the assistant's
        self._media: list[Part] = []  # of tool results, which in chat completions are text only

    def messages(self) -> list[dict[str, Any]]:
        """Return all messages; nothing is added afterwards."""
        self._flush()
        return self._messages

    def add_instructions(self, role: str, text: str) -> None:
        """Add a message of the role `system` or `developer`."""
        self._flush()
        self._messages.append({"role": role, "content": text})

    def add_user(self, parts: Sequence[Part]) -> None:
        """Add a message of the user."""
        self._flush_answer()
        parts = [*self._media, *parts]
        self._media = []
        match parts:
            case []:
                content: str | list[Part] = ""
            case [{"type": "text", "text": str(text)}]:
                content = text
            case _:
                content = parts
        self._messages.append({"role": "user", "content": content})

    def add_answer(self, text: str) -> None:
        """Add text of the assistant."""
        self._open_answer().texts.append(text)

    def add_refusal(self, text: str) -> None:
        """Add a refusal of the assistant."""
        self._open_answer().refusals.append(text)

    def add_reasoning(self, text: str) -> None:
        """Add reasoning of the assistant."""
        self._open_answer().reasoning.append(text)

    def add_tool_call(self, call_id: str, name: str, arguments: str) -> None:
        """Add a call of a tool; `arguments` is JSON."""
        function = {"name": name, "arguments": arguments}
        call = {"id": call_id, "type": "function", "function": function}
        self._open_answer().calls.append(call)

    def add_tool_result(self, call_id: str, parts: Sequence[Part]) -> None:
        """Add the result of a tool; its media go to the user's message that follows."""
        self._flush_answer()
        texts = [part["text"] for part in parts if part["type"] == "text"]
        self._media += [part for part in parts if part["type"] != "text"]
        message = {"role": "tool", "tool_call_id": call_id, "content": "\n\n".join(texts)}
        self._messages.append(message)

    def _open_answer(self) -> _Answer:
        if self._answer is None:
            self._flush()
            self._answer = _Answer()
        return self._answer

    def _flush(self) -> None:
        if self._media:
            self.add_user([])
        self._flush_answer()

    def _flush_answer(self) -> None:
        if self._answer:
            self._messages.append(self._answer.render())
            self._answer = None


def text_part(text: str) -> Part:
    """Return a content part of text."""
    return {"type": "text", "text": text}


def image_part(url: str, detail: str | None = None) -> Part:
    """Return a content part of an image; `url` may be a data URL."""
    image = {"url": url} if detail is None else {"url": url, "detail": detail}
    return {"type": "image_url", "image_url": image}
