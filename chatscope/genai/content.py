"""Texts of prompts and responses, in the GenAI conventions' JSON: recorded only on request."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def input_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return `gen_ai.input.messages` for messages of the OpenAI format."""
    return as_json([_message(message.get("role"), message.get("content")) for message in messages])


def output_messages(text: str, finish_reason: str | None) -> str:
    """Return `gen_ai.output.messages`: the response, with the reason of its end."""
    return as_json([{**_message("assistant", text), "finish_reason": finish_reason or "error"}])


def characters(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return the length of all texts."""
    return sum(len(text) for message in messages for text in _texts(message.get("content")))


def as_json(value: object) -> str:
    """Return any value as compact JSON; what JSON lacks as its text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _message(role: object, content: object) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in _texts(content)]}


def _texts(content: object) -> list[str]:
    """Return the texts of a content: one string, or the text parts of a list."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list | tuple) else ()
    found = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return [text for text in found if isinstance(text, str)]
