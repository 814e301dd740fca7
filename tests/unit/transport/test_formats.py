"""Responses, Messages and text completions by the official clients, over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anthropic
import httpx2
import openai
import pytest

from app.domain.provider import Completed, ProviderError, Started, Upstream
from app.keys.file import Key, KeysFile, Limits
from app.keys.keyring import digest_of
from chatscope import names
from tests.memory import Memory
from tests.unit.endpoint import endpoint
from tests.unit.scripted import END, MODEL, Scripted
from tests.unit.transport.live import Live, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_HELLO: Final = {"role": "user", "content": "hello"}
_PATHS: Final = ("/v1/responses", "/v1/messages", "/v1/completions")
_BODIES: Final[Mapping[str, dict[str, Any]]] = {
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"max_tokens": 20, "messages": [_HELLO]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/messages/count_tokens": {"messages": [_HELLO]},
}
_CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
each_path = pytest.mark.parametrize("path", _PATHS)
each_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@asynccontextmanager
async def _openai(service: Live, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://{service.address}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        yield client


@asynccontextmanager
async def _anthropic(service: Live, key: str = "none") -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = f"http://{service.address}"
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
        yield client


async def _ask(
    service: Live, path: str, *, stream: bool, key: str = "none", model: str = MODEL, **more: Any
) -> tuple[str, int]:
    """Return the text and the number of output tokens, as the client of the format reads them."""
    request: dict[str, Any] = {"model": model, **_BODIES[path], **more}
    if path == "/v1/messages":
        return await _ask_anthropic(service, request, stream, key)
    async with _openai(service, key) as client:
        if path == "/v1/responses":
            return await _ask_responses(client, request, stream)
        return await _ask_completions(client, request, stream)


async def _ask_anthropic(
    service: Live, request: dict[str, Any], stream: bool, key: str
) -> tuple[str, int]:
    async with _anthropic(service, key) as client:
        if stream:
            async with client.messages.stream(**request) as events:
                message: Any = await events.get_final_message()
        else:
            message = await client.messages.create(**request)
    return "".join(block.text for block in message.content), message.usage.output_tokens


async def _ask_responses(
    client: openai.AsyncOpenAI, request: dict[str, Any], stream: bool
) -> tuple[str, int]:
    if stream:
        async with client.responses.stream(**request) as events:
            response: Any = await events.get_final_response()
    else:
        response = await client.responses.create(**request)
    return response.output_text, response.usage.output_tokens


async def _ask_completions(
    client: openai.AsyncOpenAI, request: dict[str, Any], stream: bool
) -> tuple[str, int]:
    if not stream:
        whole = await client.completions.create(**request)
        assert whole.usage is not None
        return whole.choices[0].text, whole.usage.completion_tokens
    options = {"include_usage": True}
    asked: Any = {**request, "stream": True, "stream_options": options}
    events: Any = await client.completions.create(**asked)
    parts = [part async for part in events]
    text = "".join(choice.text for part in parts for choice in part.choices)
    return text, parts[-1].usage.completion_tokens


async def _post(service: Live, path: str, body: Any = None, **more: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://{service.address}") as client:
        if "content" not in more:
            more["json"] = _BODIES[path] if body is None else body
        return await client.post(path, **more)


def _assert_error(
    response: httpx2.Response, path: str, status: int, code: str, param: str | None = None
) -> None:
    """Assert that an error has the format of its path, and the trace ID wherever clients look."""
    assert response.status_code == status, response.text
    trace_id = response.headers["x-trace-id"]
    assert len(trace_id) == 32
    body = response.json()
    if not path.startswith("/v1/messages"):
        found = body["error"]
        assert found.keys() >= {"message", "type", "param", "code", "trace_id"}
        assert (found["code"], found["param"], found["trace_id"]) == (code, param, trace_id)
        assert "request-id" not in response.headers
        return
    assert (body["type"], body["request_id"]) == ("error", trace_id)
    assert body["error"].keys() == {"type", "message", "details"}
    details = {"error_code": code, **({"param": param} if param else {})}
    assert body["error"]["details"] == details
    assert response.headers["request-id"] == trace_id


@each_path
@each_way
async def test_simulated_model_answers_without_a_key(
    memory: Memory, path: str, stream: bool
) -> None:
    async with live(memory) as service:
        text, tokens = await _ask(service, path, stream=stream, model="simulated-1")
    assert text.startswith("(simulated) Hi!")
    assert tokens == len(text.split())


@each_path
@each_way
async def test_text_and_usage_of_a_provider_of_texts_are_translated(
    memory: Memory, path: str, stream: bool
) -> None:
    async with live(memory, Scripted("Hé\n", "llo", END)) as service:
        assert await _ask(service, path, stream=stream) == ("Hé\nllo", 2)


@each_path
@each_way
async def test_usage_that_a_provider_does_not_report_is_estimated(
    memory: Memory, path: str, stream: bool
) -> None:
    message = {"role": "assistant", "content": "some text"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = Completed(finish_reason="stop", body={"choices": [choice]}, text="some text", size=9)
    script = ("some text", Completed(finish_reason="stop")) if stream else (whole,)
    async with live(memory, Scripted(*script)) as service:
        text, tokens = await _ask(service, path, stream=stream)
    assert text == "some text"
    assert tokens > 0


@each_path
@each_way
async def test_provider_is_asked_for_a_chat_completion_with_its_usage(
    memory: Memory, path: str, stream: bool
) -> None:
    with endpoint("hello") as provider:
        settings: Any = {"openai_base_url": f"{provider.url}/v1", "openai_models": "m"}
        async with live(memory, **settings) as service:
            assert await _ask(service, path, stream=stream, model="m") == ("hello", 5)
    [(target, _, body)] = provider.requests
    assert target == "/v1/chat/completions"
    assert body["messages"] == [_HELLO]
    assert body.get("stream_options") == ({"include_usage": True} if stream else None)


@each_path
async def test_stream_without_a_request_for_usage_is_counted_as_the_provider_reports(
    memory: Memory, path: str
) -> None:
    with endpoint("hello") as provider:
        settings: Any = {"openai_base_url": f"{provider.url}/v1", "openai_models": "m"}
        async with live(memory, **settings) as service:
            body = {"model": "m", **_BODIES[path], "stream": True}
            assert (await _post(service, path, body)).status_code == 200
    [span] = [span for span in memory.spans if span.name.endswith(" m")]
    assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 5


@each_way
@each_path
async def test_half_a_character_is_replaced(memory: Memory, path: str, stream: bool) -> None:
    async with live(memory, Scripted("a\ud83d", "\ude00b\x00\u2028", END)) as service:
        found, _ = await _ask(service, path, stream=stream)
    whole = "a\U0001f600b\x00\u2028"  # the halves of a text that is not streamed meet
    assert found == ("a\ufffd\ufffdb\x00\u2028" if stream else whole)


async def test_half_a_character_in_arguments_of_a_tool_is_replaced(memory: Memory) -> None:
    function = {"name": "f", "arguments": '{"a":"x\\ud83d"}'}
    message = {"content": None, "tool_calls": [{"id": "c", "function": function}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    end = Completed(finish_reason="tool_calls", body={"model": "m", "choices": [choice]}, size=1)
    async with live(memory, Scripted(end)) as service, _anthropic(service) as client:
        found: Any = await client.messages.create(model=MODEL, max_tokens=9, messages=_hello())
    assert found.content[0].input == {"a": "x\ufffd"}


def _hello() -> Any:
    return [_HELLO]


@each_way
async def test_tool_of_responses_is_called_and_its_result_answered(
    memory: Memory, stream: bool
) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": _CITY, "strict": True}]
    items: Any = _hello()
    async with live(memory) as service, _openai(service) as client:
        request: Any = {"model": "simulated-1", "input": items, "tools": tools}
        if stream:
            async with client.responses.stream(**request) as events:
                response: Any = await events.get_final_response()
        else:
            response = await client.responses.create(**request)
        [call] = response.output
        assert (call.type, call.name) == ("function_call", "weather")
        assert json.loads(call.arguments).keys() == {"city"}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        sent = call.to_dict()
        sent.pop("parsed_arguments", None)
        items = [*items, sent, result]
        answer = await client.responses.create(model="simulated-1", input=items, tools=tools)
    assert answer.output_text


@each_way
async def test_tool_of_messages_is_called_and_its_result_answered(
    memory: Memory, stream: bool
) -> None:
    tools: Any = [{"name": "weather", "input_schema": _CITY}]
    messages = _hello()
    async with live(memory) as service, _anthropic(service) as client:
        request: Any = {"model": "simulated-1", "max_tokens": 90, "tools": tools}
        if stream:
            async with client.messages.stream(**request, messages=messages) as events:
                message: Any = await events.get_final_message()
        else:
            message = await client.messages.create(**request, messages=messages)
        [call] = message.content
        assert (message.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather")
        assert call.input.keys() == {"city"}
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        messages = [
            *messages,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        answer: Any = await client.messages.create(**request, messages=messages)
    assert answer.content[0].type == "text"


@each_way
@each_path
async def test_provider_that_fails_before_its_first_chunk_has_a_status_of_its_own(
    memory: Memory, path: str, stream: bool
) -> None:
    headers = {"x-ratelimit-limit-requests": "7", "x-ratelimit-remaining-requests": "0"}
    upstream = Upstream(status=429, headers=headers)
    error = ProviderError("rate_limit_exceeded", "busy", retry_after="3", upstream=upstream)
    library: Any = anthropic if path == "/v1/messages" else openai
    async with live(memory, Scripted(error)) as service:
        with pytest.raises(library.RateLimitError) as caught:
            await _ask(service, path, stream=stream)
    _assert_error(caught.value.response, path, 429, "rate_limit_exceeded")
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.response.headers["x-ratelimit-limit-requests"] == "7"
    assert [point.value for point in memory.points(names.RATE_LIMIT_REMAINING.name)] == [0]


@each_path
async def test_stream_that_fails_after_its_first_chunk_is_the_clients_error(
    memory: Memory, path: str
) -> None:
    library: Any = anthropic if path == "/v1/messages" else openai
    async with live(memory, Scripted("a", ProviderError("timeout", "too late"))) as service:
        with pytest.raises(library.APIError, match="too late"):
            await _ask(service, path, stream=True)
    memory.log("answer failed")


@each_path
async def test_headers_of_the_provider_and_the_trace_id_are_sent(memory: Memory, path: str) -> None:
    started = Started(headers={"x-request-id": "r-1", "x-ratelimit-remaining-tokens": "9"})
    for stream in (False, True):
        async with live(memory, Scripted(started, "a", END)) as service:
            response = await _post(service, path, {**_BODIES[path], "stream": stream})
        assert response.status_code == 200
        assert response.headers["x-request-id"] == "r-1"
        assert response.headers["x-ratelimit-remaining-tokens"] == "9"
        trace_id = response.headers["x-trace-id"]
        expected = trace_id if path == "/v1/messages" else None
        assert response.headers.get("request-id") == expected
        assert [point.value for point in memory.points(names.RATE_LIMIT_REMAINING.name)] == [9]


@each_path
async def test_bug_is_an_internal_error_of_the_format(memory: Memory, path: str) -> None:
    async with live(memory, Scripted(ZeroDivisionError("a secret"))) as service:
        response = await _post(service, path)
    _assert_error(response, path, 500, "internal_error")
    assert "secret" not in response.text


@each_path
async def test_unknown_model_is_the_clients_not_found(memory: Memory, path: str) -> None:
    library: Any = anthropic if path == "/v1/messages" else openai
    async with live(memory, Scripted("a", END)) as service:
        with pytest.raises(library.NotFoundError) as caught:
            await _ask(service, path, stream=True, model="gpt-9")
    _assert_error(caught.value.response, path, 404, "model_not_found", "model")


_JSON: Final = {"content-type": "application/json"}


@pytest.mark.parametrize("path", _BODIES)
async def test_refusals_have_the_format_of_their_path(memory: Memory, path: str) -> None:
    async with live(memory, Scripted("a", END), max_body_bytes=1024) as service:
        unsupported = await _post(service, path, content=b"{}")
        _assert_error(unsupported, path, 415, "unsupported_media_type")
        _assert_error(
            await _post(service, path, content=b"{", headers=_JSON), path, 400, "invalid_json"
        )
        _assert_error(
            await _post(service, path, content=b" " * 1025, headers=_JSON),
            *(path, 413, "request_too_large"),
        )
        async with httpx2.AsyncClient(base_url=f"http://{service.address}") as client:
            _assert_error(await client.get(path), path, 405, "method_not_allowed")
            _assert_error(await client.get(f"{path}/x"), path, 404, "not_found")
            origin = {"origin": "http://evil.example"}
            refused = await client.post(path, json=_BODIES[path], headers=origin)
            _assert_error(refused, path, 403, "origin_not_allowed")
        unknown = {**_BODIES[path], "model": "gpt-9"}
        _assert_error(await _post(service, path, unknown), path, 404, "model_not_found", "model")
        service.app.state.admission.closing = True
        _assert_error(await _post(service, path), path, 503, "shutting_down")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/responses", {"input": "too long"}, "input"),
        ("/v1/responses", {"input": "ok", "instructions": "too long"}, "instructions"),
        ("/v1/responses", {"instructions": "ok", "input": "too long"}, "input"),
        ("/v1/messages", {"max_tokens": 1, "messages": [{**_HELLO, "content": "too long"}]}, None),
        ("/v1/messages", {"max_tokens": 1, "messages": _hello(), "system": "too long"}, "system"),
        ("/v1/completions", {"prompt": "too long"}, "prompt"),
    ],
)
async def test_text_that_is_too_long_is_named_as_the_client_named_it(
    memory: Memory, path: str, body: dict[str, Any], param: str | None
) -> None:
    param = param or "messages"
    async with live(memory, Scripted("a", END), max_message_chars=5) as service:
        response = await _post(service, path, body)
    _assert_error(response, path, 400, "too_many_message_chars", param)
    assert f"Invalid '{param}': " in response.text
    assert memory.value("chatscope.limit.reached", chatscope__limit="message_chars") == 1


@pytest.mark.parametrize(
    ("path", "refused", "param"),
    [
        ("/v1/responses", "max_completion_tokens", "max_output_tokens"),
        ("/v1/responses", "response_format.json_schema", "text.format"),
        ("/v1/responses", "temperature", "temperature"),
        ("/v1/messages", "stop", "stop_sequences"),
        ("/v1/messages", "messages[3].content", "messages"),
        ("/v1/completions", "messages[0].content", "prompt"),
        ("/v1/completions", "max_tokens", "max_tokens"),
    ],
)
async def test_parameter_that_a_provider_refuses_is_named_as_the_client_named_it(
    memory: Memory, path: str, refused: str, param: str
) -> None:
    error = ProviderError("invalid_request", "no", param=refused)
    async with live(memory, Scripted(error)) as service:
        response = await _post(service, path)
    _assert_error(response, path, 400, "invalid_request", param)


def _keys(name: str, **limits: int) -> KeysFile:
    sha256 = digest_of(name).hex()
    return KeysFile(keys=[Key(sha256=sha256, name=name, limits=Limits(**limits))])


@each_path
async def test_wrong_key_is_the_clients_authentication_error(memory: Memory, path: str) -> None:
    library: Any = anthropic if path == "/v1/messages" else openai
    provider = Scripted("a", END)
    async with live(memory, provider, keys_file=_keys("alice")) as service:
        with pytest.raises(library.AuthenticationError) as caught:
            await _ask(service, path, stream=False, key="wrong")
        _assert_error(caught.value.response, path, 401, "invalid_api_key")
    assert not provider.requests


@each_way
@each_path
async def test_call_is_charged_to_the_key(memory: Memory, path: str, stream: bool) -> None:
    library: Any = anthropic if path == "/v1/messages" else openai
    keys = _keys("alice", tokens_per_day=5)
    async with live(memory, Scripted("a", END), keys_file=keys) as service:
        assert await _ask(service, path, stream=stream, key="alice") == ("a", 2)
        with pytest.raises(library.RateLimitError) as caught:
            await _ask(service, path, stream=stream, key="alice")
    _assert_error(caught.value.response, path, 429, "budget_exceeded")


@pytest.mark.parametrize(
    ("path", "operation"),
    list(zip(_PATHS, ("chat", "chat", "text_completion"), strict=True)),
)
async def test_operation_and_route_are_recorded(memory: Memory, path: str, operation: str) -> None:
    async with live(memory, Scripted("a", END)) as service:
        await _post(service, path)
    span = memory.span(f"{operation} {MODEL}")
    assert (span.attributes or {})["gen_ai.operation.name"] == operation
    root = memory.span(f"POST {path}")
    assert (root.attributes or {})["http.route"] == path
    assert span.parent is not None
    assert span.parent.span_id == root.context.span_id
    name = "gen_ai.client.inference.duration"
    assert memory.value(name, gen_ai__operation__name=operation) == 1


async def test_tokens_of_messages_are_counted_without_a_model(memory: Memory) -> None:
    provider = Scripted()
    async with live(memory, provider) as service, _anthropic(service) as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=_hello())
        tools: Any = [{"name": "weather", "input_schema": _CITY}]
        more = await client.messages.count_tokens(model=MODEL, messages=_hello(), tools=tools)
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.count_tokens(model="gpt-9", messages=_hello())
    assert counted.input_tokens == 2
    assert more.input_tokens > 10
    assert not provider.requests


async def test_shutdown_ends_a_stream_with_an_error_of_the_format(memory: Memory) -> None:
    async with live(memory, Scripted("a", asyncio.Event(), END)) as service:
        body = {**_BODIES["/v1/messages"], "stream": True}
        url = f"http://{service.address}/v1/messages"
        async with (
            httpx2.AsyncClient() as client,
            client.stream("POST", url, json=body) as response,
        ):
            lines = []
            async for line in response.aiter_lines():
                lines.append(line)
                if "text_delta" in line:
                    service.stop()
    assert lines[-3] == "event: error"
    error = json.loads(lines[-2].removeprefix("data: "))
    assert error["error"]["details"]["error_code"] == "shutting_down"
    assert error["request_id"] == response.headers["request-id"]
