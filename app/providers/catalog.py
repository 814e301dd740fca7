"""All models, and the provider that serves each."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from loguru import logger

from app.domain.attempt import OnAttempt
from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.errors import InvalidRequest, ModelNotFound
from app.domain.provider import Embedder, Provider, ProviderError, ResponseStream, Started
from app.domain.request import ChatRequest
from app.providers.blocking import BlockingProvider, non_blocking
from app.providers.fallback import Candidate, FallbackStream
from app.providers.stream_guard import StreamGuard
from chatscope.logs import without_texts

_CLOSE_SECONDS: Final = 0.5
_MARGIN_SECONDS: Final = 1.0
# In the names of OpenAI's, Google's, Nomic's and others' models for embeddings.
_EMBEDDING: Final = "embed"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is called at its provider (None: by its name), and what replaces it.

    `fallbacks` are names or aliases of models, tried in this order if the provider fails before
    its first event; `attempt_seconds` is the time until that event if there is a fallback.
    `context_tokens` is the most that a request and its response may have; `embeddings`, whether the
    model is for embeddings only (None: unknown).
    """

    upstream: str | None = None
    aliases: Sequence[str] = ()
    fallbacks: Sequence[str] = ()
    attempt_seconds: float = 60.0
    context_tokens: int | None = None
    embeddings: bool | None = None


@dataclass(frozen=True)
class CatalogModel:
    """One model; `stall_seconds` is the longest silence in its responses."""

    name: str
    provider: Provider
    stall_seconds: float
    options: ModelOptions = ModelOptions()
    fallbacks: list["CatalogModel"] = field(default_factory=list, compare=False, repr=False)

    @property
    def upstream(self) -> str | None:
        """The provider's name of the model, if it differs."""
        return self.options.upstream

    @property
    def is_for_embeddings(self) -> bool:
        """Whether it is for embeddings only: as configured, otherwise by its name."""
        if self.options.embeddings is not None:
            return self.options.embeddings
        return _EMBEDDING in (self.upstream or self.name).lower()

    def stream(self, request: ChatRequest, on_attempt: OnAttempt | None = None) -> ResponseStream:
        """Start a response in the current context."""
        if not self.fallbacks:
            return self.attempt(request)
        models = [self, *self.fallbacks]
        return FallbackStream(
            [Candidate(_Attempted(each), each.attempt_seconds(request.stream)) for each in models],
            request,
            seconds=max(each.longest_silence(request.stream) for each in models),
            on_attempt=on_attempt,
            is_content=lambda event: not isinstance(event, Started),
        )

    def attempt(self, request: ChatRequest) -> StreamGuard:
        """Start a response of this model, without fallbacks."""
        longest = self.longest_silence(request.stream)
        if self.upstream:
            request = replace(request, model=self.upstream)
        return StreamGuard(self.provider.stream(request), stall_seconds=longest)

    def longest_silence(self, stream: bool) -> float:
        """Return the longest silence in a response, in seconds.

        A provider may have an attribute `whole_seconds`: the longest silence before a response
        that is not streamed, whose provider sends nothing until it is complete.
        """
        whole: float = 0.0 if stream else getattr(self.provider, "whole_seconds", 0.0)
        # The provider itself gives up first, and knows why.
        return max(self.stall_seconds, whole and whole + _MARGIN_SECONDS)

    def attempt_seconds(self, stream: bool) -> float:
        """Return how long an attempt may take until its first event if another can be tried."""
        whole: float = 0.0 if stream else getattr(self.provider, "whole_seconds", 0.0)
        return max(self.options.attempt_seconds, whole)

    def check_embeddings(self) -> None:
        """Raise InvalidRequest if the provider has no embeddings."""
        if not isinstance(self.provider, Embedder):
            raise InvalidRequest(f"The model '{self.name}' has no embeddings.", param="model")

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return embeddings. Raise ProviderError."""
        assert isinstance(self.provider, Embedder)  # noqa: S101
        if self.upstream:
            request = replace(request, model=self.upstream)
        try:
            async with asyncio.timeout(self.stall_seconds):
                return await self.provider.embed(request)
        except TimeoutError:
            failure = ProviderError("stalled", "The model stopped responding.")
        raise failure


@dataclass(frozen=True)
class _Attempted:
    """A model whose own fallbacks are candidates of the same request."""

    model: CatalogModel

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def upstream(self) -> str | None:
        return self.model.upstream

    @property
    def provider(self) -> Provider:
        return self.model.provider

    def stream(self, request: ChatRequest, on_attempt: OnAttempt | None = None) -> StreamGuard:
        return self.model.attempt(replace(request, model=self.name))


class Catalog:
    """All models by name. If two providers have the same name, the first one serves it."""

    def __init__(
        self,
        providers: Sequence[Provider | BlockingProvider],
        default_model: str,
        *,
        stall_seconds: float,
        max_calls: int,
        options: Mapping[str, ModelOptions] | None = None,
    ) -> None:
        """`max_calls` limits the threads of each blocking provider; `options` are those of models
        by name."""
        self._providers = [non_blocking(provider, max_calls) for provider in providers]
        self._default_model = default_model
        self._models: dict[str, CatalogModel] = {}
        for provider in self._providers:
            for name in provider.models:
                chosen = (options or {}).get(name, ModelOptions())
                self._models.setdefault(name, CatalogModel(name, provider, stall_seconds, chosen))
        self._aliases = {
            alias: model for model in self._models.values() for alias in model.options.aliases
        }
        for model in self._models.values():
            model.fallbacks.extend(self._fallbacks_of(model))

    @property
    def names(self) -> dict[str, CatalogModel]:
        """Each name and alias with its model, the default model first."""
        found = {model.name: model for model in self.models}
        return {**found, **self._aliases}

    @property
    def models(self) -> list[CatalogModel]:
        """All models, the default model first."""
        return sorted(self._models.values(), key=lambda model: model.name != self._default_model)

    def find(self, name: str | None) -> CatalogModel:
        """Return a model; without a name, the default model. Raise ModelNotFound."""
        wanted = name or self._default_model
        # An alias takes precedence over a simulated model of the same name, as a name does.
        model = self._aliases.get(wanted) or self._models.get(wanted)
        if model is None:
            raise ModelNotFound(name or "", list(self.names))
        return model

    def _fallbacks_of(self, model: CatalogModel) -> list[CatalogModel]:
        """Return all fallbacks, each followed by its own ones, each model once."""
        found: list[CatalogModel] = []
        waiting = list(reversed(model.options.fallbacks))
        while waiting:
            fallback = self.find(waiting.pop())
            if fallback is not model and fallback not in found:
                found.append(fallback)
                waiting += reversed(fallback.options.fallbacks)
        return found

    async def close(self) -> None:
        """Close all providers concurrently, even if some fail or do not return."""
        await asyncio.gather(*(_close(provider) for provider in self._providers))


async def _close(provider: Provider) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await provider.close()
    except TimeoutError:
        logger.warning("provider did not close in time", provider=provider.name)
    except Exception as error:
        logger.opt(exception=without_texts(error)).error("provider failed to close")
