"""Any stream that a tolerant reader could read becomes a response."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import Phase, given, settings

from app.main import create_app
from tests.memory import Memory
from tests.unit.properties.provider_streams import MODEL, Endpoint, Stream, endpoint, streams
from tests.unit.serving import quick, serving

pytestmark = pytest.mark.slow

_BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


class _Gateway:
    """The service in front of an endpoint, in an event loop that lives as long as the test."""

    def __init__(self, runner: asyncio.Runner, client: httpx2.AsyncClient, model: Endpoint) -> None:
        self._runner = runner
        self._client = client
        self._model = model

    def ask(self, sent: Stream, **parameters: Any) -> httpx2.Response:
        self._model.stream = sent
        call = self._client.post("/v1/chat/completions", json={**_BODY, **parameters})
        return self._runner.run(asyncio.wait_for(call, 20))


@pytest.fixture(scope="module")
def gateway() -> Iterator[_Gateway]:
    with asyncio.Runner() as runner:
        ended, ready = asyncio.Event(), asyncio.Event()
        found: list[Any] = []

        async def serve() -> None:
            async with endpoint() as model:
                settings = quick(
                    openai_base_url=f"http://{model.address}/v1",
                    openai_models=[MODEL],
                    openai_max_retries=0,
                )
                async with (
                    serving(create_app(settings, providers=Memory().providers)) as server,
                    httpx2.AsyncClient(base_url=f"http://{server}") as client,
                ):
                    found[:] = [client, model]
                    ready.set()
                    await ended.wait()

        async def start() -> asyncio.Task[None]:
            task = asyncio.create_task(serve())
            await asyncio.wait_for(ready.wait(), 20)
            return task

        async def stop(task: asyncio.Task[None]) -> None:
            ended.set()
            await asyncio.wait_for(task, 20)

        task = runner.run(start())
        yield _Gateway(runner, *found)
        runner.run(stop(task))


# Without shrinking: it asks the service for longer than the test may take.
@settings(phases=[Phase.generate])
@given(stream=streams())
def test_stream_becomes_a_stream(gateway: _Gateway, stream: Stream) -> None:
    expected = stream.expected
    response = gateway.ask(stream, stream=True, stream_options={"include_usage": True})
    assert response.status_code == 200, response.text
    *events, last = response.text.removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks), chunks
    assert all({"id", "model"} <= chunk.keys() for chunk in chunks), chunks
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    deltas = [choice["delta"] for choice in choices]
    assert _joined(deltas, "content") == expected.text
    reasoning = _joined(deltas, "reasoning_content") + _joined(deltas, "reasoning")
    assert sorted(reasoning) == sorted(expected.reasoning)
    assert _joined(deltas, "refusal") == expected.refusal
    assert _arguments(deltas) == expected.arguments
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert set(reasons) == {expected.finish_reason}
    if expected.usage:
        usage = next(chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage"))
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        assert counts == expected.usage


# Without shrinking: it asks the service for longer than the test may take.
@settings(phases=[Phase.generate])
@given(stream=streams())
def test_stream_is_accepted_for_a_whole_response(gateway: _Gateway, stream: Stream) -> None:
    """Some endpoints stream whether or not they were asked to."""
    expected = stream.expected
    response = gateway.ask(stream)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["object"] == "chat.completion"
    choice = body["choices"][0]
    assert (choice["message"]["content"] or "") == expected.text
    assert (choice["message"].get("refusal") or "") == expected.refusal
    assert _arguments([choice["message"]]) == expected.arguments
    assert choice["finish_reason"] == expected.finish_reason
    if expected.usage:
        usage = body["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == expected.usage


def _joined(deltas: list[dict[str, Any]], name: str) -> str:
    return "".join(delta.get(name) or "" for delta in deltas)


def _arguments(messages: list[dict[str, Any]]) -> str:
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    return "".join(call["function"]["arguments"] for call in calls)
