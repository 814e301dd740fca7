"""The interface of a model provider: a name, its models, and a stream of chunks that ends with
its usage."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from app.domain.attempt import OnAttempt
from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.errors import ServiceError
from app.domain.request import ChatRequest
from chatscope.genai import Usage


@dataclass(slots=True, kw_only=True)
class Started:
    """The provider has begun to respond; at most once, before everything else.

    `headers` are those of its response that are passed on to the client.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    at: float | None = field(default=None, compare=False)


@dataclass(slots=True)
class Chunk:
    """A part of a streamed response.

    A provider of plain text gives only `text`. Any other gives the chunk of OpenAI's format as
    `data`, also the first with the role, the last with the finish reason and that of the usage,
    and, if it need not be rendered again, its JSON on one line as `raw`. Then `text` is the text of
    the first choice, and `size` the number of characters of all output: text, reasoning, refusal
    and tool calls.
    """

    text: str = ""
    data: dict[str, Any] | None = None
    raw: bytes | None = None
    size: int | None = None  # None: the length of the text
    usage: Usage | None = None  # reported so far
    at: float | None = field(default=None, compare=False)  # perf_counter of its arrival


@dataclass(slots=True, kw_only=True)
class Completed:
    """The last event of a complete stream; `usage` is None if the provider reported none.

    A response that was requested as a whole may come with it as a whole: `body` in OpenAI's
    format, and its JSON as `raw` if it need not be rendered again. `text` and `size` are those of
    the body, as in a chunk.
    """

    finish_reason: str
    usage: Usage | None = None
    response_id: str | None = None
    response_model: str | None = None
    body: dict[str, Any] | None = None
    raw: bytes | None = None
    text: str = ""
    size: int = 0
    at: float | None = field(default=None, compare=False)


Event = Started | Chunk | Completed


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
        """Yield the events of a response: chunks, then exactly one Completed. Raise ProviderError.

        Also for a request whose `stream` is false. An async generator: closing it ends the call.
        """


@runtime_checkable
class Embedder(Protocol):
    """A provider that also has embeddings."""

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return the embeddings. Raise ProviderError."""


class ResponseStream(Protocol):
    """The events of one response, with a bounded silence and a bounded time to close."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return the iterator."""

    @property
    def ended(self) -> float:
        """The perf_counter at which the provider ended, or now, without the time for which it
        waited for the reader."""

    @property
    def has_chunk(self) -> bool:
        """Whether the next event is a chunk that has arrived and can be read without waiting."""

    async def aclose(self) -> None:
        """End the call; return when the provider has released it, or after a timeout."""


class Model(Protocol):
    """One model of one provider."""

    @property
    def name(self) -> str:
        """The name that clients request."""

    @property
    def upstream(self) -> str | None:
        """The provider's name of the model, if it differs."""

    @property
    def provider(self) -> ProviderInfo:
        """The provider that serves it."""

    def stream(self, request: ChatRequest, on_attempt: OnAttempt | None = None) -> ResponseStream:
        """Start a response in the current context. The stream raises ProviderError.

        `on_attempt` is called for each attempt if there are fallbacks.
        """


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The provider's own description of its failure: an HTTP status, a one-word code, its text
    without credentials and prompts, and the headers that are passed on."""

    status: int | None = None
    code: str | None = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ProviderError(ServiceError):
    """A provider failed; `error_type` is one of a short closed list (docs/api.md).

    `detail` is the provider's own text, which may repeat the prompt: it is appended to the message
    for the client. Telemetry records `upstream.text` instead. The code is the error type, or that
    of the provider for a request that the client can correct.
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
        correctable = error_type == "invalid_request" and upstream.code
        super().__init__(
            f"{message} {detail}" if detail else message,
            code=upstream.code if correctable and upstream.code else error_type,
            retry_after=retry_after,
            param=param,
        )
        self.error_type = error_type
        # Without the provider's text, nothing follows a colon.
        self.telemetry_text = f"{message} {upstream.text}" if upstream.text else message.rstrip(":")
        self.upstream = upstream
