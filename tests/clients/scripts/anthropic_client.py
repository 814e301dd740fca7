"""The official `anthropic` client for Python: every feature over `/v1/messages`."""

import json
from typing import Any

import anthropic

from tests.clients.scripts.observing import (
    CHAT,
    IMAGE,
    MODELS,
    SCHEMA,
    TOOLS,
    arguments,
    ask,
    failed,
    run,
)

_url, _key = arguments()
_client: Any = anthropic.Anthropic(base_url=_url, api_key=_key, max_retries=0, timeout=30)
_tools_given = [
    {
        "name": tool["name"],
        "description": tool["description"],
        "input_schema": tool["parameters"],
    }
    for tool in TOOLS
]


def _create(**changes: Any) -> Any:
    return _client.messages.create(
        **{"model": CHAT, "max_tokens": 500, "messages": ask(), **changes}
    )


def _streamed(**changes: Any) -> Any:
    return _client.messages.stream(
        **{"model": CHAT, "max_tokens": 500, "messages": ask(), **changes}
    )


def _counts(usage: Any) -> list[int]:
    return [usage.input_tokens, usage.output_tokens]


def _text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def _chat() -> Any:
    found = _create()
    return {"text": _text(found), "finish": found.stop_reason, "usage": _counts(found.usage)}


def _stream() -> Any:
    with _streamed() as stream:
        texts = list(stream.text_stream)
        finish = stream.get_final_message().stop_reason
    return {"text": "".join(texts), "finish": finish, "chunks": len(texts)}


def _stream_usage() -> Any:
    with _streamed() as stream:
        return {"usage": _counts(stream.get_final_message().usage)}


def _calls(message: Any) -> Any:
    blocks = [block for block in message.content if block.type == "tool_use"]
    return {
        "calls": [[block.id, block.name, block.input] for block in blocks],
        "finish": message.stop_reason,
    }


def _tools() -> Any:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    return _calls(_create(tools=_tools_given, tool_choice=choice))


def _tools_stream() -> Any:
    choice = {"type": "auto", "disable_parallel_tool_use": False}
    with _streamed(tools=_tools_given, tool_choice=choice) as stream:
        return _calls(stream.get_final_message())


def _structured() -> Any:
    found = _create(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    return {"value": json.loads(_text(found))}


def _image() -> Any:
    source = {"type": "base64", "media_type": "image/png", "data": IMAGE}
    content = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
    messages = [{"role": "user", "content": content}]
    return {"text": _text(_create(model=MODELS["image"], messages=messages))}


def _reasoning() -> Any:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with _streamed(model=MODELS["reasoning"], thinking=thinking, max_tokens=2000) as stream:
        message = stream.get_final_message()
    thoughts = [block.thinking for block in message.content if block.type == "thinking"]
    return {"text": _text(message), "reasoning": "".join(thoughts)}


def _messages() -> Any:
    """A conversation whose last message is the result of a tool, and the count of its tokens."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_time", "input": {"city": "Tokyo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "It is noon."}
    conversation = [
        *ask(),
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    found = _create(messages=conversation, tools=_tools_given, system="Be brief.")
    counted = _client.messages.count_tokens(model=CHAT, messages=conversation)
    return {
        "text": _text(found),
        "finish": found.stop_reason,
        "counted": counted.input_tokens,
    }


def _stream_error() -> Any:
    texts: list[str] = []

    def read() -> None:
        with _streamed(model=MODELS["stream_error"]) as stream:
            texts.extend(stream.text_stream)

    return {**failed(read), "text": "".join(texts)}


run(
    {
        "chat": _chat,
        "stream": _stream,
        "stream_usage": _stream_usage,
        "tools": _tools,
        "tools_stream": _tools_stream,
        "structured": _structured,
        "image": _image,
        "reasoning": _reasoning,
        "messages": _messages,
        "invalid_request": lambda: failed(lambda: _create(model=MODELS["invalid_request"])),
        "rate_limit": lambda: failed(lambda: _create(model=MODELS["rate_limit"])),
        "stream_error": _stream_error,
        "authentication": lambda: failed(
            lambda: _client.with_options(api_key="wrong").messages.create(
                model=CHAT, max_tokens=5, messages=ask()
            )
        ),
    }
)
