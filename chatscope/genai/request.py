"""What telemetry is told of a request to a model, and of the tokens that it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """What is recorded of a request to a model.

    The texts of `messages` ({"role", "content"} each) are recorded only where content
    capture is on; else only their length serves, to estimate the tokens of a cut answer.
    """

    provider: str
    model: str
    in_process: bool = False
    stream: bool = False
    server_address: str | None = None
    server_port: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    conversation_id: str | None = None
    messages: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; `partial` when they were counted here, not by the provider."""

    prompt_tokens: int
    completion_tokens: int
    partial: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens
