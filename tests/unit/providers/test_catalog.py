"""Which provider answers for which model."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import InvalidRequest, ModelNotFound, Overloaded
from app.domain.provider import Event, ProviderError
from app.domain.request import ChatRequest
from app.main import build_catalog
from app.providers.simulated import Behaviour, SimulatedProvider
from tests.unit.scripted import END, MODEL, Scripted, catalog_of, chat_request
from tests.unit.serving import quick

if TYPE_CHECKING:
    from loguru import Record


def test_without_an_endpoint_there_is_the_simulated_model() -> None:
    catalog = build_catalog(quick())
    assert [model.name for model in catalog.models] == ["simulated-1"]
    assert catalog.find(None).provider.in_process


def test_both_providers_run_at_once_and_the_name_picks() -> None:
    catalog = build_catalog(
        quick(openai_models=("m", "org/n"), openai_base_url="http://127.0.0.1:8123/v1")
    )
    assert [model.name for model in catalog.models] == ["m", "org/n", "simulated-1"]
    assert catalog.find("org/n").provider.server == ("127.0.0.1", 8123)
    assert catalog.find("simulated-1").provider.server is None


@pytest.mark.parametrize(
    ("url", "server"),
    [("https://a.example/v1", ("a.example", 443)), ("http://a.example", ("a.example", 80))],
)
def test_the_servers_port_is_the_schemes(url: str, server: tuple[str, int]) -> None:
    catalog = build_catalog(quick(openai_models=("m",), openai_base_url=url))
    assert catalog.find("m").provider.server == server


def test_the_default_model_is_listed_first_and_answers_for_no_name() -> None:
    catalog = build_catalog(
        quick(openai_models=("m",), openai_api_key="k", default_model="simulated-1")
    )
    assert [model.name for model in catalog.models] == ["simulated-1", "m"]
    assert catalog.find("").name == "simulated-1"


def test_a_configured_model_wins_over_a_simulated_one_of_its_name() -> None:
    catalog = build_catalog(quick(openai_models=("simulated-1",), openai_api_key="k"))
    assert catalog.find("simulated-1").provider.name == "openai"


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelNotFound):
        build_catalog(quick()).find("gpt-9")


def test_the_longest_silence_is_the_settings_for_every_model() -> None:
    catalog = build_catalog(
        quick(openai_models=("m",), openai_api_key="k", answer_stall_seconds=7.0)
    )
    assert [model.stall_seconds for model in catalog.models] == [7.0, 7.0]


def test_simulated_model_behaves_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    behaviours: list[Behaviour] = []

    class Recording(SimulatedProvider):
        def __init__(self, behaviour: Behaviour, *, model: str) -> None:
            behaviours.append(behaviour)
            super().__init__(behaviour, model=model)

    monkeypatch.setattr("app.main.SimulatedProvider", Recording)
    configured: dict[str, Any] = {
        "tokens_per_second": 3.0,
        "first_token_seconds": 2.0,
        "answer_tokens": 7,
        "error_rate": 0.1,
        "stall_rate": 0.2,
        "stall_seconds": 9.0,
        "seed": 5,
    }
    build_catalog(quick(**{f"simulated_{name}": value for name, value in configured.items()}))
    assert behaviours == [Behaviour(**configured)]


def test_client_of_an_endpoint_is_not_made_without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.providers.openai_compatible.OpenAICompatibleProvider", None)
    build_catalog(quick())


def test_openai_endpoint_is_called_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def build(**arguments: object) -> Scripted:
        given.update(arguments)
        return Scripted()

    monkeypatch.setattr("app.providers.openai_compatible.OpenAICompatibleProvider", build)
    build_catalog(
        quick(
            openai_models=("m",),
            openai_base_url="http://127.0.0.1:1/v1",
            openai_api_key="k",
            openai_timeout_seconds=3,
            openai_connect_timeout_seconds=2,
            openai_max_retries=5,
        )
    )
    assert given == {
        "base_url": "http://127.0.0.1:1/v1",
        "api_key": "k",
        "models": ("m",),
        "timeout": 3.0,
        "connect_timeout": 2.0,
        "max_retries": 5,
    }


class _Blocking(Scripted):
    """Its calls return when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_return = threading.Event()

    def stream(self, request: ChatRequest) -> Generator[Event]:  # type: ignore[override]
        self.may_return.wait(60)
        yield END


def _request(*parts: str) -> ChatRequest:
    content = [{"type": part, part: {}} for part in parts]
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": content}]
    return chat_request({"messages": messages})


@pytest.mark.anyio
async def test_calls_of_a_blocking_provider_are_bounded() -> None:
    provider = _Blocking()
    streams = catalog_of(provider, max_calls=1).find(None).provider
    first = asyncio.ensure_future(anext(streams.stream(_request())))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await anext(streams.stream(_request()))
    provider.may_return.set()
    assert await first == END


def test_a_model_without_embeddings_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        catalog_of(Scripted()).find(None).check_embeddings()
    assert caught.value.message == "The model 'scripted-1' has no embeddings."
    assert caught.value.param == "model"


@pytest.mark.anyio
@pytest.mark.parametrize(("stream", "error_type"), [(True, "stalled"), (False, None)])
async def test_whole_response_may_take_longer_to_begin(
    stream: bool, error_type: str | None
) -> None:
    class Slow(Scripted):
        whole_seconds = 30.0

        async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
            await asyncio.sleep(0.2)
            yield END

    request = chat_request(
        {"messages": [{"role": "user", "content": "hi"}], "stream": stream, "model": MODEL}
    )
    events = catalog_of(Slow(), stall_seconds=0.05).find(None).stream(request)
    async with aclosing(events):
        if error_type is None:
            assert await anext(aiter(events)) == END
        else:
            with pytest.raises(ProviderError) as caught:
                await anext(aiter(events))
            assert caught.value.error_type == error_type


@pytest.mark.anyio
async def test_closing_closes_every_provider_also_beside_one_that_fails_or_hangs(
    logged: list["Record"], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Scripted):
        async def close(self) -> None:
            await super().close()
            raise RuntimeError

    class Hanging(Scripted):
        name = "hanging"

        async def close(self) -> None:
            await super().close()
            await asyncio.Event().wait()

    monkeypatch.setattr("app.providers.catalog._CLOSE_SECONDS", 0.05)
    providers = [Broken(), Hanging(), Scripted()]
    await catalog_of(*providers).close()
    assert all(provider.closed for provider in providers)
    assert [(record["level"].name, record["message"]) for record in logged] == [
        ("ERROR", "provider failed to close"),
        ("WARNING", "provider did not close in time"),
    ]
    assert logged[1]["extra"] == {"provider": "hanging"}
