"""Responses of `POST /v1/chat/completions` in OpenAI's format, as bytes."""

import time
from collections.abc import Mapping
from typing import Any, Final

from app.domain.errors import ServiceError
from app.domain.provider import Chunk
from app.domain.turn import Summary
from app.json_text import render
from app.response_id import new_response_id
from app.wire.errors import error_object
from chatscope.genai import Usage

DONE: Final = b"data: [DONE]\n\n"


class Completion:
    """One response: that of the provider, or one that is made of its text."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        """`model`, and an ID and a time, are used for a text only."""
        self._shared = {
            "id": new_response_id("chatcmpl-"),
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage = include_usage
        # All chunks of text are equal but for the text: only that is rendered for each.
        self._around_text: tuple[bytes, bytes] | None = None
        self._passes_on = False  # the provider's own chunks
        self._usage_sent = False

    def whole(self, text: str, summary: Summary) -> bytes:
        """Return the response without streaming."""
        if summary.raw is not None:
            return summary.raw
        if summary.body is not None:
            return render(summary.body)
        return render(whole_object(self._shared, text, summary))

    def delta(self, chunk: Chunk) -> bytes:
        """Return the events of a chunk; none for a usage that the client did not request."""
        if chunk.data is None:
            return self._text(chunk.text)
        self._passes_on = True
        if chunk.usage is not None and chunk.data.get("usage"):
            return self._with_usage(chunk.data)
        return _event(render(chunk.data) if chunk.raw is None else chunk.raw)

    def last(self, summary: Summary) -> bytes:
        """Return the end: the finish reason and the usage if they were not sent, and the mark."""
        end = b""
        if not self._passes_on:
            end = b"" if self._around_text else self._first()
            end += self._chunk({}, summary.finish_reason)
        if self._include_usage and not self._usage_sent:
            end += self._render({"choices": [], "usage": usage_object(summary.usage)})
        return end + DONE

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """Return the error that ends a stream."""
        return _event(render(error_object(error, trace_id)))

    def error_body(self, error: ServiceError, trace_id: str) -> dict[str, Any]:
        """Return the body of an error response."""
        return error_object(error, trace_id)

    def _text(self, text: str) -> bytes:
        first = b""
        if self._around_text is None:
            first = self._first()
            # Inside of a JSON string a quotation mark is escaped: this text is not in the model.
            before, after = self._chunk({"content": ""}, None).split(b'"content":""')
            self._around_text = before, after
        before, after = self._around_text
        return b'%b%b"content":%b%b' % (first, before, render(text), after)

    def _first(self) -> bytes:
        """Return the first chunk of a text, which has the role only."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def _with_usage(self, data: dict[str, Any]) -> bytes:
        if self._include_usage:
            self._usage_sent = True
            return _event(render(data))
        if not data["choices"]:
            return b""
        return _event(render({name: value for name, value in data.items() if name != "usage"}))

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return self._render({"choices": [choice], **usage})

    def _render(self, rest: dict[str, Any]) -> bytes:
        return _event(render({"object": "chat.completion.chunk", **self._shared, **rest}))


def whole_object(shared: Mapping[str, Any], text: str, summary: Summary) -> dict[str, Any]:
    """Return OpenAI's object of a text; `shared` has the ID, time and model."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": summary.finish_reason,
    }
    usage = usage_object(summary.usage)
    return {"object": "chat.completion", **shared, "choices": [choice], "usage": usage}


def usage_object(usage: Usage | None) -> dict[str, int] | None:
    """Return OpenAI's usage object; None if the usage is unknown."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data
