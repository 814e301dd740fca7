"""A chat request: its body in OpenAI's format, and the parameters that telemetry records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.identity import clean

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One request to a model.

    `body` has all parameters of the client, including those that this service does not know; it
    is never modified. Its `messages` are a non-empty list of objects with a role; the properties
    below are None, or empty, for a value of another type: the provider decides about it.

    `shown_model` replaces the provider's own name of the model in the response.
    """

    model: str
    body: Mapping[str, Any]
    stream: bool = False
    shown_model: str | None = None

    @property
    def messages(self) -> Sequence[Message]:
        """The conversation."""
        messages: Sequence[Message] = self.body["messages"]
        return messages

    @property
    def temperature(self) -> float | None:
        """Sampling temperature."""
        return _number(self.body.get("temperature"))

    @property
    def top_p(self) -> float | None:
        """Nucleus sampling."""
        return _number(self.body.get("top_p"))

    @property
    def frequency_penalty(self) -> float | None:
        """Penalty for frequent tokens."""
        return _number(self.body.get("frequency_penalty"))

    @property
    def presence_penalty(self) -> float | None:
        """Penalty for tokens that are present."""
        return _number(self.body.get("presence_penalty"))

    @property
    def token_limit(self) -> int | None:
        """Maximum number of tokens in the response; the newer parameter takes precedence."""
        newer = _integer(self.body.get("max_completion_tokens"))
        return _integer(self.body.get("max_tokens")) if newer is None else newer

    @property
    def seed(self) -> int | None:
        """Seed of the sampling."""
        return _integer(self.body.get("seed"))

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end the response."""
        stop = self.body.get("stop")
        found = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else ()
        return tuple(text for text in found if isinstance(text, str) and text)

    @property
    def top_k(self) -> int | None:
        """Number of the most likely tokens to choose from."""
        return _integer(self.body.get("top_k"))

    @property
    def choices(self) -> int:
        """Number of responses to generate."""
        return _integer(self.body.get("n")) or 1

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools that the model may call."""
        tools = self.body.get("tools")
        return [each for each in tools if isinstance(each, dict)] if isinstance(tools, list) else ()

    @property
    def reasoning_effort(self) -> str | None:
        """Effort of the reasoning."""
        return clean(self.body.get("reasoning_effort"))

    @property
    def response_format(self) -> str | None:
        """Type of the response's format: text, json_object or json_schema."""
        found = self.body.get("response_format")
        return _text(found.get("type")) if isinstance(found, dict) else None

    @property
    def output_type(self) -> str | None:
        """The requested content by the GenAI conventions: text, json, image or speech."""
        modalities = self.body.get("modalities")
        if isinstance(modalities, list):
            for name, kind in (("audio", "speech"), ("image", "image")):
                if name in modalities:
                    return kind
        found = self.response_format
        return {"text": "text", "json_object": "json", "json_schema": "json"}.get(found or "")

    @property
    def user(self) -> str | None:
        """The client's name of its user."""
        return clean(self.body.get("user"))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The client's own facts about the request."""
        found = self.body.get("metadata")
        return found if isinstance(found, dict) else {}

    def new_roles(self) -> list[str]:
        """Return the roles of the messages after the last response: those that are new."""
        roles = [recorded_role(message["role"]) for message in self.messages]
        last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
        return roles[last + 1 :]


def message_text(message: Message) -> str:
    """Return the text of a message's content, then of its refusal."""
    content, refusal = message.get("content"), message.get("refusal")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") or part.get("refusal") for part in parts if isinstance(part, dict)]
    return "".join(text for text in (*texts, refusal) if isinstance(text, str))


def recorded_role(role: str) -> str:
    """Return the role for telemetry: `developer` is the newer name of `system`, and `function`
    the older name of `tool`."""
    return {"developer": "system", "function": "tool"}.get(role, role)


def _number(found: object) -> float | None:
    if not isinstance(found, int | float) or isinstance(found, bool):
        return None
    try:
        return found if math.isfinite(found) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def _integer(found: object) -> int | None:
    """Return an integer of 64 bits, which is the range of telemetry."""
    if isinstance(found, int) and not isinstance(found, bool) and -(2**63) <= found < 2**63:
        return found
    return None


def _text(found: object) -> str | None:
    return found if isinstance(found, str) else None
