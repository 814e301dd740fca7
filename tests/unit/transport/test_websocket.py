"""WS /ws/chat, through the real `websockets` client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from app.domain.provider import ProviderError
from app.main import create_app
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted, catalog_of
from tests.unit.serving import quick, serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_LISTED = "https://chat.example"


class _Talk:
    """One connection, in JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def ask(self, content: str = "hello", **more: Any) -> None:
        await self.say(type="message", content=content, **more)

    async def hear(self) -> dict[str, Any]:
        heard = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
        assert isinstance(heard, dict)
        return heard

    async def hear_turn(self) -> tuple[str, dict[str, Any]]:
        """The text of the deltas until the turn's last message, and that."""
        texts = []
        while (message := await self.hear())["type"] == "delta":
            texts.append(message["content"])
        return "".join(texts), message


@asynccontextmanager
async def _talk(
    memory: Memory, provider: Scripted | None = None, **settings: Any
) -> AsyncIterator[_Talk]:
    catalog = catalog_of(provider) if provider else None
    app = create_app(quick(**settings), catalog=catalog, providers=memory.providers)
    async with serving(app) as server, connect(f"ws://{server}/ws/chat", proxy=None) as socket:
        yield _Talk(socket)


async def test_an_answer_comes_in_pieces_and_ends_with_what_it_took(memory: Memory) -> None:
    async with _talk(memory) as talk:
        await talk.ask("three little words")
        text, done = await talk.hear_turn()
    assert text.startswith("(simulated) ")
    assert done["type"] == "done"
    assert done["model"] == "simulated-1"
    assert done["finish_reason"] == "stop"
    assert done["usage"]["prompt_tokens"] == 3
    assert done["usage"]["completion_tokens"] == len(text.split())
    assert done["cost"] > 0
    assert done["seconds"] >= 0
    assert done["trace_id"] == f"{memory.span('message /ws/chat').context.trace_id:032x}"


async def test_end_has_the_time_to_first_token_and_the_conversation(memory: Memory) -> None:
    async with _talk(memory) as talk:
        await talk.ask("hello")
        _, done = await talk.hear_turn()
        await talk.ask("hello", conversation_id="c-1")
        _, other = await talk.hear_turn()
    assert 0 <= done["first_token_seconds"] <= done["seconds"]
    spans = [span for span in memory.spans if span.name == "chat simulated-1"]
    recorded = [(span.attributes or {})["gen_ai.conversation.id"] for span in spans]
    assert recorded == [done["conversation_id"], other["conversation_id"]]
    assert other["conversation_id"] == "c-1"


async def test_acceptance_is_reported_on_request(memory: Memory) -> None:
    async with _talk(memory, Scripted("a", END)) as talk:
        await talk.ask("hello", acknowledge=True)
        accepted = await talk.hear()
        _, done = await talk.hear_turn()
    assert accepted == {
        "type": "accepted",
        "model": MODEL,
        "conversation_id": done["conversation_id"],
        "trace_id": done["trace_id"],
    }


async def test_history_of_a_message_replaces_the_memory(memory: Memory) -> None:
    provider = Scripted("a", END)
    turns = [{"question": f"q{number}", "response": f"r{number}"} for number in range(3)]
    async with _talk(memory, provider, history_messages=4) as talk:
        await talk.ask("one")
        await talk.hear_turn()
        await talk.ask("two", history=[*turns, {"question": "unanswered", "response": ""}])
        await talk.hear_turn()
        await talk.ask("three", history=[])
        await talk.hear_turn()
        await talk.ask("four")
        await talk.hear_turn()
    asked = [[message["content"] for message in request.messages] for request in provider.requests]
    assert asked == [["one"], ["q1", "r1", "q2", "r2", "two"], ["three"], ["three", "a", "four"]]
    assert memory.value("chatscope.limit.reached", chatscope__limit="history_messages") == 2
    assert memory.value("message_count", role="user") == 4


async def test_system_prompt_and_temperature_are_passed_on(memory: Memory) -> None:
    provider = Scripted("a", END)
    async with _talk(memory, provider) as talk:
        await talk.ask("one", system="Be brief.", temperature=0)
        await talk.hear_turn()
        await talk.ask("two", system=None)
        await talk.hear_turn()
    first, second = (request.body for request in provider.requests)
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert first["temperature"] == 0
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert "temperature" not in second
    assert memory.value("message_count", role="system") == 1


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("temperature", -1, "greater than or equal to 0 (got -1)"),
        ("temperature", "1", "valid number (got '1')"),
        ("system", 1, "valid string (got 1)"),
        ("conversation_id", "", "at least 1 character (got '')"),
        ("conversation_id", "x" * 257, "at most 256 characters"),
        ("history", {}, "it must be a list"),
        ("history", [{"question": "a"}], "it is required"),
        ("acknowledge", 1, "valid boolean (got 1)"),
    ],
)
async def test_invalid_field_of_a_message_is_refused(
    memory: Memory, field: str, value: object, problem: str
) -> None:
    async with _talk(memory) as talk:
        await talk.ask("hello", **{field: value})
        _, error = await talk.hear_turn()
    assert error["error"]["code"] == "invalid_request"
    assert error["error"]["param"].partition(".")[0] == field
    assert problem in error["error"]["message"]


async def test_system_prompt_has_the_limit_of_a_message(memory: Memory) -> None:
    async with _talk(memory, max_message_chars=5) as talk:
        await talk.ask("hello", system="longer")
        _, error = await talk.hear_turn()
    assert error["error"]["code"] == "too_many_message_chars"
    assert "the system has 6 characters, the maximum is 5" in error["error"]["message"]


async def test_a_connection_remembers_and_another_does_not(memory: Memory) -> None:
    provider = Scripted("a", END)
    catalog = catalog_of(provider)
    app = create_app(quick(), catalog=catalog, providers=memory.providers)
    async with serving(app) as server:
        for questions in (["one", "two"], ["three"]):
            async with connect(f"ws://{server}/ws/chat", proxy=None) as socket:
                talk = _Talk(socket)
                for question in questions:
                    await talk.ask(question)
                    await talk.hear_turn()
    asked = [[message["content"] for message in request.messages] for request in provider.requests]
    assert asked == [["one"], ["one", "a", "two"], ["three"]]


async def test_memory_is_bounded(memory: Memory) -> None:
    provider = Scripted("a", END)
    async with _talk(memory, provider, history_messages=2) as talk:
        for question in ("one", "two", "three"):
            await talk.ask(question)
            await talk.hear_turn()
    assert [m["content"] for m in provider.requests[-1].messages] == ["two", "a", "three"]


async def test_a_cancel_ends_the_answer_and_what_came_is_remembered(memory: Memory) -> None:
    provider = Scripted("half", asyncio.Event(), END)
    async with _talk(memory, provider) as talk:
        await talk.ask("one")
        assert await talk.hear() == {"type": "delta", "content": "half"}
        await talk.say(type="cancel")
        _, done = await talk.hear_turn()
        assert (done["type"], done["finish_reason"]) == ("done", "cancelled")
        assert provider.left.is_set()
        await talk.ask("two")
        assert (await talk.hear())["type"] == "delta"
        await talk.say(type="cancel")
        await talk.hear_turn()
    assert [m["content"] for m in provider.requests[1].messages] == ["one", "half", "two"]
    assert memory.value("message_count", role="assistant") == 2


async def test_a_cancel_right_behind_its_question_is_answered_too(memory: Memory) -> None:
    async with _talk(memory, Scripted(asyncio.Event(), END)) as talk:
        await talk.ask()
        await talk.say(type="cancel")
        await talk.say(type="cancel")
        _, done = await talk.hear_turn()
        assert done["finish_reason"] == "cancelled"
        await talk.say(type="ping")
        assert await talk.hear() == {"type": "pong"}


async def test_a_cancel_without_an_answer_does_nothing(memory: Memory) -> None:
    async with _talk(memory) as talk:
        await talk.say(type="cancel")
        await talk.say(type="ping")
        assert await talk.hear() == {"type": "pong"}


async def test_a_ping_is_answered_during_an_answer(memory: Memory) -> None:
    release = asyncio.Event()
    async with _talk(memory, Scripted("a", release, "b", END)) as talk:
        await talk.ask()
        assert (await talk.hear())["type"] == "delta"
        await talk.say(type="ping")
        assert await talk.hear() == {"type": "pong"}
        release.set()
        text, done = await talk.hear_turn()
    assert (text, done["type"]) == ("b", "done")


async def test_a_question_during_an_answer_is_refused_and_the_answer_goes_on(
    memory: Memory,
) -> None:
    release = asyncio.Event()
    provider = Scripted("a", release, "b", END)
    async with _talk(memory, provider) as talk:
        await talk.ask()
        assert (await talk.hear())["type"] == "delta"
        await talk.ask("me too")
        assert (await talk.hear())["error"]["code"] == "turn_in_progress"
        release.set()
        text, done = await talk.hear_turn()
    assert (text, done["type"]) == ("b", "done")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "unknown_type", "type"),
        ('{"type": "shout"}', "unknown_type", "type"),
        (b"\x00", "binary_message", None),
        ('{"type": "message"}', "invalid_request", "content"),
        ('{"type": "message", "content": ["x"]}', "invalid_request", "content"),
        ('{"type": "message", "content": "x", "n": 2}', "invalid_request", "n"),
        ('{"type": "message", "content": "x", "model": "y"}', "model_not_found", "model"),
    ],
)
async def test_a_wrong_message_is_told_so_and_the_connection_goes_on(
    memory: Memory, sent: str | bytes, code: str, param: str | None
) -> None:
    async with _talk(memory) as talk:
        await talk.socket.send(sent)
        message = await talk.hear()
        assert message["type"] == "error"
        assert (message["error"]["code"], message["error"]["param"]) == (code, param)
        assert len(message["trace_id"]) == 32
        await talk.ask()
        assert (await talk.hear_turn())[1]["type"] == "done"
    assert memory.value("message_count", role="user") == 1


async def test_a_failing_provider_is_told_and_shows_on_the_turns_span(memory: Memory) -> None:
    async with _talk(memory, Scripted("a", ProviderError("timeout", "late"))) as talk:
        await talk.ask()
        text, message = await talk.hear_turn()
    assert text == "a"
    assert (message["type"], message["error"]["code"]) == ("error", "timeout")
    span = memory.span("message /ws/chat")
    assert span.status.status_code is StatusCode.ERROR
    assert message["trace_id"] == f"{span.context.trace_id:032x}"


async def test_our_bug_is_told_without_its_text(memory: Memory) -> None:
    async with _talk(memory, Scripted(ZeroDivisionError("a secret"))) as talk:
        await talk.ask()
        _, message = await talk.hear_turn()
    assert message["error"]["code"] == "internal_error"
    assert "secret" not in json.dumps(message)


async def test_a_client_that_leaves_gives_the_call_up(memory: Memory) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    async with _talk(memory, provider) as talk:
        await talk.ask()
        await talk.hear()
        await talk.socket.close()
        await asyncio.wait_for(provider.left.wait(), 30)
    memory.log("answer cancelled")


async def test_a_server_that_stops_ends_answer_and_connection(memory: Memory) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    async with _talk(memory, provider) as talk:
        await talk.ask()
        await talk.hear()
    assert provider.left.is_set()
    memory.log("answer cancelled")
    assert memory.span(f"chat {MODEL}")


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        (None, True),
        (_LISTED, True),
        ("http://{server}", True),
        ("https://{server}", True),
        ("https://other.example", False),
        ("https://chat.example:8443", False),
        ("null", False),
    ],
)
async def test_only_listed_pages_and_our_own_may_connect(
    memory: Memory, origin: str | None, accepted: bool
) -> None:
    app = create_app(quick(frontend_url=(_LISTED,)), providers=memory.providers)
    async with serving(app) as server:
        given: Any = origin and origin.format(server=server)
        call = connect(f"ws://{server}/ws/chat", origin=given, proxy=None)
        if accepted:
            async with call as socket:
                await socket.send('{"type": "ping"}')
                assert await socket.recv() == '{"type":"pong"}'
            return
        with pytest.raises(InvalidStatus) as caught:
            await call
    response = caught.value.response
    assert response.status_code == 403
    assert json.loads(response.body or b"")["error"]["code"] == "origin_not_allowed"
    assert memory.value("socket_connections") == 0


async def test_the_whole_turn_is_one_trace(memory: Memory) -> None:
    async with _talk(memory, Scripted("a", END)) as talk:
        await talk.ask()
        await talk.hear_turn()
    root = memory.span("message /ws/chat")
    for name in ("validate", "history", f"chat {MODEL}"):
        parent = memory.span(name).parent
        assert parent is not None
        assert parent.span_id == root.context.span_id, name
    assert root.links[0].context.span_id == memory.span("GET /ws/chat").context.span_id
