"""Messages and deltas of OpenAI's chat format as providers send them: measured and normalized."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from app.json_text import repaired

# Keys of a choice and of a message that hold no output.
_NO_OUTPUT: Final = frozenset({"role", "content", "tool_calls"})


def measure(message: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the text of a message or delta and the number of characters of its output.

    None if it has to be normalized before a client can read it.
    """
    content = message.get("content")
    text, size = "", 0
    if content is not None:
        if type(content) is not str:
            return None
        text, size = content, len(content)
    for name, value in message.items():
        if not value or name in _NO_OUTPUT:
            continue
        # Not a text: audio, annotations, a function call of the older format.
        size += len(value) if type(value) is str else 1
    if calls := message.get("tool_calls"):
        counted = _measure_calls(calls)
        if counted is None:
            return None
        size += counted
    return text, size


def _measure_calls(calls: object) -> int | None:
    if type(calls) is not list:
        return None
    size = 0
    for call in calls:
        if type(call) is not dict:
            return None
        function = call.get("function")
        if type(function) is dict:
            arguments, name = function.get("arguments"), function.get("name")
            if arguments is not None and type(arguments) is not str:
                return None
            if name and not call.get("id"):
                return None
            size += len(arguments or "") + (len(name) if type(name) is str else 0)
        size += 1
    return size


def normalized(message: object) -> dict[str, Any]:
    """Return a message or delta with its content as a text and its tool calls as objects."""
    if not isinstance(message, dict):
        return {}
    fixed = dict(message)
    content = fixed.get("content")
    if content is not None and not isinstance(content, str):
        fixed.update(_of_parts(content if isinstance(content, list) else [content]))
    if fixed.get("tool_calls") is not None:
        calls = fixed["tool_calls"]
        calls = calls if isinstance(calls, list) else [calls]
        fixed["tool_calls"] = [_call(call) for call in calls if isinstance(call, dict)]
    return fixed


def _of_parts(parts: list[Any]) -> dict[str, str | None]:
    """Return content and reasoning of a content that is a list of parts, as Mistral sends it."""
    texts, thoughts = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if "thinking" in part:
                thoughts.append(_text_of(part["thinking"]))
            else:
                texts.append(_text_of(part.get("text")))
    found: dict[str, str | None] = {"content": "".join(texts) if texts else None}
    if thoughts:
        found["reasoning_content"] = "".join(thoughts)
    return found


def _text_of(found: object) -> str:
    if isinstance(found, str):
        return found
    parts = found if isinstance(found, list) else []
    return "".join(_text_of(part.get("text")) for part in parts if isinstance(part, dict))


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    fixed = dict(call)
    if isinstance(function, dict):
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            function = {**function, "arguments": json.dumps(repaired(arguments))}
        fixed["function"] = function
        if not fixed.get("id") and function.get("name"):
            fixed["id"] = f"call_{uuid.uuid4().hex}"
    if not fixed.get("id"):
        fixed.pop("id", None)
    return fixed
