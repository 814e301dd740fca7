"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings`."""

import warnings
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from tests.clients.scripts.observing import (
    CHAT,
    FUNCTIONS,
    IMAGE_MESSAGE,
    MODELS,
    QUESTION,
    SCHEMA,
    TEXTS,
    arguments,
    failed,
    run,
)

warnings.simplefilter("ignore")
_url, _key = arguments()


def _model(model: str = CHAT, **changes: Any) -> Any:
    given = {"api_key": _key, "base_url": f"{_url}/v1", "max_retries": 0, "timeout": 30, **changes}
    return ChatOpenAI(model=model, **given)


def _counts(message: Any) -> list[int]:
    return [message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]]


def _chat() -> Any:
    message = _model().invoke(QUESTION)
    finish = message.response_metadata["finish_reason"]
    return {"text": message.content, "finish": finish, "usage": _counts(message)}


def _sum(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def _stream() -> Any:
    chunks = list(_model(stream_usage=False).stream(QUESTION))
    whole = _sum(chunks)
    finish = whole.response_metadata["finish_reason"]
    return {"text": whole.content, "finish": finish, "chunks": len(chunks)}


def _stream_usage() -> Any:
    return {"usage": _counts(_sum(list(_model(stream_usage=True).stream(QUESTION))))}


def _calls(message: Any) -> Any:
    return {
        "calls": [[call["id"], call["name"], call["args"]] for call in message.tool_calls],
        "finish": message.response_metadata["finish_reason"],
    }


def _tools() -> Any:
    return _calls(_model().bind_tools(FUNCTIONS).invoke(QUESTION))


def _tools_stream() -> Any:
    model = _model().bind_tools(FUNCTIONS, parallel_tool_calls=True)
    return _calls(_sum(list(model.stream(QUESTION))))


def _structured() -> Any:
    schema = {"title": "weather", "description": "The weather", **SCHEMA}
    model = _model().with_structured_output(schema, method="json_schema", strict=True)
    return {"value": model.invoke(QUESTION)}


def _image() -> Any:
    content: Any = IMAGE_MESSAGE["content"]
    return {"text": _model(MODELS["image"]).invoke([HumanMessage(content=content)]).content}


def _reasoning() -> Any:
    """Over Responses: this client ignores the field of chat completions."""
    model = _model(MODELS["reasoning"], output_version="v1", reasoning={"summary": "auto"})
    message = _sum(list(model.stream(QUESTION)))
    blocks = message.content_blocks
    return {
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
        "reasoning": "".join(
            block.get("reasoning") or "" for block in blocks if block["type"] == "reasoning"
        ),
    }


def _choices() -> Any:
    generations = _model(n=2).generate([[HumanMessage(content=QUESTION)]]).generations[0]
    return {"texts": [generation.text for generation in generations]}


def _logprobs() -> Any:
    message = _model(MODELS["logprobs"], logprobs=True, top_logprobs=1).invoke(QUESTION)
    content = message.response_metadata["logprobs"]["content"]
    return {"tokens": [[one["token"], one["logprob"]] for one in content]}


def _embeddings() -> Any:
    given: dict[str, Any] = {"api_key": _key, "base_url": f"{_url}/v1", "dimensions": 8}
    # Otherwise it loads a tokenizer from the network.
    embeddings = OpenAIEmbeddings(model=CHAT, check_embedding_ctx_length=False, **given)
    return {"vectors": embeddings.embed_documents(TEXTS)}


def _text(message: Any) -> str:
    return "".join(block["text"] for block in message.content_blocks if block["type"] == "text")


def _responses() -> Any:
    message = _model(use_responses_api=True).invoke(QUESTION)
    return {"text": _text(message), "usage": _counts(message)}


def _responses_stream() -> Any:
    message = _sum(list(_model(use_responses_api=True).stream(QUESTION)))
    return {"text": _text(message), "usage": _counts(message)}


def _text_completion() -> Any:
    given: dict[str, Any] = {"api_key": _key, "base_url": f"{_url}/v1", "max_tokens": 500}
    model = OpenAI(model=CHAT, max_retries=0, **given)
    return {"text": model.invoke(QUESTION), "streamed": "".join(model.stream(QUESTION))}


def _stream_error() -> Any:
    texts: list[str] = []

    def read() -> None:
        for chunk in _model(MODELS["stream_error"]).stream(QUESTION):
            texts.append(str(chunk.content))

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
        "invalid_request": lambda: failed(
            lambda: _model(MODELS["invalid_request"]).invoke(QUESTION)
        ),
        "rate_limit": lambda: failed(lambda: _model(MODELS["rate_limit"]).invoke(QUESTION)),
        "stream_error": _stream_error,
        "authentication": lambda: failed(lambda: _model(api_key="wrong").invoke(QUESTION)),
    }
)
