"""Translation of the body of `POST /v1/responses` to that of a chat completion."""

from collections.abc import Iterator
from typing import Any, Final

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

# The same in both formats.
_PASSED: Final = (
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
)
# They need a store of earlier responses, or work that goes on without a client.
_STATEFUL: Final = ("background", "context_management", "conversation", "previous_response_id")
PARAMETERS: Final = frozenset(
    {
        *_PASSED,
        *_STATEFUL,
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        "prompt",
        "reasoning",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)
_ITEMS: Final = ("message", "function_call", "function_call_output", "reasoning")
_ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = ("input_text", "output_text", "text")
_MEDIA: Final = ("input_image", "input_file", "input_audio")
_LOGPROBS: Final = "message.output_text.logprobs"


def to_chat(body: Value) -> Json:
    """Return the body of the chat completion. Raise InvalidRequest."""
    _refuse_state(body)
    return without_none(
        {
            **unknown_parameters(body, PARAMETERS),
            **{name: body.at(name).json for name in _PASSED},
            **stream_parameters(body),
            **_tool_parameters(body),
            **_text_parameters(body),
            **_logprobs(body),
            "model": optional_text(body, "model"),
            "messages": _messages(body),
            "max_completion_tokens": optional_integer(body, "max_output_tokens", 1),
            "temperature": optional_number(body, "temperature"),
            "top_p": optional_number(body, "top_p"),
            "user": optional_text(body, "user"),
            "reasoning_effort": _reasoning_effort(body),
        }
    )


def wants_summary(body: Value) -> bool:
    """Whether the client asked for reasoning as a summary; else it is sent as it is."""
    reasoning = body.get("reasoning")
    if reasoning is None:
        return False
    return any(optional_text(reasoning, name) for name in ("summary", "generate_summary"))


def metadata(body: Value) -> dict[str, str]:
    """Return `metadata`, which stays in the service: it describes a response that is stored."""
    given = body.get("metadata")
    return {name: given.at(name).text() for name in given.fields()} if given else {}


def _refuse_state(body: Value) -> None:
    for name in _STATEFUL:
        member = body.get(name)
        if member and member.json is not False:
            raise member.error(
                "it is not supported, because no responses are stored; "
                "send the whole conversation in 'input'"
            )
    if prompt := body.get("prompt"):
        raise prompt.error("it is not supported; send the text in 'instructions' or 'input'")
    optional_boolean(body, "store")
    if truncation := body.get("truncation"):
        truncation.one_of(("auto", "disabled"))


def _text_parameters(body: Value) -> Json:
    text = body.get("text")
    if text is None:
        return {}
    parameters: Json = {"verbosity": optional_text(text, "verbosity")}
    given = text.get("format")
    if given is None:
        return parameters
    match given.need("type").one_of(("text", "json_schema", "json_object")):
        case "json_object":
            parameters["response_format"] = {"type": "json_object"}
        case "json_schema":
            schema = without_none(
                {
                    "name": given.need("name").text(),
                    "description": optional_text(given, "description"),
                    "schema": given.need("schema").fields(),
                    "strict": optional_boolean(given, "strict"),
                }
            )
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
    return parameters


def _reasoning_effort(body: Value) -> str | None:
    reasoning = body.get("reasoning")
    return optional_text(reasoning, "effort") if reasoning else None


def _logprobs(body: Value) -> Json:
    top = optional_integer(body, "top_logprobs", 0)
    include = body.get("include")
    included = [item.text() for item in include.items()] if include else []
    if top is None and _LOGPROBS not in included:
        return {}
    return {"logprobs": True, "top_logprobs": top}


def _tool_parameters(body: Value) -> Json:
    given = body.get("tools")
    tools = [_tool(tool) for tool in given.items()] if given else []
    choice = _tool_choice(body)
    parallel = optional_boolean(body, "parallel_tool_calls")
    if not tools:
        # Providers refuse the other two without tools; clients send them always.
        if choice not in (None, "auto", "none"):
            raise body.at("tool_choice").error("it needs 'tools'")
        return {}
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel}


def _tool(tool: Value) -> Json:
    tool.need("type").one_of(("function",))
    parameters = tool.get("parameters")
    function = {
        "name": tool.need("name").text(),
        "description": optional_text(tool, "description"),
        "parameters": parameters.fields() if parameters else None,
        "strict": optional_boolean(tool, "strict"),
    }
    return {"type": "function", "function": without_none(function)}


def _tool_choice(body: Value) -> str | Json | None:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice.json, str):
        return choice.one_of(("none", "auto", "required"))
    if choice.need("type").one_of(("function", "allowed_tools")) == "function":
        return _named(choice)
    allowed = {
        "mode": choice.need("mode").one_of(("auto", "required")),
        "tools": [_named(tool) for tool in choice.need("tools").items()],
    }
    return {"type": "allowed_tools", "allowed_tools": allowed}


def _named(choice: Value) -> Json:
    choice.need("type").one_of(("function",))
    return {"type": "function", "function": {"name": choice.need("name").text()}}


def _messages(body: Value) -> list[Json]:
    conversation = Conversation()
    if (instructions := optional_text(body, "instructions")) is not None:
        conversation.add_instructions("system", instructions)
    given = body.need("input")
    if isinstance(given.json, str):
        conversation.add_user([text_part(given.json)])
        return conversation.messages()
    for item in given.some_items():
        _add_item(conversation, item)
    return conversation.messages()


def _add_item(conversation: Conversation, item: Value) -> None:
    kind = item.get("type")
    match kind.one_of(_ITEMS) if kind else "message":
        case "message":
            _add_message(conversation, item)
        case "function_call":
            conversation.add_tool_call(
                item.need("call_id").text(),
                item.need("name").text(),
                item.need("arguments").text(),
            )
        case "function_call_output":
            parts = _parts(item.need("output"), (*_TEXTS, "input_image", "input_file"))
            conversation.add_tool_result(item.need("call_id").text(), list(parts))
        case "reasoning":
            if text := "".join(_reasoning_texts(item)):
                conversation.add_reasoning(text)


def _reasoning_texts(item: Value) -> Iterator[str]:
    """Yield the reasoning, or if there is none, its summary."""
    for name in ("content", "summary"):
        given = item.get(name)
        if given and given.json != []:
            yield from (part.need("text").text() for part in given.items())
            return


def _add_message(conversation: Conversation, item: Value) -> None:
    role = item.need("role").one_of(_ROLES)
    content = item.need("content")
    match role:
        case "user":
            conversation.add_user(list(_parts(content, (*_TEXTS, *_MEDIA))))
        case "assistant":
            _add_answer(conversation, content)
        case _:
            texts = [part["text"] for part in _parts(content, _TEXTS)]
            conversation.add_instructions(role, "\n\n".join(texts))


def _add_answer(conversation: Conversation, content: Value) -> None:
    parts = list(_parts(content, (*_TEXTS, "refusal")))
    texts = [part["text"] for part in parts if part["type"] == "text"]
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    if texts or not refusals:
        conversation.add_answer("".join(texts))
    if refusals:
        conversation.add_refusal("".join(refusals))


def _parts(content: Value, accepted: tuple[str, ...]) -> Iterator[Part]:
    """Yield the parts of a content in the form of chat completions."""
    if isinstance(content.json, str):
        yield text_part(content.json)
        return
    for part in content.items():
        yield _part(part, part.need("type").one_of(accepted))


def _part(part: Value, kind: str) -> Part:
    match kind:
        case "refusal":
            return {"type": "refusal", "refusal": part.need("refusal").text()}
        case "input_image":
            return _image(part)
        case "input_file":
            return _file(part)
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.need("input_audio").fields()}
        case _:
            return text_part(part.need("text").text())


def _image(part: Value) -> Part:
    if file_id := part.get("file_id"):
        raise file_id.error("it is not supported; send the image in 'image_url'")
    return image_part(part.need("image_url").text(), optional_text(part, "detail"))


def _file(part: Value) -> Part:
    if url := part.get("file_url"):
        raise url.error("it is not supported; send the file in 'file_data'")
    names = ("file_data", "file_id", "filename")
    file = without_none({name: optional_text(part, name) for name in names})
    if not file.keys() & {"file_data", "file_id"}:
        raise part.at("file_data").error("it is required, or 'file_id'")
    return {"type": "file", "file": file}


def effective_parameters(body: Value) -> dict[str, Any]:
    """Return the parameters as a response repeats them."""
    text, reasoning = body.get("text"), body.get("reasoning")
    tools = body.get("tools")
    return {
        "background": False,
        "instructions": body.at("instructions").json,
        "max_output_tokens": body.at("max_output_tokens").json,
        "parallel_tool_calls": body.at("parallel_tool_calls").json is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.at("prompt_cache_key").json,
        "reasoning": {
            "effort": reasoning.at("effort").json if reasoning else None,
            "summary": reasoning.at("summary").json if reasoning else None,
        },
        "safety_identifier": body.at("safety_identifier").json,
        "store": False,
        "temperature": body.at("temperature").json,
        "text": {"format": {"type": "text"}, **(without_none(text.fields()) if text else {})},
        "tool_choice": body.at("tool_choice").json or "auto",
        "tools": [_repeated_tool(tool) for tool in (tools.items() if tools else ())],
        "top_logprobs": body.at("top_logprobs").json,
        "top_p": body.at("top_p").json,
        "truncation": "disabled",
        "user": body.at("user").json,
    }


def _repeated_tool(tool: Value) -> Json:
    absent = {"description": None, "parameters": None, "strict": False}
    return {**absent, **tool.fields(), "strict": tool.at("strict").json is True}
