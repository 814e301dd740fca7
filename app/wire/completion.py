"""Responses of `POST /v1/chat/completions` in OpenAI's format, as bytes."""

import time
import uuid
from typing import Any, Final

from pydantic_core import to_json

from app.domain.errors import ServiceError
from app.domain.turn import Summary
from app.wire.errors import error_object
from chatscope.genai import Usage

DONE: Final = b"data: [DONE]\n\n"


class Completion:
    """One response; all its JSON objects have the same ID, time and model."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._shared = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage = include_usage
        # All chunks of text are equal but for the text: only that is rendered for each.
        # (Inside of a JSON string a quotation mark is escaped, so this text is not in the model.)
        self._before, self._after = self._chunk({"content": ""}, None).split(b'"content":""')

    def whole(self, text: str, summary: Summary) -> bytes:
        """Render the response without streaming."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": summary.finish_reason,
        }
        return to_json(
            {
                "object": "chat.completion",
                **self._shared,
                "choices": [choice],
                "usage": usage_object(summary.usage),
            }
        )

    def first(self) -> bytes:
        """Render the first chunk of a stream, which has the role only."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def delta(self, text: str) -> bytes:
        """Render a chunk of text."""
        return b'%b"content":%b%b' % (self._before, to_json(text), self._after)

    def last(self, summary: Summary) -> bytes:
        """Render the finish reason, the usage if the client requested it, and the end marker."""
        end = self._chunk({}, summary.finish_reason)
        if self._include_usage:
            end += self._event({"choices": [], "usage": usage_object(summary.usage)})
        return end + DONE

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return self._event({"choices": [choice], **usage})

    def _event(self, rest: dict[str, Any]) -> bytes:
        return _event({"object": "chat.completion.chunk", **self._shared, **rest})


def error_event(error: ServiceError, trace_id: str) -> bytes:
    """Render the error that ends a stream."""
    return _event(error_object(error, trace_id))


def usage_object(usage: Usage | None) -> dict[str, int] | None:
    """Return OpenAI's usage object; None if the usage is unknown."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + to_json(data) + b"\n\n"
