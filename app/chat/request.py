"""A chat request in the OpenAI wire format: what we honour, and a clear no to the rest."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.chat.parameters import refuse_unknown, without_meaningless
from app.errors import shorten

_MOST_STOPS = 4
_TOO_LONG = "the content has {count} characters"
# An answer that is sent back as history brings these along.
_ANSWER_LEFTOVERS = frozenset({"annotations", "refusal"})


def _text(content: object) -> object:
    """The parts of a content joined, if all of them are text."""
    if not isinstance(content, list):
        return content
    texts = [_part_text(part) for part in content]
    return "".join(texts)


def _part_text(part: object) -> str:
    if isinstance(part, dict):
        match part:
            case {"type": "text", "text": str(text)}:
                return text
            case {"type": str(kind)} if kind != "text":
                raise PydanticCustomError(
                    "content_part",
                    "content parts of type '{kind}' are not supported; accepted is 'text'",
                    {"kind": shorten(kind)},
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
    count = sum(len(message.content) for message in messages)
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
    """One message; its content as one text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_text)]
    name: str | None = None
    tool_call_id: str | None = None

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
            elif name in kept:
                raise PydanticCustomError("unsupported", "it is not supported here", {"name": name})
        return kept

    @model_validator(mode="after")
    def _not_too_long(self, info: ValidationInfo) -> Self:
        check_limit("message_chars", len(self.content), _TOO_LONG, info)
        return self


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
        return [{"role": m.role, "content": m.content} for m in self.messages]

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
    """`developer` is what newer models call `system`."""
    return "system" if role == "developer" else role


class SocketQuestion(_Strict):
    """A question over WebSocket; without a model, to the default one."""

    type: Literal["message"]
    content: str
    model: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _not_too_long(self, info: ValidationInfo) -> Self:
        check_limit("message_chars", len(self.content), _TOO_LONG, info)
        return self
