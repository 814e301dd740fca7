"""A chat request in the OpenAI wire format: what we honour, and a clear no to the rest."""

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
from app.wire.parameters import refuse_unknown, without_meaningless

_MOST_STOPS = 4
_TOO_LONG = "the content has {count} characters"
# Parts of an answer that history may repeat, but that say nothing to a model.
_ANSWER_LEFTOVERS = frozenset({"annotations", "parsed"})
# Content parts by role, each with its payload: under its own name in the part.
_TEXT_PARTS: Final = {"text": str}
_PARTS: Final[Mapping[str, Mapping[str, type]]] = {
    "user": {**_TEXT_PARTS, "image_url": dict, "input_audio": dict, "file": dict},
    "assistant": {**_TEXT_PARTS, "refusal": str},
}
# Part types that not every provider accepts.
MEDIA: Final = frozenset({"image_url", "input_audio", "file"})
# A client may send the answers of other services as history.
_ONLY_OF_ASSISTANTS: Final = (
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning_content",
    "reasoning",
)

Content = str | list[dict[str, Any]] | None


def _content(content: object, info: ValidationInfo) -> object:
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
                "content parts of type '{kind}' are not supported; accepted is {accepted}",
                {"kind": shorten(kind), "accepted": " or ".join(f"'{name}'" for name in accepted)},
            )
        case {"type": str(kind)} if isinstance(part, dict):
            if isinstance(part.get(kind), accepted[kind]):
                return
            raise PydanticCustomError(
                "content_part",
                "a content part of type '{kind}' must have {payload} under '{kind}'",
                {"kind": kind, "payload": "a text" if accepted[kind] is str else "an object"},
            )
    raise PydanticCustomError(
        "content_part", 'a content part must be {"type": "text", "text": "..."}'
    )


def _few_texts(value: object) -> object:
    # Before each is looked at: a list of half a million wrong ones takes seconds to describe.
    if isinstance(value, list) and len(value) > _MOST_STOPS:
        raise PydanticCustomError(
            "too_long", "it must have at most {most} items", {"most": _MOST_STOPS}
        )
    return [value] if isinstance(value, str) else value


def _few_messages(messages: object, info: ValidationInfo) -> object:
    # `min_length` counts only the valid ones, and would complain of emptiness besides.
    if messages == []:
        raise PydanticCustomError("too_short", "it must not be empty")
    if isinstance(messages, list):
        check_limit("request_messages", len(messages), "there are {count} messages", info)
    return messages


def _few_characters(messages: list["Message"], info: ValidationInfo) -> list["Message"]:
    count = sum(message.characters for message in messages)
    check_limit("request_chars", count, "all contents together have {count} characters", info)
    return messages


StopText = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    """Takes what it knows, as it is: no conversions, no extras."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _nothing_unknown(cls, data: object) -> object:
        if isinstance(data, dict):
            refuse_unknown(data, cls.model_fields, named=cls is not ChatRequest)
        return data


class Message(_Strict):
    """One message; a content of text parts only is one text."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[Content, BeforeValidator(_content)] = None
    name: str | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_leftovers(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        kept = {k: v for k, v in data.items() if k not in _ANSWER_LEFTOVERS}
        kept = {k: v for k, v in kept.items() if v is not None or k in ("role", "content")}
        for name in ("tool_calls", "function_call", "audio"):
            if kept.get(name) == []:
                del kept[name]
        refused = ("audio",) if kept.get("role") == "assistant" else ("audio", *_ONLY_OF_ASSISTANTS)
        for name in refused:
            if name in kept:
                raise PydanticCustomError("unsupported", "it is not supported here", {"name": name})
        return kept

    @model_validator(mode="after")
    def _content_is_there(self) -> Self:
        # An assistant's message may consist of a refusal or of tool calls.
        if self.content is None and self.role not in ("assistant", "function"):
            raise PydanticCustomError("missing", "it is required", {"name": "content"})
        return self

    @model_validator(mode="after")
    def _not_too_long(self, info: ValidationInfo) -> Self:
        check_limit("message_chars", self.characters, _TOO_LONG, info)
        return self

    @property
    def text(self) -> str:
        """The words of the message: those of its content, then its refusal."""
        if isinstance(self.content, list):
            words = [part.get("text") or part.get("refusal") or "" for part in self.content]
        else:
            words = [self.content or ""]
        return "".join([*words, self.refusal or ""])

    @property
    def characters(self) -> int:
        """The length of all that a model reads, but for media."""
        reasoning = len(self.reasoning_content or "") + len(self.reasoning or "")
        calls = [call for call in (self.tool_calls, self.function_call) if call]
        return len(self.text) + reasoning + sum(len(to_json(call)) for call in calls)

    @property
    def media(self) -> set[str]:
        """Types of its parts that not every provider accepts."""
        parts = self.content if isinstance(self.content, list) else []
        return {part["type"] for part in parts} & MEDIA

    def wire(self) -> dict[str, Any]:
        """Return the message as it was sent, without nulls other than its content's."""
        sent = self.model_dump(exclude_none=True)
        return {**sent, "content": self.content} if "content" in self.model_fields_set else sent


class StreamOptions(_Strict):
    """What a stream tells besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False  # ours never has any


class ChatRequest(_Strict):
    """A request that can be answered. A null is as good as a parameter that is not there."""

    model: str = Field(default="", max_length=200)  # "": the default model
    messages: Annotated[
        list[Message], BeforeValidator(_few_messages), AfterValidator(_few_characters)
    ]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[StopText], BeforeValidator(_few_texts)] = []
    user: str | None = Field(default=None, max_length=512)

    @model_validator(mode="before")
    @classmethod
    def _only_what_we_honour(cls, data: object) -> object:
        return without_meaningless(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options and not self.stream:
            raise PydanticCustomError(
                "stream_options", "'stream_options' is only accepted together with 'stream': true"
            )
        return self

    @property
    def token_limit(self) -> int | None:
        """Most tokens of the answer; the newer parameter wins."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def texts(self) -> list[dict[str, str]]:
        """The messages as telemetry takes them."""
        return [{"role": m.role, "content": m.text} for m in self.messages]

    def new_roles(self) -> list[str]:
        """Roles of the messages after the last answer: those that are no history."""
        roles = [recorded_role(message.role) for message in self.messages]
        last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
        return roles[last + 1 :]


def check_limit(name: str, count: int, text: str, info: ValidationInfo) -> None:
    """Raise for a count above the context's `max_<name>`; `text` says what is counted."""
    most = (info.context or {}).get(f"max_{name}")
    if most is not None and count > most:
        raise PydanticCustomError(
            f"{name}_exceeded",
            text + ", accepted are up to {most}",
            {"count": count, "most": most, "limit": name},
        )


def recorded_role(role: str) -> str:
    """`developer` is what newer models call `system`; `function` is an older `tool`."""
    return {"developer": "system", "function": "tool"}.get(role, role)


class SocketQuestion(_Strict):
    """A question over WebSocket; without a model, to the default one."""

    type: Literal["message"]
    content: str
    model: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _not_too_long(self, info: ValidationInfo) -> Self:
        check_limit("message_chars", len(self.content), _TOO_LONG, info)
        return self
