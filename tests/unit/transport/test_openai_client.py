"""The official `openai` client, unchanged, against the service on a real socket."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessage
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.domain.provider import ProviderError
from app.main import create_app
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted, catalog_of
from tests.unit.serving import quick, serving

pytestmark = pytest.mark.anyio
_MESSAGES: Any = [{"role": "user", "content": "hello"}]
_ASK: dict[str, Any] = {"model": "simulated-1", "messages": _MESSAGES}


def _client(server: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{server}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
async def client(anyio_backend: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serving(create_app(quick(), providers=Memory().providers)) as server,
        _client(server) as client,
    ):
        yield client


@pytest.fixture
async def ask(memory: Memory) -> Callable[..., Any]:
    """Ask a service whose one model does what a script says."""

    async def ask(*script: Any, **parameters: Any) -> Any:
        catalog = catalog_of(Scripted(*script))
        app = create_app(quick(), catalog=catalog, providers=memory.providers)
        async with serving(app) as server, _client(server) as client:
            return await _collect(client, {**_ASK, "model": MODEL, **parameters})

    return ask


async def _collect(client: openai.AsyncOpenAI, parameters: dict[str, Any]) -> Any:
    answer = await client.chat.completions.create(**parameters)
    return [chunk async for chunk in answer] if parameters.get("stream") else answer


async def test_it_chats(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**_ASK, max_tokens=3)
    assert answer.object == "chat.completion"
    assert answer.model == "simulated-1"
    assert len((answer.choices[0].message.content or "").split()) == 3
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3


async def test_it_streams(client: openai.AsyncOpenAI) -> None:
    chunks = await _collect(client, {**_ASK, "stream": True, "max_tokens": 3})
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert len("".join(delta.content or "" for delta in deltas).split()) == 3
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "length"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_ends_with_usage_for_those_who_ask(client: openai.AsyncOpenAI) -> None:
    options = {"include_usage": True}
    chunks = await _collect(
        client, {**_ASK, "stream": True, "stream_options": options, "max_tokens": 3}
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_streamed_and_a_whole_answer_have_the_same_words(
    client: openai.AsyncOpenAI,
) -> None:
    whole = await client.chat.completions.create(**_ASK)
    chunks = await _collect(client, {**_ASK, "stream": True})
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content


async def test_an_answer_goes_back_as_history_as_the_client_has_it(
    client: openai.AsyncOpenAI,
) -> None:
    first = await client.chat.completions.create(**_ASK)
    messages = [*_MESSAGES, first.choices[0].message, *_MESSAGES]
    second = await client.chat.completions.create(model="simulated-1", messages=messages)
    assert second.choices[0].message.content != first.choices[0].message.content


_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
_HISTORY: Any = [
    {"role": "developer", "content": [{"type": "text", "text": "Be brief."}], "name": "us"},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, _IMAGE], "name": "them"},
    ChatCompletionMessage(role="assistant", content=None, refusal="I can't."),
    {"role": "user", "content": "Again."},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ChatCompletionMessage.model_validate({"role": "assistant", "tool_calls": [_CALL]}),
    {"role": "tool", "tool_call_id": "c", "content": "4"},
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "function", "name": "f", "content": "4"},
    {"role": "assistant", "content": None},
    {"role": "assistant"},
    {"role": "user", "content": "And?"},
]


async def test_any_history_of_the_client_reaches_the_provider_as_it_was_sent() -> None:
    """Through a service whose provider is a recording endpoint behind a real socket."""
    recorded: list[Any] = []

    async def endpoint(request: Request) -> Response:
        recorded.append((await request.json())["messages"])
        choice = {"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        events = (json.dumps({**chunk, "choices": [choice]}), "[DONE]")
        body = "".join(f"data: {event}\n\n" for event in events)
        return Response(body, media_type="text/event-stream")

    upstream = Starlette(routes=[Route("/v1/chat/completions", endpoint, methods=["POST"])])
    async with serving(upstream) as address:
        settings = quick(openai_base_url=f"http://{address}/v1", openai_models="m")
        app = create_app(settings, providers=Memory().providers)
        async with serving(app) as server, _client(server) as client:
            answer = await client.chat.completions.create(model="m", messages=_HISTORY)
            simulated = await client.chat.completions.create(model="simulated-1", messages=_HISTORY)
    assert answer.choices[0].message.content == "ok"
    sent = [
        message.to_dict() if isinstance(message, ChatCompletionMessage) else message
        for message in _HISTORY
    ]
    assert recorded == [sent]
    assert simulated.choices[0].message.content


async def test_its_streaming_helper_works(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(**_ASK, stop="ulated") as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "(sim"


async def test_it_lists_models_and_finds_one(client: openai.AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    assert [model.id for model in models] == ["simulated-1"]
    assert await client.models.retrieve("simulated-1") == models[0]


async def test_it_reads_the_trace_id(client: openai.AsyncOpenAI) -> None:
    response = await client.chat.completions.with_raw_response.create(**_ASK)
    assert len(response.headers["x-trace-id"]) == 32


async def test_an_unknown_model_is_its_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-9", messages=_MESSAGES)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("org/gpt-9")


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/moderations", lambda c: c.moderations.create(input="hi")),
        ("/v1/whatever", lambda c: c.post("/whatever", cast_to=object)),
        ("/v1/files", lambda c: c.files.list()),
    ],
)
async def test_an_unknown_endpoint_is_its_not_found_and_names_the_supported_ones(
    client: openai.AsyncOpenAI, path: str, call: Callable[[openai.AsyncOpenAI], Any]
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await call(client)
    assert (caught.value.code, caught.value.type) == ("not_found", "invalid_request_error")
    for text in (
        path,
        "POST /v1/chat/completions",
        "POST /v1/embeddings",
        "POST /v1/responses",
        "POST /v1/messages",
        "POST /v1/completions",
        "GET /v1/models",
        "WS /ws/chat",
    ):
        assert text in caught.value.message


async def test_models_with_a_slash_at_the_end_are_the_list(client: openai.AsyncOpenAI) -> None:
    listed: Any = await client.get("/models/", cast_to=object)
    assert [model["id"] for model in listed["data"]] == ["simulated-1"]


@pytest.mark.parametrize(
    "parameters", [{"temperature": 9}, {"tools": [{}]}, {"n": 0}, {"messages": []}, {"stop": [""]}]
)
async def test_a_wrong_request_is_its_bad_request(
    client: openai.AsyncOpenAI, parameters: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**{**_ASK, **parameters})
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error_type", "status", "expected"),
    [
        ("rate_limit_exceeded", 429, openai.RateLimitError),
        ("invalid_request", 400, openai.BadRequestError),
        ("server_error", 502, openai.InternalServerError),
        ("timeout", 504, openai.InternalServerError),
    ],
)
async def test_a_provider_that_fails_before_its_first_word_has_a_status_of_its_own(
    ask: Callable[..., Any], error_type: str, status: int, expected: type[Exception], stream: bool
) -> None:
    error = ProviderError(error_type, "no", retry_after="3")
    with pytest.raises(expected) as caught:
        await ask(error, stream=stream)
    assert isinstance(caught.value, openai.APIStatusError)
    assert (caught.value.status_code, caught.value.code) == (status, error_type)
    assert caught.value.response.headers["retry-after"] == "3"


async def test_a_stream_that_fails_on_its_way_is_its_api_error(ask: Callable[..., Any]) -> None:
    with pytest.raises(openai.APIError) as caught:
        await ask("a", ProviderError("timeout", "too late"), stream=True)
    assert not isinstance(caught.value, openai.APIStatusError)
    assert (caught.value.code, caught.value.message) == ("timeout", "too late")


@pytest.mark.parametrize("stream", [False, True])
async def test_our_bug_is_its_internal_server_error(ask: Callable[..., Any], stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(ZeroDivisionError("a secret"), stream=stream)
    assert caught.value.code == "internal_error"
    assert "secret" not in str(caught.value)


async def test_an_answer_that_nobody_counted_has_no_usage(ask: Callable[..., Any]) -> None:
    answer = await ask("a", type(END)(finish_reason="stop"))
    assert answer.choices[0].message.content == "a"
