"""Recorded facts of a request to a model, and of the tokens that it used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # prices are validated with the settings, before OpenTelemetry may be loaded
    from opentelemetry.util.types import AttributeValue


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """Recorded facts of a request to a model.

    `messages` are those of the OpenAI format. Their texts are recorded only where content capture
    is on; otherwise only their length is used, to estimate the tokens of a response that was cut
    short. So it is with `tools` and `system_instructions`. `user_id`, `session_id` and
    `conversation_id` are on spans and log records only. `attributes` are further ones of the same.
    """

    provider: str
    model: str
    upstream_model: str | None = None  # the provider's name of the model if it differs, for prices
    operation: str = "chat"
    in_process: bool = False
    stream: bool = False
    server_address: str | None = None
    server_port: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    choice_count: int | None = None
    reasoning_level: str | None = None  # the effort that was asked for, such as low or high
    output_type: str | None = None  # text, json, image, speech
    seed: int | None = None
    stop: tuple[str, ...] = ()
    conversation_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    previous_response_id: str | None = None
    system_instructions: str | Sequence[Any] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    messages: Sequence[Mapping[str, Any]] = ()
    attributes: "Mapping[str, AttributeValue]" = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """Tokens of one response; `partial` if some were counted here, not by the provider.

    `prompt_tokens` include those read from and written to a cache, `completion_tokens` include
    those of the reasoning. The other counts are parts of these two; None is not reported.
    """

    prompt_tokens: int
    completion_tokens: int = 0
    partial: bool = False
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_1h_tokens: int | None = None  # of cache_write_tokens: stored for an hour
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    audio_cache_read_tokens: int | None = None  # of cache_read_tokens and audio_input_tokens
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    reported_cost: float | None = None  # US dollars, where the provider reports them

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def with_counts(self, prompt_tokens: int, completion_tokens: int) -> Self:
        """Return a partial usage with other totals and the same parts."""
        return replace(
            self, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, partial=True
        )
