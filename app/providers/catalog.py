"""All models, and the provider that serves each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger

from app.domain.errors import InvalidRequest, ModelNotFound
from app.domain.provider import Provider
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
        """Start a response in the current context."""
        return StreamGuard(self.provider.stream(request), stall_seconds=self.stall_seconds)

    def check(self, request: ChatRequest) -> None:
        """Raise InvalidRequest for content that the provider does not accept.

        A provider may have an attribute `media`: the types of content parts that it accepts
        besides text.
        """
        accepted: frozenset[str] = getattr(self.provider, "media", frozenset())
        for position, message in enumerate(request.messages):
            if refused := sorted(message.media - accepted):
                kinds = ", ".join(f"'{kind}'" for kind in ["text", *sorted(accepted)])
                raise InvalidRequest(
                    f"The model '{self.name}' does not accept content parts of type "
                    f"'{refused[0]}'; accepted: {kinds}.",
                    param=f"messages[{position}].content",
                )


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
