"""What a model provider is: a name, its models, and a stream of text that ends with usage."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import ServiceError
from app.wire.request import ChatRequest
from chatscope.genai.request import Usage


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer, never empty."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The last event of a stream that ended well; `usage` is None where nobody counted."""

    finish_reason: str
    usage: Usage | None = None
    response_id: str | None = None
    response_model: str | None = None


class Source(Protocol):
    """What is known of a provider, whichever way it streams."""

    @property
    def name(self) -> str:
        """`gen_ai.provider.name`."""

    @property
    def models(self) -> Sequence[str]:
        """The models that it answers for."""

    @property
    def server(self) -> tuple[str, int] | None:
        """Address and port; None for one inside this process."""

    @property
    def in_process(self) -> bool:
        """Whether no call leaves this process."""

    async def close(self) -> None:
        """Release connections; the last call."""


class Provider(Source, Protocol):
    """Where answers come from."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta | Completed]:
        """Ask for an answer: text, then exactly one Completed. Raises ProviderError.

        An async generator: closing it gives the call up.
        """


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """How a provider named its own failure: an HTTP status, and a code that is a single word."""

    status: int | None = None
    code: str | None = None


_WIRE_TYPES = {400: "invalid_request_error", 429: "rate_limit_error"}


class ProviderError(ServiceError):
    """A provider failed; `error_type` is one of a short closed list, `status` what we answer.

    `detail` holds the provider's own words: the client gets them behind `message`, telemetry
    only while content is captured.
    """

    def __init__(
        self,
        error_type: str,
        status: int,
        message: str,
        *,
        detail: str | None = None,
        retry_after: str | None = None,
        param: str | None = None,
        upstream: Upstream = Upstream(),
    ) -> None:
        headers = {"retry-after": retry_after} if retry_after else None
        whole = f"{message} {detail}" if detail else message
        super().__init__(whole, code=error_type, status=status, headers=headers, param=param)
        self.type = _WIRE_TYPES.get(status, "provider_error")
        self.error_type = error_type
        self.retry_after = retry_after
        self.telemetry_text = message
        self.upstream = upstream
