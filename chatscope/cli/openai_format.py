"""Messages of the GenAI conventions as messages of OpenAI's chat completions."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Message = dict[str, Any]


def messages_of(recorded: object) -> list[Message]:
    """Return `gen_ai.input.messages`, or those of the output, in OpenAI's format."""
    return [message for each in _parsed_list(recorded) for message in _messages(each)]


def system_of(recorded: object) -> list[Message]:
    """Return `gen_ai.system_instructions` as a message of the role `system`, or nothing."""
    parts = _parsed_list(recorded)
    return list(_messages({"role": "system", "parts": parts})) if parts else []


def tools_of(recorded: object) -> list[Mapping[str, Any]]:
    """Return `gen_ai.tool.definitions` in OpenAI's format."""
    return [_tool(each) for each in _parsed_list(recorded)]


def _messages(recorded: Mapping[str, Any]) -> Iterator[Message]:
    """Yield a message; each result of a tool is one of its own."""
    given = recorded.get("parts")
    parts = [part for part in given if isinstance(part, dict)] if isinstance(given, list) else []
    results = [part for part in parts if part.get("type") == "tool_call_response"]
    for part in results:
        content = _as_text(part.get("response", part.get("result")))
        yield {"role": "tool", "tool_call_id": part.get("id"), "content": content}
    others = [part for part in parts if part not in results]
    if results and not others:
        return
    message: Message = {"role": recorded.get("role") or "user", "content": _content(others)}
    if isinstance(name := recorded.get("name"), str):
        message["name"] = name
    if calls := [_call(part) for part in others if part.get("type") == "tool_call"]:
        message["tool_calls"] = calls
    refusals = [str(part.get("content")) for part in others if part.get("type") == "refusal"]
    if refusals:
        message["refusal"] = "".join(refusals)
    yield message


def _content(parts: Iterable[Mapping[str, Any]]) -> str | list[dict[str, Any]] | None:
    """Return a text where there is nothing else; None where there is nothing at all."""
    contents = [content for part in parts if (content := _content_part(part)) is not None]
    if all(content.get("type") == "text" for content in contents):
        return "".join(content["text"] for content in contents) if contents else None
    return contents


def _content_part(part: Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: PLR0911 - a table
    """Return a part of a content; None for one that has another place, or none: reasoning."""
    match part.get("type"):
        case "text":
            return {"type": "text", "text": str(part.get("content", ""))}
        case "tool_call" | "refusal" | "reasoning":
            return None
        case "uri" if part.get("modality") == "image":
            return {"type": "image_url", "image_url": {"url": part.get("uri")}}
        case "blob" if part.get("modality") == "image":
            url = f"data:{part.get('mime_type') or 'image/png'};base64,{part.get('content', '')}"
            return {"type": "image_url", "image_url": {"url": url}}
        case "blob" if part.get("modality") == "audio":
            kind = str(part.get("mime_type") or "audio/wav").partition("/")[2]
            audio = {"data": part.get("content", ""), "format": kind}
            return {"type": "input_audio", "input_audio": audio}
        case "file":
            return {"type": "file", "file": {"file_id": part.get("file_id")}}
    return dict(part)


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": part.get("name"), "arguments": _as_text(part.get("arguments"))}
    return {"id": part.get("id"), "type": "function", "function": function}


def _tool(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    if recorded.get("type") != "function":
        return recorded
    function = {name: value for name, value in recorded.items() if name != "type"}
    return {"type": "function", "function": function}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parsed_list(recorded: object) -> Sequence[Mapping[str, Any]]:
    """Return the objects of a JSON array; nothing for anything else."""
    if not isinstance(recorded, str):
        return ()
    try:
        found = json.loads(recorded)
    except (ValueError, RecursionError):
        return ()
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else ()
