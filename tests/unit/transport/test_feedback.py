"""POST /v1/feedback, over a real socket."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from app.domain.provider import Event
from app.domain.request import ChatRequest
from app.keys.file import Key, KeysFile
from app.keys.keyring import digest_of
from app.settings import SIMULATED_MODEL
from chatscope import names
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted
from tests.unit.transport.live import URL, Live, live

pytestmark = pytest.mark.anyio
_FEEDBACK = "/v1/feedback"
_QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
_TRACE = "0af7651916cd43dd8448eb211c80319c"


def _client(service: Live) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{service.address}", trust_env=False)


async def test_rating_of_a_response_is_on_its_trace(memory: Memory) -> None:
    async with live(memory, Scripted("hello", END)) as service, _client(service) as client:
        asked = await client.post(URL, json=_QUESTION)
        trace = asked.headers["x-trace-id"]
        rated = await client.post(_FEEDBACK, json={"trace_id": trace, "label": "bad"})
    assert rated.status_code == 201, rated.text
    assert rated.json() == {
        "object": "feedback",
        "response_id": None,
        "trace_id": trace,
        "label": "bad",
        "known": True,
    }
    assert rated.headers["x-trace-id"] != trace
    record = memory.log(names.EVENT_EVALUATION).log_record
    span = memory.span(f"chat {MODEL}").context
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert f"{span.trace_id:032x}" == trace
    evaluation = memory.span("evaluate response")
    assert evaluation.parent is not None
    assert evaluation.parent.span_id == span.span_id
    assert evaluation.context.trace_id == span.trace_id
    assert memory.value(names.FEEDBACK.name, chatscope__feedback__label="bad") == 1


class _Lingering(Scripted):
    """Is not done with a response when the client has it."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        try:
            async for event in super().stream(request):
                yield event
        finally:
            await asyncio.sleep(1.0)


async def test_response_can_be_rated_as_soon_as_the_client_has_it(memory: Memory) -> None:
    async with live(memory, _Lingering("hello", END)) as service, _client(service) as client:
        asked = await client.post(URL, json=_QUESTION)
        assert not [record for record in memory.logs if "answer" in str(record.log_record.body)]
        rating = {"trace_id": asked.headers["x-trace-id"], "label": "bad"}
        rated = await client.post(_FEEDBACK, json=rating)
    assert rated.json()["known"]


async def test_response_is_found_by_the_id_in_its_body(memory: Memory) -> None:
    async with live(memory, Scripted("hello", END)) as service, _client(service) as client:
        await client.post(URL, json=_QUESTION)
        rated = await client.post(_FEEDBACK, json={"response_id": END.response_id, "score": 1})
    assert rated.json()["known"]
    assert rated.json()["label"] == "good"


_TEXT_BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {**_QUESTION, "max_tokens": 9},
}


@pytest.mark.parametrize("path", _TEXT_BODIES)
async def test_response_of_every_format_is_found_by_its_id_in_any_process(
    memory: Memory, path: str
) -> None:
    body = {"model": MODEL, **_TEXT_BODIES[path]}
    async with live(memory, Scripted("hello", END)) as service, _client(service) as client:
        asked = [await client.post(path, json=body) for _ in range(2)]
        ids = [each.json()["id"] for each in asked]
        assert len(set(ids)) == 2
        rated = await client.post(_FEEDBACK, json={"response_id": ids[0], "label": "bad"})
    assert rated.json()["known"]
    other = Memory()
    async with live(other, Scripted(END)) as service, _client(service) as client:
        again = await client.post(_FEEDBACK, json={"response_id": ids[0], "label": "bad"})
    assert not again.json()["known"]
    for each in (memory, other):
        record = each.log(names.EVENT_EVALUATION).log_record
        assert f"{record.trace_id:032x}" == asked[0].headers["x-trace-id"]
        evaluation = each.span("evaluate response")
        assert evaluation.parent is not None
        assert (evaluation.parent.trace_id, evaluation.parent.span_id) == (
            record.trace_id,
            record.span_id,
        )


async def test_ratings_of_each_model_begin_at_zero(memory: Memory) -> None:
    async with live(memory):
        points = memory.points(names.FEEDBACK.name)
    found = {
        (point.attributes["gen_ai.request.model"], point.attributes["chatscope.feedback.label"])
        for point in points
        if point.value == 0
    }
    assert found == {(SIMULATED_MODEL, label) for label in ("good", "bad", "other")}


@pytest.mark.parametrize(
    ("body", "param", "text"),
    [
        ({"label": "good"}, "trace_id", "it is required, unless there is a response_id"),
        ({"trace_id": _TRACE}, "label", "it is required, unless there is a score"),
        ({"trace_id": "x", "label": "good"}, "trace_id", "32 lowercase hex digits"),
        ({"trace_id": _TRACE, "score": 5}, "score", "from 0 (bad) to 1 (good) (got 5)"),
        ({"trace_id": _TRACE, "label": "good", "rating": 1}, "rating", "accepted are label,"),
        ([], None, "it must be an object"),
    ],
)
async def test_invalid_rating_names_the_field_and_what_is_accepted(
    memory: Memory, body: Any, param: str | None, text: str
) -> None:
    async with live(memory, Scripted(END)) as service, _client(service) as client:
        refused = await client.post(_FEEDBACK, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert text in error["message"]
    assert all(point.value == 0 for point in memory.points(names.FEEDBACK.name))


async def test_rating_needs_a_key_where_responses_do(memory: Memory) -> None:
    keys = KeysFile(keys=[Key(name="ann", sha256=digest_of("secret").hex())])
    body = json.dumps({"trace_id": _TRACE, "label": "good"})
    headers = {"content-type": "application/json"}
    async with (
        live(memory, Scripted(END), keys_file=keys) as service,
        _client(service) as client,
    ):
        refused = await client.post(_FEEDBACK, content=body, headers=headers)
        headers["authorization"] = "Bearer secret"
        accepted = await client.post(_FEEDBACK, content=body, headers=headers)
    assert (refused.status_code, accepted.status_code) == (401, 201)
    assert accepted.json()["known"] is False
