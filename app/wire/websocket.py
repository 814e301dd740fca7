"""The JSON messages of `WS /ws/chat`.

To the service:  {"type": "message", "content", "model"?}, {"type": "cancel"}, {"type": "ping"}
From the service: {"type": "delta", "content"}, then one of
    {"type": "done", "model", "finish_reason", "usage", "cost", "seconds", "trace_id"} and
    {"type": "error", "error": {...}, "trace_id"}; and {"type": "pong"}
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


class Question(StrictModel):
    """A message of the user; without a model, it goes to the default model."""

    type: Literal["message"]
    content: str
    model: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _check_length(self, info: ValidationInfo) -> Self:
        maximum, count = (info.context or {}).get("max_message_chars"), len(self.content)
        if maximum is not None and count > maximum:
            raise PydanticCustomError(
                "message_chars_exceeded",
                "the content has {count} characters, the maximum is {maximum}",
                {"count": count, "maximum": maximum, "limit": "message_chars"},
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


def render_done(summary: Summary) -> str:
    """Render the end of a response, with its figures."""
    return to_json(
        {
            "type": "done",
            "model": summary.model,
            "finish_reason": summary.finish_reason,
            "usage": usage_object(summary.usage),
            "cost": summary.cost,
            "seconds": round(summary.seconds, 3),
            "trace_id": summary.trace_id,
        }
    ).decode()


def render_error(error: ServiceError, trace_id: str) -> str:
    """Render an error; `trace_id` is also at the top level, as in `done`."""
    message = {"type": "error", **error_object(error, trace_id), "trace_id": trace_id}
    return to_json(message).decode()
