"""Texts of prompts and answers, in the GenAI conventions' JSON: recorded only on request."""

import json
from collections.abc import Mapping, Sequence


def input_messages(messages: Sequence[Mapping[str, str]]) -> str:
    """`gen_ai.input.messages`: [{"role", "parts": [{"type": "text", "content"}]}]."""
    return _json([_message(message["role"], message["content"]) for message in messages])


def output_messages(text: str, finish_reason: str | None) -> str:
    """`gen_ai.output.messages`: the answer, with why it ended."""
    return _json([{**_message("assistant", text), "finish_reason": finish_reason or "error"}])


def _message(role: str, text: str) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
