"""LiteLLM's client, with the service as its OpenAI and its Anthropic endpoint."""

import asyncio
import json
import warnings
from typing import Any

import litellm

from tests.clients.scripts.observing import (
    CHAT,
    FUNCTIONS,
    IMAGE_MESSAGE,
    JSON_SCHEMA,
    MODELS,
    QUESTION,
    TEXTS,
    arguments,
    ask,
    failed,
    run,
)

warnings.simplefilter("ignore")
litellm.suppress_debug_info = True
_url, _key = arguments()
_given: dict[str, Any] = {
    "api_key": _key,
    "api_base": f"{_url}/v1",
    "num_retries": 0,
    "max_retries": 0,
    "timeout": 30,
}


def _create(model: str = CHAT, **changes: Any) -> Any:
    return litellm.completion(
        **{**_given, "model": f"openai/{model}", "messages": ask(), **changes}
    )


def _counts(usage: Any) -> list[int]:
    return [usage.prompt_tokens, usage.completion_tokens]


def _chat() -> Any:
    found = _create()
    choice = found.choices[0]
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "usage": _counts(found.usage),
    }


def _stream() -> Any:
    texts, finish = [], None
    for chunk in _create(stream=True):
        texts.append(chunk.choices[0].delta.content or "")
        finish = chunk.choices[0].finish_reason or finish
    return {"text": "".join(texts), "finish": finish, "chunks": len(texts)}


def _stream_usage() -> Any:
    chunks = list(_create(stream=True, stream_options={"include_usage": True}))
    return {"usage": _counts(next(c.usage for c in reversed(chunks) if getattr(c, "usage", None)))}


def _calls(choice: Any) -> Any:
    calls = [
        [call.id, call.function.name, json.loads(call.function.arguments)]
        for call in choice.message.tool_calls
    ]
    return {"calls": calls, "finish": choice.finish_reason}


def _tools() -> Any:
    return _calls(_create(tools=FUNCTIONS).choices[0])


def _tools_stream() -> Any:
    chunks = list(_create(tools=FUNCTIONS, parallel_tool_calls=True, stream=True))
    whole: Any = litellm.stream_chunk_builder(chunks)
    return _calls(whole.choices[0])


def _structured() -> Any:
    found = _create(response_format=JSON_SCHEMA)
    return {"value": json.loads(found.choices[0].message.content)}


def _reasoning() -> Any:
    chunks = list(_create(MODELS["reasoning"], stream=True))
    whole: Any = litellm.stream_chunk_builder(chunks)
    message = whole.choices[0].message
    return {"text": message.content, "reasoning": message.reasoning_content}


def _logprobs() -> Any:
    found = _create(MODELS["logprobs"], logprobs=True, top_logprobs=1)
    content = found.choices[0].logprobs.content
    return {"tokens": [[one.token, one.logprob] for one in content]}


def _embeddings() -> Any:
    given = {name: value for name, value in _given.items() if name != "num_retries"}
    found = litellm.embedding(
        model=f"openai/{CHAT}",
        input=TEXTS,
        dimensions=8,
        allowed_openai_params=["dimensions"],
        **given,
    )
    return {"vectors": [one["embedding"] for one in found.data]}


def _responses() -> Any:
    found: Any = litellm.responses(model=f"openai/{CHAT}", input=QUESTION, **_given)
    text = "".join(
        part.text for item in found.output if item.type == "message" for part in item.content
    )
    return {"text": text, "usage": [found.usage.input_tokens, found.usage.output_tokens]}


def _responses_stream() -> Any:
    events: Any = litellm.responses(model=f"openai/{CHAT}", input=QUESTION, stream=True, **_given)
    text, usage = "", None
    for event in events:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.completed":
            usage = event.response.usage
    assert usage is not None
    return {"text": text, "usage": [usage.input_tokens, usage.output_tokens]}


def _messages() -> Any:
    create: Any = litellm.anthropic_messages
    found = asyncio.run(
        create(
            model=f"anthropic/{CHAT}",
            max_tokens=500,
            messages=ask(),
            api_key=_key,
            api_base=_url,
        )
    )
    return {"text": found["content"][0]["text"], "finish": found["stop_reason"]}


def _text_completion() -> Any:
    def create(**changes: Any) -> Any:
        return litellm.text_completion(
            model=f"text-completion-openai/{CHAT}",
            prompt=QUESTION,
            max_tokens=500,
            api_key=_key,
            api_base=f"{_url}/v1",
            **changes,
        )

    streamed = "".join(chunk.choices[0].text or "" for chunk in create(stream=True))
    return {"text": create().choices[0].text, "streamed": streamed}


def _stream_error() -> Any:
    texts: list[str] = []

    def read() -> None:
        for chunk in _create(MODELS["stream_error"], stream=True):
            texts.append(chunk.choices[0].delta.content or "")

    return {**failed(read), "text": "".join(texts)}


run(
    {
        "chat": _chat,
        "stream": _stream,
        "stream_usage": _stream_usage,
        "tools": _tools,
        "tools_stream": _tools_stream,
        "structured": _structured,
        "image": lambda: {
            "text": _create(MODELS["image"], messages=[IMAGE_MESSAGE]).choices[0].message.content
        },
        "reasoning": _reasoning,
        "choices": lambda: {"texts": [choice.message.content for choice in _create(n=2).choices]},
        "logprobs": _logprobs,
        "embeddings": _embeddings,
        "responses": _responses,
        "responses_stream": _responses_stream,
        "messages": _messages,
        "text_completion": _text_completion,
        "invalid_request": lambda: failed(lambda: _create(MODELS["invalid_request"])),
        "rate_limit": lambda: failed(lambda: _create(MODELS["rate_limit"])),
        "stream_error": _stream_error,
        "authentication": lambda: failed(lambda: _create(api_key="wrong")),
    }
)
