"""The messages of a chat completion, built from the items of another format."""

from collections.abc import Sequence
from typing import Any

Part = dict[str, Any]


class Conversation:
    """Items of an assistant's turn become one message, because a provider requires the results of
    tools directly after the message with all their calls."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._media: list[Part] = []  # of tool results, which in chat completions are text only

    def messages(self) -> list[dict[str, Any]]:
        """Return all messages; nothing is added afterwards."""
        self._flush_media()
        for message in self._messages:
            if message["role"] == "assistant" and not message.keys() & {"tool_calls", "refusal"}:
                message["content"] = message["content"] or ""
        return self._messages

    def add_instructions(self, role: str, text: str) -> None:
        """Add a message of the role `system` or `developer`."""
        self._flush_media()
        self._messages.append({"role": role, "content": text})

    def add_user(self, parts: Sequence[Part]) -> None:
        """Add a message of the user."""
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
        message = self._assistant()
        content = message["content"]
        message["content"] = f"{content}\n\n{text}" if content else text

    def add_refusal(self, text: str) -> None:
        """Add a refusal of the assistant."""
        self._append("refusal", text)

    def add_reasoning(self, text: str) -> None:
        """Add reasoning of the assistant, in the field that most providers have for it."""
        self._append("reasoning_content", text)

    def add_tool_call(self, call_id: str, name: str, arguments: str) -> None:
        """Add a call of a tool; `arguments` is JSON."""
        function = {"name": name, "arguments": arguments}
        calls = self._assistant().setdefault("tool_calls", [])
        calls.append({"id": call_id, "type": "function", "function": function})

    def add_tool_result(self, call_id: str, parts: Sequence[Part]) -> None:
        """Add the result of a tool; its media go to the user's message that follows."""
        texts = [part["text"] for part in parts if part["type"] == "text"]
        self._media += [part for part in parts if part["type"] != "text"]
        message = {"role": "tool", "tool_call_id": call_id, "content": "\n\n".join(texts)}
        self._messages.append(message)

    def _assistant(self) -> dict[str, Any]:
        self._flush_media()
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages.append({"role": "assistant", "content": None})
        return self._messages[-1]

    def _append(self, name: str, text: str) -> None:
        message = self._assistant()
        message[name] = message.get(name, "") + text

    def _flush_media(self) -> None:
        if self._media:
            self.add_user([])


def text_part(text: str) -> Part:
    """Return a content part of text."""
    return {"type": "text", "text": text}


def image_part(url: str, detail: str | None = None) -> Part:
    """Return a content part of an image; `url` may be a data URL."""
    image = {"url": url} if detail is None else {"url": url, "detail": detail}
    return {"type": "image_url", "image_url": image}
