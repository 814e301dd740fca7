"""POST /v1/embeddings: relayed as it is, and recorded."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.domain.embedding import Embedded
from app.main import create_app
from chatscope import names
from chatscope.genai import Usage
from tests.memory import Memory
from tests.unit.scripted import END, Scripted, catalog_of
from tests.unit.serving import quick, serving

pytestmark = pytest.mark.anyio
_URL = "/v1/embeddings"
_MODEL = "gpt-4o-mini"  # one that has a price
_BODY = b'{ "object":"list","data":[{"index":0,"embedding":[0.1]}],"model":"m-2026",'
_BODY += b'"usage":{"prompt_tokens":100,"total_tokens":100},"new":1 }'


async def _ask(
    memory: Memory, answer: Callable[[], Response], **parameters: Any
) -> tuple[httpx2.Response, list[Any]]:
    """Ask the service, whose endpoint gives that answer; the response, and what it was asked."""
    asked: list[Any] = []

    async def endpoint(request: Request) -> Response:
        asked.append(await request.json())
        return answer()

    upstream = Starlette(routes=[Route(_URL, endpoint, methods=["POST"])])
    async with serving(upstream) as address:
        settings = quick(
            openai_base_url=f"http://{address}/v1",
            openai_models=_MODEL,
            openai_api_key="sk-secret",
            openai_max_retries=0,
        )
        app = create_app(settings, providers=memory.providers, shutdown_with_app=False)
        async with (
            serving(app) as server,
            httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False) as client,
        ):
            response = await client.post(_URL, json={"input": "a b", **parameters})
    return response, asked


async def test_response_is_relayed_and_recorded(memory: Memory) -> None:
    headers = {"x-request-id": "r-1"}
    response, asked = await _ask(
        memory, lambda: Response(_BODY, 200, headers), dimensions=8, model=None, new=[1]
    )
    assert (response.status_code, response.content) == (200, _BODY)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"] == "r-1"
    assert asked == [{"input": "a b", "dimensions": 8, "model": _MODEL, "new": [1]}]
    span = memory.span(f"embeddings {_MODEL}")
    attributes = span.attributes or {}
    assert span.kind is SpanKind.CLIENT
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == response.headers["x-trace-id"]
    assert attributes[names.GEN_AI_USAGE_INPUT_TOKENS] == 100
    assert attributes[names.GEN_AI_RESPONSE_MODEL] == "m-2026"
    assert attributes[names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT] == 8
    assert memory.value("llm_token_usage", type="prompt") == 100
    assert memory.value("llm_cost") > 0


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (lambda: JSONResponse({"error": {"message": "x", "code": "long"}}, 400), 400, "long"),
        (lambda: JSONResponse({"error": {"message": "x"}}, 401), 502, "authentication"),
        (lambda: JSONResponse({"error": {"message": "x"}}), 502, "server_error"),
        (lambda: JSONResponse([{"error": {"code": 429}}]), 429, "rate_limit_exceeded"),
        (lambda: JSONResponse({"data": 5}), 502, "bad_response"),
        (lambda: Response(b"<html>"), 502, "bad_response"),
        (lambda: Response(b""), 502, "bad_response"),
    ],
)  # fmt: skip
async def test_failure_of_the_endpoint_is_reported_and_recorded(
    memory: Memory, answer: Callable[[], Response], status: int, code: str
) -> None:
    response, _ = await _ask(memory, answer)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert error["trace_id"] == response.headers["x-trace-id"]
    span = memory.span(f"embeddings {_MODEL}")
    assert not span.status.is_ok
    memory.log("embeddings failed")


async def test_endpoint_that_is_silent_is_stalled(memory: Memory) -> None:
    class Silent(Scripted):
        async def embed(self, request: object) -> None:
            await asyncio.Event().wait()

    app = create_app(
        quick(), catalog=catalog_of(Silent(), stall_seconds=0.05), providers=memory.providers
    )
    async with (
        serving(app) as server,
        httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False) as client,
    ):
        response = await client.post(_URL, json={"input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "stalled")


async def test_model_without_embeddings_is_refused(memory: Memory) -> None:
    app = create_app(quick(), catalog=catalog_of(Scripted(END)), providers=memory.providers)
    async with (
        serving(app) as server,
        httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False) as client,
    ):
        response = await client.post(_URL, json={"input": "a"})
    assert response.status_code == 400
    assert json.loads(response.content)["error"]["param"] == "model"
    assert [span.name for span in memory.spans if span.name.startswith("embeddings")] == []


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"input": ["a"] * 2_048}, True),
        ({"input": ["a"] * 2_049}, False),
        ({"input": ["a"] * 128, "dimensions": 4_096}, True),
        ({"input": ["a"] * 129, "dimensions": 4_096}, False),
        ({"input": ["a " * 50_001] * 6}, False),
    ],
)
async def test_embeddings_of_the_simulated_model_are_limited(
    memory: Memory, body: dict[str, Any], accepted: bool
) -> None:
    app = create_app(quick(max_request_chars=1_000_000), providers=memory.providers)
    async with (
        serving(app) as server,
        httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False) as client,
    ):
        response = await client.post(_URL, json=body)
    if accepted:
        found = response.json()
        assert [each["index"] for each in found["data"]] == list(range(len(body["input"])))
        assert found["usage"] == {
            "prompt_tokens": len(body["input"]),
            "total_tokens": len(body["input"]),
        }
    else:
        assert (response.status_code, response.json()["error"]["param"]) == (400, "input")


async def test_embeddings_of_the_simulated_model_delay_no_other_request(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def slow(_: object) -> Embedded:
        assert over.wait(30)
        return Embedded(raw=b"{}", usage=Usage(1), response_model=None)

    monkeypatch.setattr("app.providers.simulated.embedded", slow)
    app = create_app(quick(), providers=memory.providers)
    async with (
        serving(app) as server,
        httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False) as client,
    ):
        waiting = asyncio.create_task(client.post(_URL, json={"input": "a"}))
        await asyncio.sleep(0.2)
        assert (await client.get("/healthz")).status_code == 200
        assert not waiting.done()
        over.set()
        assert (await waiting).status_code == 200
