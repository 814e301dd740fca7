"""curl: JSON, and server-sent events as text."""

import json
import subprocess
from typing import Any

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
    run,
)

_url, _key = arguments()
_CHAT = "/v1/chat/completions"


def _curl(path: str, body: Any = None, key: str = _key) -> tuple[int, str]:
    """Return status and body."""
    data = [] if body is None else ["-H", "content-type: application/json", "-d", json.dumps(body)]
    bearer = ["-H", f"authorization: Bearer {key}"]
    command = ["curl", "-sS", "--no-buffer", "-m", "30", "-w", "\n%{http_code}"]
    done = subprocess.run(
        [*command, *bearer, *data, f"{_url}{path}"], capture_output=True, text=True, check=True
    )
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def _json(path: str, body: Any = None) -> Any:
    return json.loads(_curl(path, body)[1])


def _create(**changes: Any) -> Any:
    return _json(_CHAT, {"model": CHAT, "messages": ask(), **changes})


def _events(path: str, body: Any) -> list[Any]:
    """Return the data of all events but the mark of the end."""
    lines = _curl(path, {**body, "stream": True})[1].splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


def _chunks(**changes: Any) -> list[Any]:
    return _events(_CHAT, {"model": CHAT, "messages": ask(), **changes})


def _counts(usage: Any) -> list[int]:
    return [usage["prompt_tokens"], usage["completion_tokens"]]


def _chat() -> Any:
    found = _create()
    choice = found["choices"][0]
    return {
        "text": choice["message"]["content"],
        "finish": choice["finish_reason"],
        "usage": _counts(found["usage"]),
    }


def _joined(chunks: list[Any], name: str = "content") -> str:
    return "".join(
        chunk["choices"][0]["delta"].get(name) or "" for chunk in chunks if chunk.get("choices")
    )


def _stream() -> Any:
    chunks = _chunks()
    finish = chunks[-1]["choices"][0]["finish_reason"]
    return {"text": _joined(chunks), "finish": finish, "chunks": len(chunks)}


def _tools() -> Any:
    choice = _create(tools=FUNCTIONS)["choices"][0]
    calls = [
        [call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])]
        for call in choice["message"]["tool_calls"]
    ]
    return {"calls": calls, "finish": choice["finish_reason"]}


def _tools_stream() -> Any:
    calls: dict[int, list[str]] = {}
    finish = None
    for chunk in _chunks(tools=FUNCTIONS, parallel_tool_calls=True):
        finish = chunk["choices"][0]["finish_reason"] or finish
        for call in chunk["choices"][0]["delta"].get("tool_calls") or ():
            function = call["function"]
            if call["index"] not in calls:
                calls[call["index"]] = [call["id"], function["name"], ""]
            calls[call["index"]][2] += function["arguments"]
    found = [[call_id, name, json.loads(text)] for call_id, name, text in calls.values()]
    return {"calls": found, "finish": finish}


def _structured() -> Any:
    found = _create(response_format=JSON_SCHEMA)
    return {"value": json.loads(found["choices"][0]["message"]["content"])}


def _image() -> Any:
    found = _create(model=MODELS["image"], messages=[IMAGE_MESSAGE])
    return {"text": found["choices"][0]["message"]["content"]}


def _reasoning() -> Any:
    chunks = _chunks(model=MODELS["reasoning"])
    return {"text": _joined(chunks), "reasoning": _joined(chunks, "reasoning_content")}


def _logprobs() -> Any:
    found = _create(model=MODELS["logprobs"], logprobs=True, top_logprobs=1)
    content = found["choices"][0]["logprobs"]["content"]
    return {"tokens": [[one["token"], one["logprob"]] for one in content]}


def _embeddings() -> Any:
    found = _json("/v1/embeddings", {"model": CHAT, "input": TEXTS, "dimensions": 8})
    return {"vectors": [one["embedding"] for one in found["data"]]}


def _responses() -> Any:
    found = _json("/v1/responses", {"model": CHAT, "input": QUESTION})
    text = "".join(
        part["text"]
        for item in found["output"]
        if item["type"] == "message"
        for part in item["content"]
    )
    return {
        "text": text,
        "usage": [found["usage"]["input_tokens"], found["usage"]["output_tokens"]],
    }


def _responses_stream() -> Any:
    events = _events("/v1/responses", {"model": CHAT, "input": QUESTION})
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    usage = events[-1]["response"]["usage"]
    return {
        "text": "".join(event["delta"] for event in deltas),
        "usage": [usage["input_tokens"], usage["output_tokens"]],
    }


def _messages() -> Any:
    body = {"model": CHAT, "max_tokens": 500, "messages": ask()}
    found = _json("/v1/messages", body)
    counted = _json("/v1/messages/count_tokens", {"model": CHAT, "messages": ask()})
    return {
        "text": found["content"][0]["text"],
        "finish": found["stop_reason"],
        "counted": counted["input_tokens"],
    }


def _text_completion() -> Any:
    body = {"model": CHAT, "prompt": QUESTION, "max_tokens": 500}
    events = _events("/v1/completions", body)
    texts = [event["choices"][0]["text"] for event in events if event["choices"]]
    whole = _json("/v1/completions", body)["choices"][0]["text"]
    return {"text": whole, "streamed": "".join(texts)}


def _failed(model: str, key: str = _key) -> Any:
    status, text = _curl(_CHAT, {"model": model, "messages": ask()}, key)
    error = json.loads(text)["error"]
    return {
        "error": error["type"],
        "status": status,
        "code": error["code"],
        "message": error["message"],
    }


def _stream_error() -> Any:
    chunks = _chunks(model=MODELS["stream_error"])
    error = chunks[-1]["error"]
    return {
        "error": error["type"],
        "status": None,
        "code": error["code"],
        "message": error["message"],
        "text": _joined(chunks[:-1]),
    }


run(
    {
        "chat": _chat,
        "stream": _stream,
        "stream_usage": lambda: {
            "usage": _counts(_chunks(stream_options={"include_usage": True})[-1]["usage"])
        },
        "tools": _tools,
        "tools_stream": _tools_stream,
        "structured": _structured,
        "image": _image,
        "reasoning": _reasoning,
        "choices": lambda: {
            "texts": [choice["message"]["content"] for choice in _create(n=2)["choices"]]
        },
        "logprobs": _logprobs,
        "embeddings": _embeddings,
        "responses": _responses,
        "responses_stream": _responses_stream,
        "messages": _messages,
        "text_completion": _text_completion,
        "models": lambda: {"models": [model["id"] for model in _json("/v1/models")["data"]]},
        "invalid_request": lambda: _failed(MODELS["invalid_request"]),
        "rate_limit": lambda: _failed(MODELS["rate_limit"]),
        "stream_error": _stream_error,
        "authentication": lambda: _failed(CHAT, "wrong"),
    }
)
