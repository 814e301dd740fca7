"""Liveness, readiness and models."""

import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import load_settings
from tests.memory import Memory
from tests.unit.serving import quick


@pytest.fixture
def client(memory: Memory) -> TestClient:
    # Not entered: it has not started.
    return TestClient(create_app(quick(), providers=memory.providers))


def test_it_is_ready_from_the_end_of_its_start_until_its_shutdown(client: TestClient) -> None:
    assert client.get("/readyz").status_code == 503
    with client:
        assert client.get("/readyz").json() == {"status": "ready"}
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "not_ready"


def test_it_is_alive_before_it_is_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_model_with_a_slash_in_its_name_is_found(memory: Memory) -> None:
    settings = quick(openai_models=("org/m",), openai_api_key="k", default_model="simulated-1")
    with TestClient(create_app(settings, providers=memory.providers)) as client:
        assert client.get("/v1/models/org/m").json()["id"] == "org/m"
        assert client.get("/v1/models/org%2Fm").json()["owned_by"] == "openai"


def test_model_without_a_price_has_no_pricing(memory: Memory) -> None:
    settings = quick(openai_models=("house-made",), openai_api_key="k")
    with TestClient(create_app(settings, providers=memory.providers)) as client:
        assert all("pricing" not in model for model in client.get("/v1/models").json()["data"])


def test_models_say_their_context_and_whether_they_are_for_embeddings(
    memory: Memory, tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    file.write_text("""
[[providers]]
name = "p"
simulated = {}

    [[providers.models]]
    name = "large"
    context_tokens = 200_000

    [[providers.models]]
    name = "text-EMBEDding-1"

    [[providers.models]]
    name = "vectors"
    embeddings = true

    [[providers.models]]
    name = "embedded-systems-chat"
    embeddings = false
""")
    settings = load_settings({"MODELS_FILE": str(file), "ALLOWED_HOSTS": "testserver"})
    with TestClient(create_app(settings, providers=memory.providers)) as client:
        models = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert {name: model.get("context_length") for name, model in models.items()} == {
        **dict.fromkeys(models),
        "large": 200_000,
    }
    for_embeddings = {"output_modalities": ["embeddings"]}
    assert {
        name: model["architecture"] for name, model in models.items() if "architecture" in model
    } == {
        "text-EMBEDding-1": for_embeddings,
        "vectors": for_embeddings,
    }


def test_models_have_the_shape_of_openai(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    [model] = listed["data"]
    assert abs(model["created"] - time.time()) < 600
    assert model == {
        "id": "simulated-1",
        "object": "model",
        "created": model["created"],
        "owned_by": "simulated",
        "pricing": {"prompt": "0.0000005", "completion": "0.0000015"},
    }
    assert listed == {"object": "list", "data": [model]}
    assert client.get("/v1/models/simulated-1").json() == model
