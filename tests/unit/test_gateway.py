"""`python -m app` with several providers: their requests, fallbacks, aliases and telemetry."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from app.main import create_app
from app.models_file import ModelsFile
from chatscope import names
from tests.memory import Memory
from tests.unit.endpoint import Endpoint, endpoint
from tests.unit.process import process, served
from tests.unit.serving import quick, serving

_QUESTION = {"messages": [{"role": "user", "content": "hello"}]}


def _file(directory: Path, text: str) -> Path:
    path = directory / "models.toml"
    path.write_text(text)
    return path


@pytest.fixture
def first() -> Iterator[Endpoint]:
    with endpoint("from the first") as started:
        yield started


@pytest.fixture
def second() -> Iterator[Endpoint]:
    with endpoint("from the second") as started:
        yield started


_TWO = """
[[providers]]
name = "first"
base_url = "{first}/v1"
api_key_env = "FIRST_KEY"
max_retries = 0
organization = "org-1"
project = "proj-1"
headers = {{ "X-Team" = "search" }}
query = {{ "region" = "eu" }}

    [[providers.models]]
    name = "small"
    upstream = "small-2026-08-07"
    aliases = ["fast", "vendor/fast"]
    fallbacks = ["deployed"]

[[providers]]
name = "azure.ai.openai"
base_url = "{second}"
api_key_file = "azure.key"
azure = {{ form = "deployments", api_version = "2024-10-21" }}

    [[providers.models]]
    name = "deployed"
    upstream = "my deployment"
"""


@pytest.mark.slow
def test_models_of_the_file_are_served_by_their_providers(
    tmp_path: Path, first: Endpoint, second: Endpoint
) -> None:
    (tmp_path / "azure.key").write_text("azure-secret\n")
    file = _file(tmp_path, _TWO.format(first=first.url, second=second.url))
    with process(MODELS_FILE=str(file), FIRST_KEY="first-secret") as started:
        url = served(started)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)

        owners = {model.id: model.owned_by for model in client.models.list()}
        assert list(owners.items()) == [
            *(("small", "first"), ("deployed", "azure.ai.openai"), ("simulated-1", "simulated")),
            *(("fast", "first"), ("vendor/fast", "first")),
        ]
        assert client.models.retrieve("vendor/fast").id == "vendor/fast"

        def ask(model: str) -> str:
            messages: Any = _QUESTION["messages"]
            answer = client.chat.completions.create(model=model, messages=messages)
            return answer.choices[0].message.content or ""

        assert ask("fast") == "from the first"
        assert first.targets == ["/v1/chat/completions?region=eu"]
        assert first.models == ["small-2026-08-07"]
        sent = {name: first.headers[name] for name in ("authorization", "x-team")}
        assert sent == {"authorization": "Bearer first-secret", "x-team": "search"}
        assert first.headers["openai-organization"] == "org-1"
        assert first.headers["openai-project"] == "proj-1"

        assert ask("deployed") == "from the second"
        assert second.targets == [
            "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
        ]
        assert second.headers["api-key"] == "azure-secret"
        assert "authorization" not in second.headers

        first.status = 503
        assert ask("small") == "from the second"
        first.status = 401
        assert ask("small") == "from the second"
        first.status = 400
        with pytest.raises(openai.BadRequestError):
            ask("small")
        assert len(second.requests) == 3


_V1 = """
[[providers]]
name = "azure.ai.openai"
base_url = "{url}/openai/v1/"
api_key_env = "KEY"
azure = {{ form = "v1" }}
models = [{{ name = "m" }}]
"""


@pytest.mark.slow
def test_newer_form_of_azure_has_no_deployment_in_the_url(tmp_path: Path, first: Endpoint) -> None:
    file = _file(tmp_path, _V1.format(url=first.url))
    # The official client would send these to every provider.
    openai_only = {"OPENAI_ORG_ID": "org-2", "OPENAI_PROJECT_ID": "proj-2"}
    with process(MODELS_FILE=str(file), KEY="azure-secret", **openai_only) as started:
        answer = httpx2.post(f"{served(started)}/v1/chat/completions", json=_QUESTION, timeout=20)
    assert answer.status_code == 200, answer.text
    assert (first.targets, first.models) == (["/openai/v1/chat/completions"], ["m"])
    assert first.headers["api-key"] == "azure-secret"
    unwanted = {"authorization", "openai-organization", "openai-project"}
    assert not unwanted & first.headers.keys()


@pytest.mark.slow
def test_problems_of_the_files_are_reported_with_all_others(tmp_path: Path) -> None:
    models = _file(tmp_path, '[[providers]]\nname = "a"\napi_key = "sk-planted"\nmodels = []\n')
    keys = tmp_path / "keys.toml"
    keys.write_text('[[keys]]\nname = "a b"\nsha256 = "sk-planted"\n')
    environ = {"MODELS_FILE": str(models), "KEYS_FILE": str(keys), "PORT": "x"}
    with process(**environ) as started:
        _, printed = started.communicate(timeout=240)
    assert started.returncode == 2
    for words in (
        "PORT=x is not accepted",
        f"MODELS_FILE={models}: providers[0] (a): models = [] is not accepted: give a list of at",
        f"MODELS_FILE={models}: providers[0] (a): api_key is unknown; known: name, base_url",
        f"KEYS_FILE={keys}: keys[0] (a b): name = 'a b' is not accepted: give a name of 1 to",
        f"KEYS_FILE={keys}: keys[0] (a b): sha256 = *** is not accepted: give the SHA-256",
    ):
        assert words in printed
    assert "sk-planted" not in printed


_SIMULATED = """
[[providers]]
name = "failing"
models = [{ name = "failing-1", fallbacks = ["steady-1"] }]
simulated = { error_rate = 1.0, answer_tokens = 1, first_token_seconds = 0 }

[[providers]]
name = "steady"
models = [{ name = "steady-1" }, { name = "steady-2" }]
simulated = { tokens_per_second = 0, first_token_seconds = 0 }
"""


@pytest.mark.anyio
async def test_telemetry_of_a_response_is_that_of_the_attempt_that_succeeded(
    tmp_path: Path, memory: Memory
) -> None:
    file = ModelsFile.read(_file(tmp_path, _SIMULATED), {}, others=frozenset({"simulated-1"}))
    app = create_app(quick(models_file=file), providers=memory.providers)
    async with serving(app) as address, httpx2.AsyncClient() as client:
        answer = await client.post(f"http://{address}/v1/chat/completions", json=_QUESTION)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "failing-1"

    [span] = [span for span in memory.spans if span.name == "chat steady-1"]
    assert span.attributes is not None
    assert span.attributes[names.GEN_AI_PROVIDER_NAME] == "steady"
    assert span.attributes[names.GEN_AI_REQUEST_MODEL] == "steady-1"
    assert span.attributes[names.REQUESTED_MODEL] == "failing-1"
    assert span.attributes[names.ATTEMPT] == 2
    assert span.status.is_unset
    calls = {
        (point.attributes[names.GEN_AI_PROVIDER_NAME], point.attributes.get(names.ERROR_TYPE))
        for point in memory.points(names.CLIENT_INFERENCE_DURATION.name)
    }
    assert calls == {("failing", "simulated_error"), ("steady", None)}
    models = {
        point.attributes[names.GEN_AI_REQUEST_MODEL]
        for point in memory.points(names.LLM_TOKEN_USAGE.name)
    }
    assert models == {"steady-1"}
    [line] = [line for line in memory.logs if line.log_record.body == "attempt failed"]
    assert line.log_record.attributes is not None
    about = dict(line.log_record.attributes)
    assert about[names.ATTEMPT] == 1
    assert about[names.GEN_AI_PROVIDER_NAME] == "failing"
    assert about[names.ERROR_TYPE] == "simulated_error"
    assert line.log_record.span_id == span.context.span_id
