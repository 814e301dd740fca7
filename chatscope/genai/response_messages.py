"""The messages of a whole response of the OpenAI or Anthropic format, where content is captured."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_MESSAGE: Final = ("role", "content", "reasoning_content", "reasoning", "refusal")
_BLOCK: Final = ("type", "text", "thinking", "id", "name", "input")
_MAX_CHOICES: Final = 128


def response_messages(response: Any) -> Sequence[Mapping[str, Any]]:
    """Return the messages of a response, each with its `finish_reason`; none if it is unknown.

    `response` is JSON or an object of a client; only the members that telemetry has are read.
    """
    choices = _get(response, "choices")
    if isinstance(choices, list):
        return [_choice(choice) for choice in choices[:_MAX_CHOICES] if _get(choice, "message")]
    content = _get(response, "content")
    if isinstance(content, list) and isinstance(_get(response, "role"), str):
        blocks = [_members(block, _BLOCK) for block in content]
        return [{"content": blocks, "finish_reason": _get(response, "stop_reason")}]
    return ()


def _choice(choice: Any) -> dict[str, Any]:
    message = _get(choice, "message")
    found = _members(message, _MESSAGE)
    calls = _get(message, "tool_calls")
    if isinstance(calls, list):
        found["tool_calls"] = [_call(call) for call in calls]
    return {**found, "finish_reason": _get(choice, "finish_reason")}


def _call(call: Any) -> dict[str, Any]:
    function = _members(_get(call, "function"), ("name", "arguments"))
    return {"id": _get(call, "id"), "function": function}


def _members(found: Any, names: Sequence[str]) -> dict[str, Any]:
    members = {name: _get(found, name) for name in names}
    return {name: value for name, value in members.items() if value is not None}


def _get(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
