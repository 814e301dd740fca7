"""Prompts and responses in the JSON of the GenAI conventions: recorded only on request.

Messages of the formats of OpenAI (chat completions and responses) and Anthropic become messages
with parts, by the conventions' JSON schemas of `gen_ai.input.messages`, `gen_ai.output.messages`,
`gen_ai.system_instructions` and `gen_ai.tool.definitions`. A part of an unknown type is kept as it
is. The result is always valid JSON: it is shortened before it is rendered, not after.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

Part = dict[str, Any]
_Item = TypeVar("_Item")

# All four together fit into the texts of one log record (chatscope.otlp.values.MAX_TOTAL_BYTES).
MAX_INPUT_BYTES: Final = 240_000
MAX_OTHER_BYTES: Final = 80_000
_SHORTEST: Final = 16
_CUT: Final = "…"
_TEXT_TYPES: Final = frozenset({"text", "input_text", "output_text"})
_MODALITIES: Final = frozenset({"image", "audio", "video"})
_MAX_DEPTH: Final = 40
# Of one message; the newest are kept.
_MAX_PARTS: Final = 2_000


def input_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return `gen_ai.input.messages` for messages of the OpenAI or Anthropic format."""
    return _fitting(messages, _message, MAX_INPUT_BYTES, _text_message)


def output_messages(
    text: str, finish_reason: str | None, output: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return `gen_ai.output.messages`: the response's messages, each with the reason of its end.

    `output` are messages in the provider's format, which may have a `finish_reason`; without any,
    the response is `text`.
    """
    given: Sequence[Mapping[str, Any]] = output or [{"content": text}]

    def made(message: Mapping[str, Any]) -> dict[str, Any]:
        reason = message.get("finish_reason") or finish_reason or "error"
        return {**_message({"role": "assistant", **message}), "finish_reason": reason}

    return _fitting(given, made, MAX_OTHER_BYTES)


def system_instructions(instructions: str | Sequence[Any]) -> str:
    """Return `gen_ai.system_instructions`: those given beside the messages."""
    return _fitting(_content(instructions), dict, MAX_OTHER_BYTES)


def tool_definitions(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return `gen_ai.tool.definitions` for tools of the OpenAI or Anthropic format."""
    return _fitting(tools, _tool, MAX_OTHER_BYTES)


def characters(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return the length of all texts."""
    return sum(len(text) for message in messages for text in _texts(message.get("content")))


def as_json(value: object) -> str:
    """Return any value as compact, valid JSON; values without a JSON form as their text."""
    try:
        return _dumps(value)
    except ValueError:  # NaN or an infinity, which JSON lacks, or a cycle
        return _dumps(_finite(value))


_quoted: Final = json.encoder.encode_basestring
_dumps: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False
).encode


def _finite(value: Any, depth: int = 0) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _MAX_DEPTH:
        return _CUT
    if isinstance(value, Mapping):
        return {str(key): _finite(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each, depth + 1) for each in value]
    return value


# -- messages ---------------------------------------------------------------------


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        parts = [_tool_response(message.get("tool_call_id"), content)]
    else:
        parts = [*_reasoning(message), *_content(content), *_beside_content(message)]
    named = {"name": name} if isinstance(name := message.get("name"), str) else {}
    return {"role": role if isinstance(role, str) else "user", "parts": parts, **named}


def _text_message(message: Mapping[str, Any]) -> str | None:
    """Return the JSON of a message that is only a text, as most messages of a long history are."""
    role, content = message.get("role"), message.get("content")
    if type(role) is not str or type(content) is not str or role == "tool" or len(message) > 2:
        return None
    return f'{{"role":{_quoted(role)},"parts":[{{"type":"text","content":{_quoted(content)}}}]}}'


def _reasoning(message: Mapping[str, Any]) -> list[Part]:
    found = message.get("reasoning_content") or message.get("reasoning")
    return [{"type": "reasoning", "content": found}] if isinstance(found, str) else []


def _content(content: object) -> list[Part]:
    if isinstance(content, str):
        return [_text(content)]
    parts = content[-_MAX_PARTS:] if isinstance(content, list | tuple) else ()
    return [_part(part) if isinstance(part, Mapping) else _text(str(part)) for part in parts]


def _beside_content(message: Mapping[str, Any]) -> list[Part]:
    parts = []
    if isinstance(refusal := message.get("refusal"), str):
        parts.append({"type": "refusal", "content": refusal})
    if isinstance(audio := message.get("audio"), Mapping):
        parts.append(_blob("audio", None, audio.get("data"), transcript=audio.get("transcript")))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list | tuple) else ():
        if isinstance(call, Mapping):
            parts.append(_tool_call(call))
    return parts


def _part(part: Mapping[str, Any]) -> Part:  # noqa: PLR0911 - one line for each type
    found = part.get("type")
    kind = found if isinstance(found, str) else None
    if kind in _TEXT_TYPES or (found is None and isinstance(part.get("text"), str)):
        return _text(part.get("text"))
    if kind == "thinking":
        return {"type": "reasoning", "content": str(part.get("thinking", ""))}
    if kind == "tool_use":
        return {
            "type": "tool_call",
            "id": part.get("id"),
            "name": str(part.get("name")),
            "arguments": part.get("input"),
        }
    if kind == "tool_result":
        return _tool_response(part.get("tool_use_id"), part.get("content"))
    if kind in ("image_url", "input_image"):
        return _by_address("image", part.get("image_url"))
    if kind == "input_audio" and isinstance(audio := part.get("input_audio"), Mapping):
        mime_type = f"audio/{audio['format']}" if audio.get("format") else None
        return _blob("audio", mime_type, audio.get("data"))
    if kind in ("file", "input_file"):
        return _file(part)
    if isinstance(source := part.get("source"), Mapping):
        return _source("document" if kind == "document" else str(kind), source)
    return {**part, "type": kind or "unknown"}


def _text(text: object) -> Part:
    return {"type": "text", "content": text if isinstance(text, str) else str(text)}


def _tool_call(call: Mapping[str, Any]) -> Part:
    found = call.get("function") or call.get("custom")
    called: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    arguments = called.get("arguments", called.get("input"))
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": str(called.get("name")),
        "arguments": _parsed(arguments),
    }


def _tool_response(call_id: object, content: object) -> Part:
    texts = _texts(content)
    response = texts[0] if len(texts) == 1 else content
    return {"type": "tool_call_response", "id": call_id, "response": response}


def _parsed(arguments: object) -> object:
    """Return arguments that are a JSON object as that; others as they are."""
    if not isinstance(arguments, str):
        return arguments
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return found if isinstance(found, dict) else arguments


def _by_address(modality: str, found: object) -> Part:
    """Return a part for a URL, or for data in a `data:` URL."""
    address = found.get("url") if isinstance(found, Mapping) else found
    if not isinstance(address, str):
        return {"type": modality}
    if address.startswith("data:"):
        head, _, data = address[len("data:") :].partition(",")
        return _blob(_modality(head, modality), head.partition(";")[0] or None, data)
    return {"type": "uri", "modality": modality, "uri": address}


def _file(part: Mapping[str, Any]) -> Part:
    file = part["file"] if isinstance(part.get("file"), Mapping) else part
    if isinstance(file_id := file.get("file_id"), str):
        return {"type": "file", "modality": "document", "file_id": file_id}
    return _by_address("document", file.get("file_data") or file.get("file_url"))


def _source(modality: str, source: Mapping[str, Any]) -> Part:
    """Return a part for Anthropic's source of an image or a document."""
    if isinstance(address := source.get("url"), str):
        return {"type": "uri", "modality": modality, "uri": address}
    if isinstance(file_id := source.get("file_id"), str):
        return {"type": "file", "modality": modality, "file_id": file_id}
    if source.get("type") == "text":
        return _text(source.get("data"))
    return _blob(modality, source.get("media_type"), source.get("data"))


def _blob(modality: str, mime_type: object, data: object, *, transcript: object = None) -> Part:
    more = {"mime_type": mime_type, "transcript": transcript}
    known = {name: value for name, value in more.items() if isinstance(value, str)}
    content = data if isinstance(data, str) else ""
    return {"type": "blob", "modality": modality, "content": content, **known}


def _modality(mime_type: str, otherwise: str) -> str:
    kind = mime_type.partition("/")[0]
    return kind if kind in _MODALITIES else otherwise


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    kind = tool.get("type")
    function = tool.get("function")
    if isinstance(function, Mapping):
        return {"type": "function", "name": str(function.get("name")), **_defined(function)}
    if "input_schema" in tool:  # Anthropic's
        described = {**tool, "parameters": tool["input_schema"]}
        return {"type": "function", "name": str(tool.get("name")), **_defined(described)}
    kind = kind if isinstance(kind, str) else "function"
    return {**tool, "type": kind, "name": str(tool.get("name") or kind)}


def _defined(function: Mapping[str, Any]) -> dict[str, Any]:
    return {name: function[name] for name in ("description", "parameters") if name in function}


def _texts(content: object) -> list[str]:
    """Return the texts of a content: one string, or the text parts of a list."""
    if isinstance(content, str):
        return [content]
    texts = []
    for part in content if isinstance(content, list | tuple) else ():
        # The type first: a check against an abstract class costs more than the rest.
        if type(part) is dict or isinstance(part, Mapping):
            text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
    return texts


# -- size -------------------------------------------------------------------------


def _fitting(
    items: Sequence[_Item],
    made: Callable[[_Item], dict[str, Any]],
    limit: int,
    quickly: Callable[[_Item], str | None] = lambda _: None,
) -> str:
    """Return the items as a JSON array of at most `limit` bytes.

    Long texts of an item that does not fit are shortened, and the oldest items are left out. The
    newest are made and rendered first, so that the time depends on the limit. `quickly` renders
    some of the items.
    """
    kept: list[str] = []
    room = limit - len("[]")
    for item in reversed(items):
        rendered = quickly(item)
        if rendered is None or _size(rendered) > room:
            rendered = _within(made(item), room)
        if rendered is None:
            break
        kept.append(rendered)
        room -= _size(rendered) + len(",")
    return f"[{','.join(reversed(kept))}]"


def _within(value: dict[str, Any], room: int) -> str | None:
    """Return a value as JSON of at most `room` bytes; None if shorter texts do not suffice."""
    rendered = as_json(value)
    longest = room // 4
    while _size(rendered) > room:
        if longest < _SHORTEST:
            return None
        rendered = as_json(_shortened(value, longest))
        longest //= 4
    return rendered


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _shortened(value: Any, longest: int, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + _CUT
    if depth >= _MAX_DEPTH:
        return _CUT
    if isinstance(value, Mapping):
        return {key: _shortened(each, longest, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(each, longest, depth + 1) for each in value]
    return value
