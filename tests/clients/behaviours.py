"""Models of an endpoint for features that the simulated model lacks: reasoning, images, errors."""

import json
from collections.abc import Mapping
from typing import Any, Final

from tests.clients.endpoint import EVENTS, JSON, Respond, Response

REASONING: Final = "First I read the question."
ANSWER: Final = "It is noon."
TOKENS: Final = (("It", -0.25), (" is", -0.5))
PARTIAL: Final = "It is"
TOO_LONG: Final = "This model's maximum context length is 8192 tokens."
LIMITED: Final = "You sent too many requests."
_USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def _error(status: int, code: str, message: str, **headers: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Response(status, JSON, (json.dumps({"error": error}),), headers)


def _whole(model: str, message: dict[str, Any], **choice: Any) -> Response:
    first = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": "stop",
        **choice,
    }
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [first],
        "usage": _USAGE,
    }
    return Response(200, JSON, (json.dumps(body),))


def _stream(*events: str) -> Response:
    return Response(200, EVENTS, events)


def _event(delta: dict[str, Any], finish: str | None = None) -> str:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(body)}\n\n"


def _vision(body: dict[str, Any]) -> Response:
    """Respond with the URL of the image that arrived."""
    parts = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return _whole("vision", {"content": urls[0]})


def _logprobs(_: dict[str, Any]) -> Response:
    content: list[dict[str, Any]] = [
        {"token": token, "logprob": value, "bytes": None, "top_logprobs": []}
        for token, value in TOKENS
    ]
    text = "".join(token for token, _ in TOKENS)
    return _whole("logprobs", {"content": text}, logprobs={"content": content, "refusal": None})


def _reasoner(body: dict[str, Any]) -> Response:
    if not body.get("stream"):
        return _whole("reasoner", {"content": ANSWER, "reasoning_content": REASONING})
    half = len(REASONING) // 2
    return _stream(
        _event({"role": "assistant", "reasoning_content": REASONING[:half]}),
        _event({"reasoning_content": REASONING[half:]}),
        _event({"content": ANSWER}),
        _event({}, "stop"),
        "data: [DONE]\n\n",
    )


def _broken(_: dict[str, Any]) -> Response:
    error = {"error": {"message": "The model crashed.", "code": "model_crashed"}}
    return _stream(
        _event({"role": "assistant", "content": PARTIAL}), f"data: {json.dumps(error)}\n\n"
    )


_MODELS: Final[Mapping[str, Respond]] = {
    "too-long": lambda _: _error(400, "context_length_exceeded", TOO_LONG),
    "limited": lambda _: _error(429, "rate_limit_exceeded", LIMITED, **{"retry-after": "7"}),
    "broken": _broken,
    "vision": _vision,
    "logprobs": _logprobs,
    "reasoner": _reasoner,
}


def respond(body: dict[str, Any]) -> Response:
    """Respond as the model of the request does."""
    return _MODELS[body["model"]](body)
