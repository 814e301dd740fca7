"""POST /v1/chat/completions on the wire, and in telemetry."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from app.domain.provider import ProviderError
from app.main import create_app
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted, catalog_of
from tests.unit.serving import quick, serving

pytestmark = pytest.mark.anyio
_URL = "/v1/chat/completions"
_ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def _app(memory: Memory, provider: Scripted, **settings: Any) -> Any:
    catalog = catalog_of(provider)
    return create_app(quick(**settings), catalog=catalog, providers=memory.providers)


def _client(server: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{server}", trust_env=False, timeout=30)


async def _post(memory: Memory, provider: Scripted, **request: Any) -> httpx2.Response:
    app = _app(memory, provider, max_body_bytes=2048)
    async with serving(app) as server, _client(server) as client:
        return await client.post(_URL, **request)


def _events(body: bytes) -> list[Any]:
    assert body.endswith(b"\n\n")
    lines = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


async def test_a_stream_is_role_text_end_usage_done(memory: Memory) -> None:
    options = {"include_usage": True}
    provider = Scripted("Hé\n", "llo", END)
    ask = {**_ASK, "stream": True, "stream_options": options}
    response = await _post(memory, provider, json=ask)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    *chunks, usage, done = _events(response.content)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Hé\n"},
        {"content": "llo"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert {chunk["object"] for chunk in [*chunks, usage]} == {"chat.completion.chunk"}
    assert done == "[DONE]"


async def test_without_being_asked_a_stream_tells_no_usage(memory: Memory) -> None:
    response = await _post(memory, Scripted("a", END), json={**_ASK, "stream": True})
    *chunks, done = _events(response.content)
    assert done == "[DONE]"
    assert all("usage" not in chunk for chunk in chunks)


async def test_an_error_on_the_way_is_the_last_event(memory: Memory) -> None:
    error = ProviderError("timeout", "late")
    response = await _post(memory, Scripted("a", error), json={**_ASK, "stream": True})
    assert response.status_code == 200
    told = _events(response.content)[-1]["error"]
    assert told["code"] == "timeout"
    assert told["trace_id"] == response.headers["x-trace-id"]


async def test_a_request_without_model_goes_to_the_default_one(memory: Memory) -> None:
    provider = Scripted("a", END)
    response = await _post(memory, provider, json={"messages": _ASK["messages"]})
    assert response.json()["model"] == MODEL
    assert provider.requests[0].model == MODEL


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"json": {**_ASK, "user": "x" * 2048}}, 413, "request_too_large"),
        ({"content": b"{}"}, 415, "unsupported_media_type"),
        ({"data": {"a": "b"}}, 415, "unsupported_media_type"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
        ({"json": {**_ASK, "stream": 1}}, 400, "invalid_request"),
        ({"json": {**_ASK, "model": "x"}}, 404, "model_not_found"),
    ],
)
async def test_a_wrong_request_never_reaches_the_model(
    memory: Memory, request_: dict[str, Any], status: int, code: str
) -> None:
    provider = Scripted("a", END)
    response = await _post(memory, provider, **request_)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert error["trace_id"] == response.headers["x-trace-id"]
    assert provider.requests == []
    assert memory.value("message_count") == 0


async def test_a_body_without_length_is_read_no_further_than_its_limit(memory: Memory) -> None:
    async def body() -> Any:
        for _ in range(3):
            yield b" " * 1024

    headers = {"content-type": "application/json"}
    response = await _post(memory, Scripted(), content=body(), headers=headers)
    assert response.status_code == 413


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_gives_the_call_up(memory: Memory, stream: bool) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    async with serving(_app(memory, provider)) as server, _client(server) as client:
        call = asyncio.create_task(client.post(_URL, json={**_ASK, "stream": stream}))
        await asyncio.wait_for(provider.asked.wait(), 30)
        call.cancel()
        await asyncio.wait({call})
        await asyncio.wait_for(provider.left.wait(), 30)
    memory.log("answer cancelled")
    assert memory.span(f"chat {MODEL}")


async def test_the_whole_turn_is_one_trace(memory: Memory) -> None:
    response = await _post(memory, Scripted("a", END), json=_ASK)
    root = memory.span(f"POST {_URL}")
    for name in ("validate", "history", f"chat {MODEL}"):
        parent = memory.span(name).parent
        assert parent is not None
        assert parent.span_id == root.context.span_id, name
    assert response.headers["x-trace-id"] == f"{root.context.trace_id:032x}"


async def test_only_new_messages_are_counted(memory: Memory) -> None:
    roles = ["system", "user", "assistant", "user"]
    messages = [{"role": role, "content": "x"} for role in roles]
    await _post(memory, Scripted("a", END), json={**_ASK, "messages": messages})
    counted = {role: memory.value("message_count", role=role) for role in set(roles)}
    assert counted == {"system": 0, "user": 1, "assistant": 1}


async def test_user_session_and_conversation_are_on_the_span_and_its_log_record_only(
    memory: Memory,
) -> None:
    metadata = {"session_id": "s-1", "conversation_id": "c-2", "user_id": 5}
    ask = {**_ASK, "user": "u" * 300, "metadata": metadata}
    headers = {"x-conversation-id": "c-1"}
    await _post(memory, Scripted("a", END), json=ask, headers=headers)
    expected = {"user.id": "u" * 256, "session.id": "s-1", "gen_ai.conversation.id": "c-1"}
    record = memory.log("answer completed").log_record
    for attributes in (memory.span(f"chat {MODEL}").attributes, record.attributes):
        assert expected.items() <= dict(attributes or {}).items()
    for name in memory.metrics():
        assert not any(expected.keys() & point.attributes.keys() for point in memory.points(name))
