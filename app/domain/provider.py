"""The interface of a model provider: a name, its models, and a stream of text that ends with
its usage."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.attempt import OnAttempt
from app.domain.errors import ServiceError
from app.domain.request import ChatRequest
from chatscope.genai import Usage


@dataclass(frozen=True)
class TextDelta:
    """A chunk of the response; never empty."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The last event of a complete stream; `usage` is None if the provider reported none."""

    finish_reason: str
    usage: Usage | None = None
    response_id: str | None = None
    response_model: str | None = None


Event = TextDelta | Completed


class ProviderInfo(Protocol):
    """Properties of a provider, independent of how it streams."""

    @property
    def name(self) -> str:
        """`gen_ai.provider.name`."""

    @property
    def models(self) -> Sequence[str]:
        """Names of the models that it serves."""

    @property
    def server(self) -> tuple[str, int] | None:
        """Address and port; None if the provider runs in this process."""

    @property
    def in_process(self) -> bool:
        """Whether the provider makes no network call."""

    async def close(self) -> None:
        """Release connections; nothing is called afterwards."""


class Provider(ProviderInfo, Protocol):
    """A provider with an asynchronous stream."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Yield the text in chunks, then exactly one Completed. Raise ProviderError.

        An async generator: closing it ends the call.
        """


class ResponseStream(Protocol):
    """The events of one response, with a bounded silence and a bounded time to close."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return the iterator."""

    async def aclose(self) -> None:
        """End the call; return when the provider has released it, or after a timeout."""


class Model(Protocol):
    """One model of one provider."""

    @property
    def name(self) -> str:
        """The name that clients request."""

    @property
    def provider(self) -> ProviderInfo:
        """The provider that serves it."""

    def stream(self, request: ChatRequest, on_attempt: OnAttempt | None = None) -> ResponseStream:
        """Start a response in the current context. The stream raises ProviderError.

        `on_attempt` is called for each attempt if there are fallbacks.
        """


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The provider's own description of its failure: an HTTP status and a one-word code."""

    status: int | None = None
    code: str | None = None


class ProviderError(ServiceError):
    """A provider failed; `error_type` is one of a short closed list (docs/api.md).

    `detail` is the provider's own text: it is appended to the message for the client, and
    recorded in telemetry only if content capture is on.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        detail: str | None = None,
        retry_after: str | None = None,
        param: str | None = None,
        upstream: Upstream = Upstream(),
    ) -> None:
        text = f"{message} {detail}" if detail else message
        super().__init__(text, code=error_type, retry_after=retry_after, param=param)
        self.error_type = error_type
        self.telemetry_text = message
        self.upstream = upstream
