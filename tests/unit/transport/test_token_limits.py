"""The limit on a request's tokens, in every wire format: without it, a client decides what a
response costs."""

from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from app.settings import SettingsError, load_settings
from tests.memory import Memory
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import Live, live

pytestmark = pytest.mark.anyio
_HELLO = {"role": "user", "content": "hello"}
_CHAT = "/v1/chat/completions"
_MESSAGES = {"messages": [_HELLO]}
_HIGHEST = 2**31 - 1


async def _post(service: Live, path: str, body: dict[str, Any]) -> httpx2.Response:
    url = f"http://{service.address}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        return await client.post(path, json=body)


def _error(body: dict[str, Any]) -> tuple[str, str, str]:
    error = body["error"]
    details = error.get("details") or {}
    return (
        error.get("code") or details["error_code"],
        error.get("param") or details["param"],
        error["message"],
    )


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (_CHAT, _MESSAGES | {"max_tokens": _HIGHEST}, "max_tokens"),
        (_CHAT, _MESSAGES | {"max_completion_tokens": 101}, "max_completion_tokens"),
        (_CHAT, _MESSAGES | {"max_completion_tokens": 1, "max_tokens": 101}, "max_tokens"),
        (_CHAT, _MESSAGES | {"max_tokens": 101.5, "stream": True}, "max_tokens"),
        (_CHAT, _MESSAGES | {"max_tokens": "1e9"}, "max_tokens"),
        (_CHAT, _MESSAGES | {"max_tokens": 10**4000, "n": 10**4000}, "max_tokens"),
        (_CHAT, _MESSAGES | {"max_tokens": 60, "n": 2}, "n"),
        (_CHAT, _MESSAGES | {"max_tokens": 60, "best_of": "2"}, "n"),
        (_CHAT, _MESSAGES | {"n": 101}, "n"),
        ("/v1/messages", _MESSAGES | {"max_tokens": 101}, "max_tokens"),
        ("/v1/responses", {"input": "hello", "max_output_tokens": 101}, "max_output_tokens"),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 101}, "max_tokens"),
        ("/v1/completions", {"prompt": "hello", "n": 7}, "n"),
    ],
)
async def test_a_request_for_more_tokens_is_refused_before_the_model_is_called(
    memory: Memory, path: str, body: dict[str, Any], param: str
) -> None:
    provider = Scripted("a", END)
    async with live(memory, provider, max_answer_tokens=100) as service:
        response = await _post(service, path, body)
    assert response.status_code == 400
    code, named, message = _error(response.json())
    assert (code, named) == ("too_many_answer_tokens", param)
    assert "the maximum is 100" in message
    assert not provider.requests
    assert memory.value("chatscope.limit.reached", chatscope__limit="answer_tokens") == 1


@pytest.mark.parametrize(
    "body", [{"max_tokens": 100}, {"max_tokens": 50, "n": 2}, {"max_tokens": -1}, {}, {"n": 3}]
)
async def test_a_request_up_to_the_ceiling_is_forwarded_as_it_is(
    memory: Memory, body: dict[str, Any]
) -> None:
    provider = Scripted("a", END)
    async with live(memory, provider, max_answer_tokens=100) as service:
        response = await _post(service, _CHAT, _MESSAGES | body)
    assert response.status_code == 200
    assert provider.requests[0].body == _MESSAGES | body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"max_completion_tokens": 40}),
        ({"max_tokens": None}, {"max_completion_tokens": 40}),
        ({"max_tokens": -1}, {"max_completion_tokens": 40}),
        ({"max_completion_tokens": 0}, {"max_completion_tokens": 40}),
        ({"max_tokens": 90}, {"max_tokens": 90}),
        ({"n": 2}, {"n": 2, "max_completion_tokens": 40}),
    ],
)
async def test_a_request_without_a_limit_gets_the_default(
    memory: Memory, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    provider = Scripted("a", END)
    async with live(memory, provider, max_answer_tokens=100, default_answer_tokens=40) as service:
        response = await _post(service, _CHAT, _MESSAGES | body)
    assert response.status_code == 200
    sent = {name: value for name, value in provider.requests[0].body.items() if value is not None}
    assert sent == _MESSAGES | expected


async def test_choices_count_with_the_default(memory: Memory) -> None:
    async with live(
        memory, Scripted("a", END), max_answer_tokens=100, default_answer_tokens=40
    ) as service:
        response = await _post(service, _CHAT, _MESSAGES | {"n": 3})
    assert response.status_code == 400
    assert _error(response.json())[:2] == ("too_many_answer_tokens", "n")


async def test_a_socket_has_the_default_and_no_way_around_it(memory: Memory) -> None:
    provider = Scripted("a", END)
    settings = {"max_answer_tokens": 100, "default_answer_tokens": 40}
    async with (
        live(memory, provider, **settings) as service,
        connect(f"ws://{service.address}/ws/chat", proxy=None) as socket,
    ):
        await socket.send('{"type": "message", "content": "hello", "max_tokens": 1000}')
        assert '"code":"invalid_request"' in str(await socket.recv())
        assert not provider.requests
        await socket.send('{"type": "message", "content": "hello"}')
        await socket.recv()
    assert provider.requests[0].token_limit == 40


def test_default_above_the_ceiling_aborts_the_start() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"MAX_ANSWER_TOKENS": "100", "DEFAULT_ANSWER_TOKENS": "101"})
    assert "MAX_ANSWER_TOKENS is 100" in caught.value.problems[0]


def test_a_ceiling_holds_without_any_setting() -> None:
    assert load_settings({}).max_answer_tokens < _HIGHEST
