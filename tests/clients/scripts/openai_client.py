"""The official `openai` client for Python."""

import json
from typing import Any

import openai

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

_url, _key = arguments()
_client: Any = openai.OpenAI(base_url=f"{_url}/v1", api_key=_key, max_retries=0, timeout=30)
_create = _client.chat.completions.create


def _counts(usage: Any) -> list[int]:
    return [usage.prompt_tokens, usage.completion_tokens]


def _chat() -> Any:
    found = _create(model=CHAT, messages=ask())
    choice = found.choices[0]
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "usage": _counts(found.usage),
    }


def _stream() -> Any:
    texts, finish = [], None
    for chunk in _create(model=CHAT, messages=ask(), stream=True):
        texts.append(chunk.choices[0].delta.content or "")
        finish = chunk.choices[0].finish_reason or finish
    return {"text": "".join(texts), "finish": finish, "chunks": len(texts)}


def _stream_usage() -> Any:
    options = {"include_usage": True}
    chunks = list(_create(model=CHAT, messages=ask(), stream=True, stream_options=options))
    return {"usage": _counts(chunks[-1].usage)}


def _calls(message: Any) -> list[Any]:
    return [
        [call.id, call.function.name, json.loads(call.function.arguments)]
        for call in message.tool_calls
    ]


def _tools() -> Any:
    choice = _create(model=CHAT, messages=ask(), tools=FUNCTIONS).choices[0]
    return {"calls": _calls(choice.message), "finish": choice.finish_reason}


def _tools_stream() -> Any:
    # The client's own assembly of a streamed message.
    with _client.chat.completions.stream(
        model=CHAT, messages=ask(), tools=FUNCTIONS, parallel_tool_calls=True
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    return {"calls": _calls(choice.message), "finish": choice.finish_reason}


def _structured() -> Any:
    found = _create(model=CHAT, messages=ask(), response_format=JSON_SCHEMA)
    return {"value": json.loads(found.choices[0].message.content)}


def _image() -> Any:
    found = _create(model=MODELS["image"], messages=[IMAGE_MESSAGE])
    return {"text": found.choices[0].message.content}


def _reasoning() -> Any:
    text = reasoning = ""
    for chunk in _create(model=MODELS["reasoning"], messages=ask(), stream=True):
        text += chunk.choices[0].delta.content or ""
        reasoning += (chunk.choices[0].delta.model_extra or {}).get("reasoning_content") or ""
    return {"text": text, "reasoning": reasoning}


def _choices() -> Any:
    found = _create(model=CHAT, messages=ask(), n=2)
    return {"texts": [choice.message.content for choice in found.choices]}


def _logprobs() -> Any:
    found = _create(model=MODELS["logprobs"], messages=ask(), logprobs=True, top_logprobs=1)
    return {"tokens": [[one.token, one.logprob] for one in found.choices[0].logprobs.content]}


def _embeddings() -> Any:
    # The client asks for base64 unless the program asks for numbers.
    found = _client.embeddings.create(model=CHAT, input=TEXTS, dimensions=8)
    return {"vectors": [one.embedding for one in found.data]}


def _responses() -> Any:
    found = _client.responses.create(model=CHAT, input=QUESTION)
    usage = [found.usage.input_tokens, found.usage.output_tokens]
    return {"text": found.output_text, "usage": usage}


def _responses_stream() -> Any:
    with _client.responses.stream(model=CHAT, input=QUESTION) as stream:
        text = "".join(
            event.delta for event in stream if event.type == "response.output_text.delta"
        )
        usage = stream.get_final_response().usage
    return {"text": text, "usage": [usage.input_tokens, usage.output_tokens]}


def _text_completion() -> Any:
    found = _client.completions.create(model=CHAT, prompt=QUESTION, max_tokens=500)
    texts = [
        chunk.choices[0].text
        for chunk in _client.completions.create(
            model=CHAT, prompt=QUESTION, max_tokens=500, stream=True
        )
    ]
    return {"text": found.choices[0].text, "streamed": "".join(texts)}


def _models() -> Any:
    return {"models": [model.id for model in _client.models.list()]}


def _stream_error() -> Any:
    texts: list[str] = []

    def read() -> None:
        for chunk in _create(model=MODELS["stream_error"], messages=ask(), stream=True):
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
        "image": _image,
        "reasoning": _reasoning,
        "choices": _choices,
        "logprobs": _logprobs,
        "embeddings": _embeddings,
        "responses": _responses,
        "responses_stream": _responses_stream,
        "text_completion": _text_completion,
        "models": _models,
        "invalid_request": lambda: failed(
            lambda: _create(model=MODELS["invalid_request"], messages=ask())
        ),
        "rate_limit": lambda: failed(lambda: _create(model=MODELS["rate_limit"], messages=ask())),
        "stream_error": _stream_error,
        "authentication": lambda: failed(
            lambda: _client.with_options(api_key="wrong").chat.completions.create(
                model=CHAT, messages=ask()
            )
        ),
    }
)
