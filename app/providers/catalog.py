"""All models, and the provider that serves each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger

from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.errors import InvalidRequest, ModelNotFound
from app.domain.provider import Embedder, Provider, ProviderError
from app.domain.request import ChatRequest
from app.providers.blocking import BlockingProvider, non_blocking
from app.providers.stream_guard import StreamGuard
from chatscope.logs import without_texts

_CLOSE_SECONDS: Final = 0.5


@dataclass(frozen=True)
class CatalogModel:
    """One model; `stall_seconds` is the longest silence in its responses."""

    name: str
    provider: Provider
    stall_seconds: float

    def stream(self, request: ChatRequest) -> StreamGuard:
        """Start a response in the current context.

        A provider may have an attribute `whole_seconds`: the longest silence before a response
        that is not streamed, whose provider sends nothing until it is complete.
        """
        longest = self.stall_seconds
        if not request.stream:
            longest = max(longest, getattr(self.provider, "whole_seconds", 0.0))
        return StreamGuard(self.provider.stream(request), stall_seconds=longest)

    def check_embeddings(self) -> None:
        """Raise InvalidRequest if the provider has no embeddings."""
        if not isinstance(self.provider, Embedder):
            raise InvalidRequest(f"The model '{self.name}' has no embeddings.", param="model")

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return embeddings. Raise ProviderError."""
        assert isinstance(self.provider, Embedder)  # noqa: S101
        try:
            async with asyncio.timeout(self.stall_seconds):
                return await self.provider.embed(request)
        except TimeoutError:
            failure = ProviderError("stalled", "The model stopped responding.")
        raise failure


class Catalog:
    """All models by name. If two providers have the same name, the first one serves it."""

    def __init__(
        self,
        providers: Sequence[Provider | BlockingProvider],
        default_model: str,
        *,
        stall_seconds: float,
        max_calls: int,
    ) -> None:
        """`max_calls` limits the threads of each blocking provider."""
        self._providers = [non_blocking(provider, max_calls) for provider in providers]
        self._default_model = default_model
        self._models: dict[str, CatalogModel] = {}
        for provider in self._providers:
            for name in provider.models:
                self._models.setdefault(name, CatalogModel(name, provider, stall_seconds))

    @property
    def models(self) -> list[CatalogModel]:
        """All models, the default model first."""
        return sorted(self._models.values(), key=lambda model: model.name != self._default_model)

    def find(self, name: str | None) -> CatalogModel:
        """Return a model; without a name, the default model. Raise ModelNotFound."""
        model = self._models.get(name or self._default_model)
        if model is None:
            raise ModelNotFound(name or "", [model.name for model in self.models])
        return model

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
