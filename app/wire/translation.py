"""Responses in the formats besides chat completions, as bytes."""

import time
from typing import Any, Final

from app.domain.errors import ServiceError
from app.domain.provider import Chunk
from app.domain.turn import Summary
from app.json_text import joined_surrogates, render
from app.response_id import new_response_id
from app.wire.completion import usage_object, whole_object
from app.wire.formats import Exchange, Format

_CHUNK: Final = "chat.completion.chunk"


class Translation:
    """One response: that of the provider, or one that is made of its text, translated."""

    def __init__(self, model: str, format_: Format, exchange: Exchange) -> None:
        """`model`, and an ID and a time, are used for a text only."""
        self._format = format_
        self._exchange = exchange
        self._stream = exchange.stream()
        self._shared = {
            "id": new_response_id("chatcmpl-"),
            "created": int(time.time()),
            "model": model,
        }
        self._passes_on = False  # the provider's own chunks
        self._has_usage = False  # in the provider's own chunks

    def whole(self, text: str, summary: Summary) -> bytes:
        """Return the response without streaming."""
        body = summary.body or whole_object(self._shared, text, summary)
        if not body.get("usage"):
            body = {**body, "usage": usage_object(summary.usage)}
        return render(self._exchange.whole(body))

    def delta(self, chunk: Chunk) -> bytes:
        """Return the events of a chunk, if any."""
        if chunk.data is None:
            return self._stream.chunk(self._chunk({"content": joined_surrogates(chunk.text)}, None))
        self._passes_on = True
        self._has_usage |= bool(chunk.data.get("usage"))
        return self._stream.chunk(chunk.data)

    def last(self, summary: Summary) -> bytes:
        """Return the end, with the usage."""
        end = b""
        if not self._passes_on:
            end = self._stream.chunk(self._chunk({}, summary.finish_reason))
        return end + self._stream.end(None if self._has_usage else usage_object(summary.usage))

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """Return the error that ends a stream."""
        self._rename(error)
        return self._stream.error(error, trace_id)

    def error_body(self, error: ServiceError, trace_id: str) -> dict[str, Any]:
        """Return the body of an error response."""
        self._rename(error)
        return self._format.error(error, trace_id)

    def _rename(self, error: ServiceError) -> None:
        """Give the parameter that a provider refused its name in the client's format."""
        if error.param:
            error.param = self._exchange.own_parameter(error.param)

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"object": _CHUNK, **self._shared, "choices": [choice]}
