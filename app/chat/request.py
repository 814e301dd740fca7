"""A chat request in the OpenAI wire format: what we honour, and a clear no to the rest."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

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

# Parameters of the API that we cannot honour, with the values that ask for nothing.
_MEANINGLESS: Mapping[str, Sequence[object]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "prediction": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
# Parameters that change no answer here: taken, and not passed on.
_WITHOUT_EFFECT = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
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
                    {"kind": kind[:40]},
                )
    raise PydanticCustomError(
        "content_part", 'a content part must be {"type": "text", "text": "..."}'
    )


def _list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _not_empty(messages: list["Message"]) -> list["Message"]:
    # `min_length` counts only the valid ones, and would complain of emptiness besides.
    if not messages:
        raise PydanticCustomError("too_short", "it must not be empty")
    return messages


StopText = Annotated[str, Field(min_length=1)]


class Message(BaseModel):
    """One message; its content as one text."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

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
        check_length(self.content, info)
        return self


class StreamOptions(BaseModel):
    """What a stream tells besides text."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False  # ours never has any


class ChatRequest(BaseModel):
    """A request that can be answered. A null is as good as a parameter that is not there."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    model: str = Field(default="", max_length=200)  # "": the default model
    messages: Annotated[list[Message], AfterValidator(_not_empty)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[StopText], BeforeValidator(_list), Field(max_length=4)] = []
    user: str | None = Field(default=None, max_length=512)

    @model_validator(mode="before")
    @classmethod
    def _only_what_we_honour(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        kept = {k: v for k, v in data.items() if v is not None and k not in _WITHOUT_EFFECT}
        for name in _MEANINGLESS.keys() & kept.keys():
            _refuse_unless_meaningless(name, kept.pop(name))
        unknown = sorted(str(name) for name in kept.keys() - cls.model_fields.keys())
        if unknown:
            raise PydanticCustomError(
                "unknown_parameter",
                "Unrecognized request argument{s} supplied: {names}",
                {"s": "s" if len(unknown) > 1 else "", "names": ", ".join(unknown)},
            )
        return kept

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


def check_length(content: str, info: ValidationInfo) -> None:
    """Raise for a content longer than the context's `max_message_chars`."""
    limit = (info.context or {}).get("max_message_chars")
    if limit is not None and len(content) > limit:
        raise PydanticCustomError(
            "too_long",
            "the content has {length} characters, accepted are up to {limit}",
            {"length": len(content), "limit": limit},
        )


def recorded_role(role: str) -> str:
    """`developer` is what newer models call `system`."""
    return "system" if role == "developer" else role


def _refuse_unless_meaningless(name: str, value: Any) -> None:
    accepted = _MEANINGLESS[name]
    # `True == 1` in Python, but not on the wire.
    if any(value == other and type(value) is type(other) for other in accepted):
        return
    only = " or ".join(json.dumps(other) for other in accepted)
    raise PydanticCustomError(
        "unsupported",
        "it is not supported here{accepted}",
        {"name": name, "accepted": f", accepted is only {only}" if only else ""},
    )


class SocketQuestion(BaseModel):
    """A question over WebSocket; without a model, to the default one."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    type: Literal["message"]
    content: str
    model: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _not_too_long(self, info: ValidationInfo) -> Self:
        check_length(self.content, info)
        return self
