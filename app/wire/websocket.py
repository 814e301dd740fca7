"""The JSON messages of `WS /ws/chat`.

To the service:  {"type": "message", "content", ...}, {"type": "cancel"}, {"type": "ping"}
From the service: {"type": "accepted", "model", "conversation_id", "trace_id"} if requested,
    {"type": "delta", "content"}, then one of
    {"type": "done", "model", "finish_reason", "usage", "cost", "first_token_seconds", "seconds",
    "conversation_id", "trace_id"} and {"type": "error", "error": {...}, "trace_id"};
    and {"type": "pong"}
"""

from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError, to_json

from app.domain.errors import InvalidRequest, ServiceError
from app.domain.turn import Summary
from app.wire.completion import usage_object
from app.wire.errors import error_object
from app.wire.parsing import StrictModel, parse_json

PONG: Final = to_json({"type": "pong"}).decode()
_TYPES: Final = ("message", "cancel", "ping")


class PastTurn(StrictModel):
    """A question with its response."""

    question: str
    response: str


class Question(StrictModel):
    """A message of the user; without a model, it goes to the default model.

    `history` replaces the memory of the connection, which forgets its oldest turns as usual.
    `acknowledge` requests an `accepted` message.
    """

    type: Literal["message"]
    content: str
    model: str | None = Field(default=None, max_length=200)
    system: str | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    conversation_id: str | None = Field(default=None, min_length=1, max_length=256)
    history: list[PastTurn] | None = None
    acknowledge: bool | None = None

    @model_validator(mode="after")
    def _check_lengths(self, info: ValidationInfo) -> Self:
        maximum = (info.context or {}).get("max_message_chars")
        for name in ("content", "system"):
            count = len(getattr(self, name) or "")
            if maximum is not None and count > maximum:
                raise PydanticCustomError(
                    "message_chars_exceeded",
                    "the {field} has {count} characters, the maximum is {maximum}",
                    {"field": name, "count": count, "maximum": maximum, "limit": "message_chars"},
                )
        return self


def parse_message(text: str | None) -> dict[str, Any]:
    """Return a message with a known `type`. Raise InvalidRequest; None is a binary message."""
    if text is None:
        raise InvalidRequest("A message must be text, not binary.", code="binary_message")
    data = parse_json(text)
    if not isinstance(data, dict) or data.get("type") not in _TYPES:
        raise InvalidRequest(
            "Invalid 'type': must be 'message', 'cancel' or 'ping'.",
            code="unknown_type",
            param="type",
        )
    return data


def render_delta(text: str) -> str:
    """Render a chunk of the response."""
    return to_json({"type": "delta", "content": text}).decode()


def render_accepted(model: str, conversation_id: str, trace_id: str) -> str:
    """Render that the model is called now."""
    return to_json(
        {
            "type": "accepted",
            "model": model,
            "conversation_id": conversation_id,
            "trace_id": trace_id,
        }
    ).decode()


def render_done(summary: Summary, conversation_id: str) -> str:
    """Render the end of a response, with its figures."""
    first = summary.first_token_seconds
    return to_json(
        {
            "type": "done",
            "model": summary.model,
            "finish_reason": summary.finish_reason,
            "usage": usage_object(summary.usage),
            "cost": summary.cost,
            "first_token_seconds": None if first is None else round(first, 3),
            "seconds": round(summary.seconds, 3),
            "conversation_id": conversation_id,
            "trace_id": summary.trace_id,
        }
    ).decode()


def render_error(error: ServiceError, trace_id: str) -> str:
    """Render an error; `trace_id` is also at the top level, as in `done`."""
    message = {"type": "error", **error_object(error, trace_id), "trace_id": trace_id}
    return to_json(message).decode()
