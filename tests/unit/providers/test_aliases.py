"""Aliases and fallbacks of the catalog's models."""

from contextlib import aclosing

import pytest

from app.domain.attempt import Attempt
from app.domain.provider import Chunk, ProviderError
from app.domain.request import ChatRequest
from app.providers.catalog import Catalog, ModelOptions
from tests.unit.scripted import END, Scripted, Step, chat_request

pytestmark = pytest.mark.anyio


def _request() -> ChatRequest:
    return chat_request({"model": "m", "messages": [{"role": "user", "content": "hello"}]})


class _Named(Scripted):
    def __init__(self, model: str, *steps: Step) -> None:
        super().__init__(*steps)
        self.models = (model,)


def _with_options(*providers: Scripted, **options: ModelOptions) -> Catalog:
    return Catalog(
        providers, providers[0].models[0], stall_seconds=30.0, max_calls=1, options=options
    )


async def test_alias_is_the_model_with_its_name_at_the_provider() -> None:
    provider = _Named("m", "hello", END)
    catalog = _with_options(provider, m=ModelOptions(upstream="m-2026", aliases=("a", "b")))
    assert catalog.find("b") is catalog.find("m") is catalog.find(None)
    assert list(catalog.names) == ["m", "a", "b"]
    async with aclosing(catalog.find("a").stream(_request())) as events:
        assert [event async for event in events] == [Chunk("hello"), END]
    assert [request.model for request in provider.requests] == ["m-2026"]


async def test_fallbacks_of_a_fallback_follow_it() -> None:
    failure = ProviderError("unavailable", "It failed.")
    providers = [_Named(name, failure) for name in "mabc"]
    catalog = _with_options(
        *providers,
        m=ModelOptions(fallbacks=("a", "c")),
        a=ModelOptions(fallbacks=("b",), aliases=("x",)),
        b=ModelOptions(fallbacks=("c",)),
    )
    attempts: list[Attempt] = []
    with pytest.raises(ProviderError):
        async with aclosing(catalog.find("m").stream(_request(), attempts.append)) as events:
            await anext(aiter(events))
    assert [attempt.model.name for attempt in attempts] == ["m", "a", "b", "c"]
    assert [request.model for each in providers for request in each.requests] == list("mabc")
