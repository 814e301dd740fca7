"""Which models there are, and which provider answers for each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger

from app.domain.errors import InvalidRequest, ModelNotFound
from app.domain.provider import Provider
from app.providers.blocking import MOST_CALLS, BlockingProvider, unblocked
from app.providers.simulated import Behaviour, SimulatedProvider
from app.settings import OPENAI_URL, Settings
from app.wire.request import ChatRequest
from chatscope.redaction import without_texts

_CLOSE_SECONDS: Final = 0.5
_STALL_SECONDS: Final[float] = Settings.model_fields["answer_stall_seconds"].default


@dataclass(frozen=True)
class Entry:
    """One model that can be asked; `stall_seconds` is the longest silence in its answers."""

    model: str
    provider: Provider
    stall_seconds: float = _STALL_SECONDS

    def check(self, request: ChatRequest) -> None:
        """Raise InvalidRequest for content that the provider does not accept.

        A provider lists the part types that it accepts besides text in `media`, if there are any.
        """
        accepted: frozenset[str] = getattr(self.provider, "media", frozenset())
        for position, message in enumerate(request.messages):
            if refused := sorted(message.media - accepted):
                kinds = " or ".join(f"'{kind}'" for kind in ["text", *sorted(accepted)])
                raise InvalidRequest(
                    f"The model '{self.model}' does not accept content parts of type "
                    f"'{refused[0]}'; accepted is {kinds}.",
                    param=f"messages[{position}].content",
                )


class Catalog:
    """All models by name; the first provider that has a name keeps it."""

    def __init__(
        self,
        providers: Sequence[Provider | BlockingProvider],
        default_model: str,
        *,
        stall_seconds: float = _STALL_SECONDS,
        most_calls: int = MOST_CALLS,
    ) -> None:
        """`most_calls` bounds the threads of each provider that blocks."""
        self._providers = [unblocked(provider, most_calls) for provider in providers]
        self._default_model = default_model
        self._entries: dict[str, Entry] = {}
        for provider in self._providers:
            for model in provider.models:
                self._entries.setdefault(model, Entry(model, provider, stall_seconds))

    @property
    def entries(self) -> list[Entry]:
        """All, the default one first."""
        return sorted(self._entries.values(), key=lambda e: e.model != self._default_model)

    def find(self, model: str | None) -> Entry:
        """The entry of a name; of none, the default one. Raises ModelNotFound."""
        entry = self._entries.get(model or self._default_model)
        if entry is None:
            raise ModelNotFound(model or "", [entry.model for entry in self.entries])
        return entry

    async def close(self) -> None:
        """Close all providers at the same time, also where one fails to, or does not return."""
        await asyncio.gather(*(_close(provider) for provider in self._providers))


async def _close(provider: Provider) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await provider.close()
    except TimeoutError:
        logger.warning("a provider did not close in time", provider=provider.name)
    except Exception as error:
        logger.opt(exception=without_texts(error)).error("a provider failed to close")


def build_catalog(settings: Settings) -> Catalog:
    """The providers that the settings ask for; the simulated one is always there."""
    simulated = SimulatedProvider(
        Behaviour(
            tokens_per_second=settings.simulated_tokens_per_second,
            first_token_seconds=settings.simulated_first_token_seconds,
            answer_tokens=settings.simulated_answer_tokens,
            error_rate=settings.simulated_error_rate,
            stall_rate=settings.simulated_stall_rate,
            stall_seconds=settings.simulated_stall_seconds,
            seed=settings.simulated_seed,
        )
    )
    configured = [_openai_compatible(settings)] if settings.openai_models else []
    return Catalog(
        [*configured, simulated],
        settings.model,
        stall_seconds=settings.answer_stall_seconds,
        most_calls=settings.max_answers,
    )


def _openai_compatible(settings: Settings) -> Provider:
    # Its client takes a second to import: only those who use it wait.
    from app.providers.openai_compatible import OpenAICompatibleProvider  # noqa: PLC0415

    key = settings.openai_api_key
    return OpenAICompatibleProvider(
        base_url=settings.openai_base_url or OPENAI_URL,
        api_key=key.get_secret_value() if key else None,
        models=settings.openai_models,
        timeout=settings.openai_timeout_seconds,
        connect_timeout=settings.openai_connect_timeout_seconds,
        max_retries=settings.openai_max_retries,
    )
