"""Which provider answers for which model."""

from collections.abc import Generator

import pytest

from app.chat.blocking import Threaded
from app.chat.catalog import Catalog, build_catalog
from app.chat.provider import Completed, TextDelta
from app.chat.request import ChatRequest
from app.errors import ModelNotFound
from tests.unit.scripted import END, MODEL, Scripted
from tests.unit.serving import quick


def test_without_an_endpoint_there_is_the_simulated_model() -> None:
    catalog = build_catalog(quick())
    assert [entry.model for entry in catalog.entries] == ["simulated-1"]
    assert catalog.find(None).provider.in_process


def test_both_providers_run_at_once_and_the_name_picks() -> None:
    catalog = build_catalog(
        quick(openai_models=("m", "org/n"), openai_base_url="http://127.0.0.1:8123/v1")
    )
    assert [entry.model for entry in catalog.entries] == ["m", "org/n", "simulated-1"]
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
    assert [entry.model for entry in catalog.entries] == ["simulated-1", "m"]
    assert catalog.find("").model == "simulated-1"


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
    assert [entry.stall_seconds for entry in catalog.entries] == [7.0, 7.0]
    assert Catalog([Scripted()], MODEL).find(None).stall_seconds == 120.0


def test_a_provider_that_blocks_is_given_a_thread() -> None:
    class Blocking(Scripted):
        def stream(self, request: ChatRequest) -> Generator[TextDelta | Completed]:  # type: ignore[override]
            yield END

    assert isinstance(Catalog([Blocking()], MODEL).find(None).provider, Threaded)


@pytest.mark.anyio
async def test_closing_closes_every_provider_also_after_one_that_fails_to() -> None:
    class Broken(Scripted):
        async def close(self) -> None:
            await super().close()
            raise RuntimeError

    providers = [Broken(), Scripted()]
    await Catalog(providers, MODEL).close()
    assert all(provider.closed for provider in providers)
