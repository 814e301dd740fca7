"""Translation of the body of `POST /v1/messages` to that of a chat completion."""

from collections.abc import Iterator
from typing import Final

from pydantic_core import to_json

from app.wire.formats.base import Json, stream_parameters, unknown_parameters
from app.wire.formats.conversation import Conversation, Part, image_part, text_part
from app.wire.formats.reading import (
    Value,
    optional_boolean,
    optional_integer,
    optional_number,
    optional_text,
    without_none,
)

# Without a meaning in chat completions, or about the provider's own service: ignored.
_IGNORED: Final = frozenset(
    {
        "betas",
        "cache_control",
        "context_management",
        "diagnostics",
        "inference_geo",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
    }
)
_REFUSED: Final = ("container", "mcp_servers")
PARAMETERS: Final = _IGNORED | {
    *_REFUSED,
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
}
_THINKING: Final = ("enabled", "adaptive", "between_tools", "disabled")
# The largest budget of each effort; a larger budget is a high effort.
_EFFORTS: Final = {"low": 4_096, "medium": 16_384}
_ROLES: Final = ("user", "assistant", "system")
_USER_BLOCKS: Final = ("text", "image", "document", "tool_result")
_ASSISTANT_BLOCKS: Final = ("text", "tool_use", "thinking", "redacted_thinking")
_RESULT_BLOCKS: Final = ("text", "image", "document")
_IMAGE_SOURCES: Final = ("base64", "url")
_DOCUMENT_SOURCES: Final = ("base64", "text", "content", "file")
_TOOL_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


def to_chat(body: Value) -> Json:
    """Return the body of the chat completion. Raise InvalidRequest."""
    return {
        **unknown_parameters(body, PARAMETERS),
        "max_completion_tokens": body.need("max_tokens").integer(1),
        **to_prompt(body),
        **stream_parameters(body),
        **without_none(
            {
                "temperature": optional_number(body, "temperature"),
                "top_p": optional_number(body, "top_p"),
                "top_k": optional_integer(body, "top_k", 0),
                "stop": _stop_sequences(body) or None,
                "user": _user(body),
            }
        ),
    }


def to_prompt(body: Value) -> Json:
    """Return the parameters that `count_tokens` has too. Raise InvalidRequest."""
    for name in _REFUSED:
        member = body.get(name)
        if member and member.json != []:
            raise member.error("it is not supported")
    prompt = {
        "model": optional_text(body, "model"),
        "messages": _messages(body),
        **_tool_parameters(body),
        "response_format": _response_format(body),
        "reasoning_effort": _reasoning_effort(body),
    }
    return without_none(prompt)


def _stop_sequences(body: Value) -> list[str]:
    """Return the stop sequences."""
    given = body.get("stop_sequences")
    return [item.text() for item in given.items()] if given else []


def wants_thinking(body: Value) -> bool:
    """Whether the response has thinking blocks, which only clients expect that asked for them."""
    thinking = body.get("thinking")
    if thinking is None or thinking.need("type").one_of(_THINKING) == "disabled":
        return False
    return optional_text(thinking, "display") != "omitted"


def metadata(body: Value) -> dict[str, str]:
    """Return the texts of `metadata`, of which a provider receives the user only."""
    given = body.get("metadata")
    fields = given.fields() if given else {}
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _user(body: Value) -> str | None:
    metadata = body.get("metadata")
    return optional_text(metadata, "user_id") if metadata else None


def _reasoning_effort(body: Value) -> str | None:
    config = body.get("output_config")
    effort = optional_text(config, "effort") if config else None
    thinking = body.get("thinking")
    if effort or not thinking or thinking.need("type").one_of(_THINKING) != "enabled":
        return effort
    budget = thinking.need("budget_tokens").integer(1)
    return next((name for name, largest in _EFFORTS.items() if budget <= largest), "high")


def _response_format(body: Value) -> Json | None:
    config = body.get("output_config")
    given = (config.get("format") if config else None) or body.get("output_format")
    if given is None:
        return None
    given.need("type").one_of(("json_schema",))
    schema = {"name": "response", "schema": given.need("schema").fields(), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _tool_parameters(body: Value) -> Json:
    given = body.get("tools")
    tools = [_tool(tool) for tool in given.items()] if given else []
    choice = body.get("tool_choice")
    parameters = _tool_choice(choice) if choice else {}
    if tools:
        return {"tools": tools, **parameters}
    # Providers refuse the other two without tools.
    if choice and parameters["tool_choice"] not in ("auto", "none"):
        raise choice.error("it needs 'tools'")
    return {}


def _tool(tool: Value) -> Json:
    if kind := tool.get("type"):
        kind.one_of(("custom",))
    function = {
        "name": tool.need("name").text(),
        "description": optional_text(tool, "description"),
        "parameters": tool.need("input_schema").fields(),
        "strict": optional_boolean(tool, "strict"),
    }
    return {"type": "function", "function": without_none(function)}


def _tool_choice(choice: Value) -> Json:
    kind = choice.need("type").one_of((*_TOOL_CHOICES, "tool"))
    serial = optional_boolean(choice, "disable_parallel_tool_use")
    parallel = {} if serial is None else {"parallel_tool_calls": not serial}
    if kind != "tool":
        return {"tool_choice": _TOOL_CHOICES[kind], **parallel}
    function = {"name": choice.need("name").text()}
    return {"tool_choice": {"type": "function", "function": function}, **parallel}


def _messages(body: Value) -> list[Json]:
    conversation = Conversation()
    if system := body.get("system"):
        conversation.add_instructions("system", _joined_text(system))
    given = body.need("messages")
    for message in given.some_items():
        role = message.need("role").one_of(_ROLES)
        content = message.need("content")
        match role:
            case "user":
                _add_user(conversation, content)
            case "assistant":
                _add_answer(conversation, content)
            case _:
                conversation.add_instructions("system", _joined_text(content))
    return conversation.messages()


def _joined_text(content: Value) -> str:
    return "\n\n".join(block.need("text").text() for _, block in _blocks(content, ("text",)))


def _blocks(content: Value, accepted: tuple[str, ...]) -> Iterator[tuple[str, Value]]:
    """Yield type and value of each block; a text is one block."""
    if isinstance(content.json, str):
        yield "text", Value({"text": content.json}, content.path)
        return
    for block in content.items():
        yield block.need("type").one_of(accepted), block


def _add_user(conversation: Conversation, content: Value) -> None:
    parts: list[Part] = []
    has_results = False
    for kind, block in _blocks(content, _USER_BLOCKS):
        if kind == "tool_result":
            has_results = True
            _add_result(conversation, block)
        else:
            parts += _parts(kind, block)
    if parts or not has_results:
        conversation.add_user(parts)


def _add_result(conversation: Conversation, block: Value) -> None:
    content = block.get("content")
    blocks = _blocks(content, _RESULT_BLOCKS) if content else ()
    parts = [part for kind, inner in blocks for part in _parts(kind, inner)]
    if optional_boolean(block, "is_error"):
        parts.insert(0, text_part("Error:"))
    conversation.add_tool_result(block.need("tool_use_id").text(), parts)


def _parts(kind: str, block: Value) -> list[Part]:
    match kind:
        case "text":
            return [text_part(block.need("text").text())]
        case "image":
            return [_image(block.need("source"))]
        case _:
            return _document(block)


def _image(source: Value) -> Part:
    if source.need("type").one_of(_IMAGE_SOURCES) == "url":
        return image_part(source.need("url").text())
    return image_part(_data_url(source))


def _document(block: Value) -> list[Part]:
    source = block.need("source")
    title = optional_text(block, "title")
    match source.need("type").one_of(_DOCUMENT_SOURCES):
        case "base64":
            file = {"filename": title or "document.pdf", "file_data": _data_url(source)}
            return [{"type": "file", "file": file}]
        case "file":
            return [{"type": "file", "file": {"file_id": source.need("file_id").text()}}]
        case "text":
            parts = [text_part(source.need("data").text())]
        case _:
            blocks = _blocks(source.need("content"), ("text", "image"))
            parts = [part for kind, inner in blocks for part in _parts(kind, inner)]
    return [text_part(title), *parts] if title else parts


def _data_url(source: Value) -> str:
    return f"data:{source.need('media_type').text()};base64,{source.need('data').text()}"


def _add_answer(conversation: Conversation, content: Value) -> None:
    texts: list[str] = []
    for kind, block in _blocks(content, _ASSISTANT_BLOCKS):
        match kind:
            case "text":
                texts.append(block.need("text").text())
            case "thinking":
                conversation.add_reasoning(block.need("thinking").text())
            case "tool_use":
                arguments = to_json(block.need("input").fields()).decode()
                conversation.add_tool_call(
                    block.need("id").text(), block.need("name").text(), arguments
                )
    # Texts around citations are parts of one sentence.
    if texts:
        conversation.add_answer("".join(texts))
