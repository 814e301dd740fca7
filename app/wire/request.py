"""The body of `POST /v1/chat/completions`: OpenAI's format, validated and converted."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError, to_json

from app.domain.errors import shorten
from app.domain.request import ChatRequest, Content, Message, message_text
from app.wire.parameters import refuse_unknown, without_neutral

_MAX_STOPS: Final = 4
# Fields of a response that clients send back as history, and that mean nothing to a model.
_RESPONSE_ONLY: Final = frozenset({"annotations", "parsed"})
# Content parts by role, with the type of their payload, which is under the same name as the type.
_TEXT_PARTS: Final = {"text": str}
_PARTS: Final[Mapping[str, Mapping[str, type]]] = {
    "user": {**_TEXT_PARTS, "image_url": dict, "input_audio": dict, "file": dict},
    "assistant": {**_TEXT_PARTS, "refusal": str},
}
# A client may send the responses of other services as history.
_ASSISTANT_ONLY: Final = (
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning_content",
    "reasoning",
)


class StrictModel(BaseModel):
    """Accepts known fields with the exact type: no conversions, no extra fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, data: object) -> object:
        if isinstance(data, dict):
            refuse_unknown(data, cls.model_fields, named=cls is not CompletionRequest)
        return data


def _check_content(content: object, info: ValidationInfo) -> object:
    """Join the parts of a content if all of them are text; check the others."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise PydanticCustomError("content_type", "it must be a text or a list of parts")
    accepted = _PARTS.get(info.data.get("role", ""), _TEXT_PARTS)
    for part in content:
        _check_part(part, accepted)
    if all(part["type"] == "text" for part in content):
        return "".join(part["text"] for part in content)
    return content


def _check_part(part: object, accepted: Mapping[str, type]) -> None:
    match part:
        case {"type": str(kind)} if kind not in accepted:
            raise PydanticCustomError(
                "content_part",
                "content parts of type '{kind}' are not supported; accepted: {accepted}",
                {"kind": shorten(kind), "accepted": ", ".join(f"'{name}'" for name in accepted)},
            )
        case {"type": str(kind)} if isinstance(part, dict):
            if isinstance(part.get(kind), accepted[kind]):
                return
            raise PydanticCustomError(
                "content_part",
                "a content part of type '{kind}' must have {payload} in '{kind}'",
                {"kind": kind, "payload": "a text" if accepted[kind] is str else "an object"},
            )
    raise PydanticCustomError(
        "content_part", 'a content part must be {"type": "text", "text": "..."}'
    )


class _Message(StrictModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[Content, BeforeValidator(_check_content)] = None
    name: str | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_response_only(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        kept = {k: v for k, v in data.items() if k not in _RESPONSE_ONLY}
        kept = {k: v for k, v in kept.items() if v is not None or k in ("role", "content")}
        for name in ("tool_calls", "function_call", "audio"):
            if kept.get(name) == []:
                del kept[name]
        refused = ("audio",) if kept.get("role") == "assistant" else ("audio", *_ASSISTANT_ONLY)
        for name in refused:
            if name in kept:
                raise PydanticCustomError("unsupported", "it is not supported", {"name": name})
        return kept

    @model_validator(mode="after")
    def _require_content(self) -> Self:
        # An assistant's message may consist of a refusal or of tool calls.
        if self.content is None and self.role not in ("assistant", "function"):
            raise PydanticCustomError("missing", "it is required", {"name": "content"})
        return self

    @model_validator(mode="after")
    def _check_length(self, info: ValidationInfo) -> Self:
        check_message_length(self.characters, info)
        return self

    @property
    def characters(self) -> int:
        """Length of everything that a model reads, except media."""
        text = len(message_text(self.content, self.refusal))
        reasoning = len(self.reasoning_content or "") + len(self.reasoning or "")
        calls = [call for call in (self.tool_calls, self.function_call) if call]
        return text + reasoning + sum(len(to_json(call)) for call in calls)

    def to_domain(self) -> Message:
        fields = {name: getattr(self, name) for name in _Message.model_fields}
        return Message(**fields, omits_content="content" not in self.model_fields_set)


def _check_stop(value: object) -> object:
    # Before its items are validated: describing half a million invalid ones takes seconds.
    if isinstance(value, list) and len(value) > _MAX_STOPS:
        raise PydanticCustomError(
            "too_long", "it must have at most {maximum} items", {"maximum": _MAX_STOPS}
        )
    return [value] if isinstance(value, str) else value


def _check_count(messages: object, info: ValidationInfo) -> object:
    # `min_length` counts the valid ones only, and would report an empty list in addition.
    if messages == []:
        raise PydanticCustomError("too_short", "it must not be empty")
    if isinstance(messages, list):
        check_limit("request_messages", len(messages), "there are {count} messages", info)
    return messages


def _check_characters(messages: list[_Message], info: ValidationInfo) -> list[_Message]:
    count = sum(message.characters for message in messages)
    check_limit("request_chars", count, "all contents together have {count} characters", info)
    return messages


class _StreamOptions(StrictModel):
    include_usage: bool = False
    include_obfuscation: bool = False  # accepted and ignored: no obfuscation is ever sent


class CompletionRequest(StrictModel):
    """A valid request. `null` is treated as if the parameter were omitted."""

    model: str = Field(default="", max_length=200)  # "": the default model
    messages: Annotated[
        list[_Message], BeforeValidator(_check_count), AfterValidator(_check_characters)
    ]
    stream: bool = False
    stream_options: _StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_check_stop)] = []
    user: str | None = Field(default=None, max_length=512)

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, data: object) -> object:
        return without_neutral(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options and not self.stream:
            raise PydanticCustomError(
                "stream_options", "'stream_options' is only accepted together with 'stream': true"
            )
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def to_domain(self, model: str) -> ChatRequest:
        """Return the request to a model, independent of the format."""
        fields = set(CompletionRequest.model_fields) - {"model", "messages", "stream_options"}
        return ChatRequest(
            model=model,
            messages=[message.to_domain() for message in self.messages],
            **{name: getattr(self, name) for name in fields},
        )


def check_message_length(characters: int, info: ValidationInfo) -> None:
    """Raise for a message that is longer than the context's `max_message_chars`."""
    check_limit("message_chars", characters, "the content has {count} characters", info)


def check_limit(name: str, count: int, text: str, info: ValidationInfo) -> None:
    """Raise if `count` exceeds `max_<name>` in the context; `text` describes the count."""
    maximum = (info.context or {}).get(f"max_{name}")
    if maximum is not None and count > maximum:
        raise PydanticCustomError(
            f"{name}_exceeded",
            text + ", the maximum is {maximum}",
            {"count": count, "maximum": maximum, "limit": name},
        )
