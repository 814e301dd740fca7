"""User, session, conversation and prompt of a request, in telemetry."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import pytest
from websockets.asyncio.client import connect

from app.domain.identity import Identity, clean
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted
from tests.unit.transport.live import live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_HELLO: Final = {"role": "user", "content": "hello"}
_BODIES: Final[Mapping[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": [_HELLO]},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"max_tokens": 20, "messages": [_HELLO]},
    "/v1/completions": {"prompt": "hello"},
}
_METADATA: Final = {
    "user_id": "user-7",
    "session_id": "session-7",
    "conversation_id": "conversation-7",
    "prompt_name": "greeting-7",
    "prompt_version": "version-7",
}
_SPAN_ONLY: Final = {"gen_ai.prompt.name": "greeting-7", "gen_ai.prompt.version": "version-7"}
_BOTH: Final = {
    "user.id": "user-7",
    "session.id": "session-7",
    "gen_ai.conversation.id": "conversation-7",
}


async def _ask(memory: Memory, path: str, headers: Mapping[str, str], **more: Any) -> None:
    async with live(memory, Scripted("a", END)) as service, httpx2.AsyncClient() as client:
        url, body = f"http://{service.address}{path}", {**_BODIES[path], **more}
        response = await client.post(url, json=body, headers=dict(headers))
        assert response.status_code == 200, response.text


def _attributes(memory: Memory, path: str) -> Mapping[str, Any]:
    operation = "text_completion" if path == "/v1/completions" else "chat"
    return memory.span(f"{operation} {MODEL}").attributes or {}


@pytest.mark.parametrize("path", _BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_metadata_is_on_span_and_log_record_and_not_on_metrics(
    memory: Memory, path: str, stream: bool
) -> None:
    await _ask(memory, path, {}, metadata=_METADATA, stream=stream)
    assert _attributes(memory, path).items() >= {**_BOTH, **_SPAN_ONLY}.items()
    logged = memory.log("answer completed").log_record.attributes or {}
    assert dict(logged).items() >= _BOTH.items()
    metrics = memory.metrics()
    assert "gen_ai.client.inference.duration" in metrics
    for metric in metrics.values():
        for point in metric.data.data_points:
            assert not (point.attributes or {}).keys() & {*_BOTH, *_SPAN_ONLY}, metric.name
            values = (point.attributes or {}).values()
            assert not [value for value in values if str(value).endswith("-7")], metric.name


@pytest.mark.parametrize("path", _BODIES)
async def test_headers_take_precedence(memory: Memory, path: str) -> None:
    headers = {"x-user-id": "u", "x-session-id": "s", "x-conversation-id": "c"}
    await _ask(memory, path, headers, metadata=_METADATA)
    expected = {"user.id": "u", "session.id": "s", "gen_ai.conversation.id": "c"}
    assert _attributes(memory, path).items() >= expected.items()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
async def test_user_of_the_body_is_recorded(memory: Memory, path: str) -> None:
    await _ask(memory, path, {}, user="somebody", safety_identifier="hash")
    assert _attributes(memory, path)["user.id"] == "somebody"


async def test_headers_of_a_handshake_count_for_every_turn(memory: Memory) -> None:
    headers = {"x-user-id": "u", "x-session-id": "s", "x-conversation-id": "c"}
    async with (
        live(memory, Scripted("a", END)) as service,
        connect(service.socket_url, additional_headers=headers) as socket,
    ):
        await socket.send('{"type": "message", "content": "hello"}')
        while '"done"' not in str(await socket.recv()):
            pass
    found = _attributes(memory, "/ws/chat")
    assert (found["user.id"], found["session.id"]) == ("u", "s")
    connection = (memory.span("message /ws/chat").attributes or {})["chatscope.connection.id"]
    assert found["gen_ai.conversation.id"] == connection != "c"


async def test_parameters_of_the_request_are_recorded(memory: Memory) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    more = {"reasoning": {"effort": "low"}, "text": {"format": form}, "top_k": 4}
    await _ask(memory, "/v1/responses", {}, **more)
    expected = {
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.request.top_k": 4,
    }
    assert _attributes(memory, "/v1/responses").items() >= expected.items()


def test_user_is_that_of_the_first_place_that_has_one() -> None:
    body = {"user": "u", "safety_identifier": "s"}
    assert Identity.of(body, {"user_id": "m"}, {"x-user-id": "h"}).user_id == "h"
    assert Identity.of(body, {"user_id": "m"}, {"x-user-id": "\n"}).user_id == "m"
    assert Identity.of(body, {"user_id": 7}, {}).user_id == "u"
    assert Identity.of({**body, "user": ""}, {}, {}).user_id == "s"
    assert Identity.of({}, {}, {}) == Identity()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\x00\r\nb\x1b[0m\u2028\ud83d", "ab[0m"),
        ("  Grüezi 👋 ", "Grüezi 👋"),
        ("x" * 300, "x" * 256),
        ("x" * 256 + "\n", "x" * 256),
        ("\n", None),
        (["a"], None),
        (None, None),
    ],
)
def test_texts_are_shortened_and_have_no_control_characters(
    given: object, expected: str | None
) -> None:
    assert clean(given) == expected
