"""The objects of the OpenAI wire format, as bytes."""

import time
import uuid
from typing import Any

from pydantic_core import to_json

from app.domain.turn import Ending
from chatscope.genai.request import Usage

DONE = b"data: [DONE]\n\n"


class Completion:
    """One answer on the wire: all its objects share id, time and model."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._shared = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage = include_usage

    def whole(self, text: str, ending: Ending) -> bytes:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": ending.finish_reason,
        }
        return to_json(
            {
                "object": "chat.completion",
                **self._shared,
                "choices": [choice],
                "usage": usage_object(ending.usage),
            }
        )

    def first(self) -> bytes:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def delta(self, text: str) -> bytes:
        """A piece of the answer."""
        return self._chunk({"content": text}, None)

    def last(self, ending: Ending) -> bytes:
        """Why it ended, the usage for those who asked for it, and the end mark."""
        end = self._chunk({}, ending.finish_reason)
        if self._include_usage:
            end += self._event({"choices": [], "usage": usage_object(ending.usage)})
        return end + DONE

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return self._event({"choices": [choice], **usage})

    def _event(self, rest: dict[str, Any]) -> bytes:
        return event({"object": "chat.completion.chunk", **self._shared, **rest})


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(data) + b"\n\n"


def usage_object(usage: Usage | None) -> dict[str, int] | None:
    """Tokens as OpenAI tells them; None where nobody counted."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
