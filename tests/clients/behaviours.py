"""Models of an endpoint for what the simulated model does not do: reasoning, images, errors."""

import json
from typing import Any, Final

from tests.clients.endpoint import EVENTS, JSON, Response

REASONING: Final = "First I read the question."
ANSWER: Final = "It is noon."
TOKENS: Final = [["It", -0.25], [" is", -0.5]]
PARTIAL: Final = "It is"
_USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def _error(status: int, code: str, **headers: str) -> Response:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    error = {"message": f"described as {code}", "type": kind, "param": "messages", "code": code}
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


def _event(model: str, delta: dict[str, Any], finish: str | None = None) -> str:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(body)}\n\n"


def respond(body: dict[str, Any]) -> Response:
    """Respond as the model of the request does."""
    model = body["model"]
    match model:
        case "too-long":
            return _error(400, "context_length_exceeded")
        case "limited":
            return _error(429, "rate_limit_exceeded", **{"retry-after": "7"})
        case "broken":
            error = {"error": {"message": "The model crashed.", "code": "model_crashed"}}
            return Response(
                200,
                EVENTS,
                (
                    _event(model, {"role": "assistant", "content": PARTIAL}),
                    f"data: {json.dumps(error)}\n\n",
                ),
            )
        case "vision":
            return _whole(model, {"content": _image(body)})
        case "logprobs":
            content = [
                {"token": token, "logprob": value, "bytes": None, "top_logprobs": []}
                for token, value in TOKENS
            ]
            text = "".join(str(token) for token, _ in TOKENS)
            return _whole(model, {"content": text}, logprobs={"content": content, "refusal": None})
        case "reasoner" if not body.get("stream"):
            return _whole(model, {"content": ANSWER, "reasoning_content": REASONING})
        case "reasoner":
            half = len(REASONING) // 2
            return Response(
                200,
                EVENTS,
                (
                    _event(model, {"role": "assistant", "reasoning_content": REASONING[:half]}),
                    _event(model, {"reasoning_content": REASONING[half:]}),
                    _event(model, {"content": ANSWER}),
                    _event(model, {}, "stop"),
                    "data: [DONE]\n\n",
                ),
            )
    raise AssertionError(f"no model {model!r}")


def _image(body: dict[str, Any]) -> str:
    """Return the URL of the image that arrived."""
    parts = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return str(urls[0]) if urls else json.dumps(parts)
