"""A chat request that was validated: messages and parameters, independent of a wire format."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

# Types of content parts besides text and refusal. Not every provider accepts them.
MEDIA: Final = frozenset({"image_url", "input_audio", "file"})

Content = str | list[dict[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation. Content that has only text parts is a string."""

    role: str
    content: Content = None
    omits_content: bool = False  # an assistant's message may have no `content`, not even `null`
    name: str | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """The text of the content, then of the refusal."""
        return message_text(self.content, self.refusal)

    @property
    def media(self) -> set[str]:
        """Types of its content parts that not every provider accepts."""
        parts = self.content if isinstance(self.content, list) else []
        return {part["type"] for part in parts} & MEDIA


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """The messages to respond to and the model's parameters; None: the provider's default."""

    model: str
    messages: Sequence[Message]
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    user: str | None = None

    @property
    def token_limit(self) -> int | None:
        """Maximum number of tokens in the response; the newer parameter takes precedence."""
        return self.max_completion_tokens or self.max_tokens

    def texts(self) -> list[dict[str, str]]:
        """Return role and text of each message, for telemetry."""
        return [{"role": message.role, "content": message.text} for message in self.messages]

    def new_roles(self) -> list[str]:
        """Return the roles of the messages after the last response: those that are new."""
        roles = [recorded_role(message.role) for message in self.messages]
        last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
        return roles[last + 1 :]


def message_text(content: Content, refusal: str | None) -> str:
    """Return the text of a message's content, then of its refusal."""
    if isinstance(content, list):
        texts = [part.get("text") or part.get("refusal") or "" for part in content]
    else:
        texts = [content or ""]
    return "".join([*texts, refusal or ""])


def recorded_role(role: str) -> str:
    """Return the role for telemetry: `developer` is the newer name of `system`, and `function`
    the older name of `tool`."""
    return {"developer": "system", "function": "tool"}.get(role, role)
