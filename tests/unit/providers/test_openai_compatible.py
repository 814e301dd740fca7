"""The OpenAI-compatible provider, against a real socket that speaks the real protocol."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.domain.provider import Chunk, Completed, ProviderError, Started
from app.domain.request import ChatRequest
from app.main import create_app
from app.providers.openai_compatible import OpenAICompatibleProvider
from app.wire.errors import http_status
from chatscope import Telemetry, names
from chatscope.genai.request import ModelRequest, Usage
from chatscope.providers import TelemetrySettings
from chatscope.withholding import WITHHELD
from tests.memory import Memory
from tests.unit.scripted import chat_request
from tests.unit.serving import quick, serving

pytestmark = pytest.mark.anyio


def _provider(server: str, **changes: float) -> OpenAICompatibleProvider:
    return OpenAICompatibleProvider(
        base_url=f"http://{server}/v1",
        api_key="sk-test",
        models=("simulated-1",),
        timeout=changes.get("timeout", 10.0),
        connect_timeout=changes.get("connect_timeout", 5.0),
        max_retries=int(changes.get("max_retries", 0)),
    )


def _request(**parameters: object) -> ChatRequest:
    messages = [{"role": "user", "content": "hello"}]
    return chat_request(
        {"model": "simulated-1", "messages": messages, "stream": True, **parameters}
    )


async def _ask(
    provider: OpenAICompatibleProvider, request: ChatRequest | None = None
) -> tuple[str, Completed]:
    events = [event async for event in provider.stream(request or _request())]
    await provider.close()
    end = events.pop()
    assert isinstance(end, Completed)
    return "".join(event.text for event in events if isinstance(event, Chunk)), end


def _facts(end: Completed) -> tuple[object, ...]:
    return end.finish_reason, end.usage, end.response_id, end.response_model


async def _failure(provider: OpenAICompatibleProvider) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await _ask(provider)
    await provider.close()
    return caught.value


class _Fake:
    """An endpoint that answers with one prepared response, and notes what it was asked."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.asked: list[dict[str, object]] = []
        self.headers: list[Headers] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.headers.append(request.headers)
        return self._response


def _stream(*events: str) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        for event in events:
            yield f"data: {event}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


def _chunk(text: str = "", finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-2026"}
    return json.dumps({**shared, "choices": [choice]})


async def test_our_own_service_is_such_an_endpoint(memory: Memory) -> None:
    async with serving(create_app(quick(), providers=memory.providers)) as server:
        text, end = await _ask(_provider(server), _request(max_tokens=4))
    assert _provider(server).models == ("simulated-1",)
    assert text.startswith("(simulated) ")
    assert (end.finish_reason, end.usage) == ("length", Usage(1, 4))
    assert end.response_model == "simulated-1"
    assert (end.response_id or "").startswith("chatcmpl-")


_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_PARAMETERS: dict[str, object] = {
    "temperature": 0.5,
    "stop": ["."],
    "seed": 3,
    "user": None,
    "n": 2,
    "tools": [_TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
    "reasoning_effort": "low",
    "logprobs": True,
    "logit_bias": {"50256": -100},
    "modalities": ["text", "audio"],
    "verbosity": "low",
    "service_tier": "flex",
    "store": False,
    "metadata": {"a": "b"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "something_new": [1.5, {"deep": 2**70}],
}


async def test_every_parameter_reaches_the_endpoint_and_a_stream_reports_its_usage() -> None:
    fake = _Fake(_stream(_chunk("x"), _chunk(finish_reason="stop"), "[DONE]"))
    async with serving(fake.app) as server:
        options = {"include_obfuscation": False}
        request = _request(**_PARAMETERS, stream_options=options)
        _, end = await _ask(_provider(server), request)
    assert fake.asked == [
        {
            "model": "simulated-1",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {**options, "include_usage": True},
            **_PARAMETERS,
        }
    ]
    assert _facts(end) == ("stop", None, "c", "m-2026")


async def test_whole_response_is_requested_as_a_whole_and_keeps_its_bytes() -> None:
    body = b'{ "id":"w","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    body += b'"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    body += b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"new":1 }'
    fake = _Fake(Response(body, media_type="application/json", headers={"x-request-id": "r"}))
    async with serving(fake.app) as server:
        provider = _provider(server)
        events = [event async for event in provider.stream(_request(stream=False))]
        await provider.close()
    started, end = events
    assert started == Started(headers={"x-request-id": "r"})
    assert isinstance(end, Completed)
    assert (end.raw, end.text, end.size) == (body, "Hi", 2)
    assert _facts(end) == ("stop", Usage(3, 2), "w", "m")
    assert fake.asked[0]["stream"] is False
    assert "stream_options" not in fake.asked[0]


async def test_number_that_json_lacks_is_refused_before_it_is_sent() -> None:
    fake = _Fake(_stream("[DONE]"))
    async with serving(fake.app) as server:
        provider = _provider(server)
        with pytest.raises(ProviderError, match="not finite") as caught:
            await _ask(provider, _request(temperature=float("inf"), user="Infinity"))
    assert caught.value.error_type == "invalid_request"
    assert fake.asked == []


@pytest.mark.parametrize("status", [400, 422])
async def test_endpoint_that_refuses_stream_options_is_asked_without_them_from_then_on(
    status: int,
) -> None:
    class Strict(_Fake):
        async def _answer(self, request: Request) -> Response:
            await super()._answer(request)
            if "stream_options" in self.asked[-1]:
                detail = [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]
                return JSONResponse({"detail": detail}, status)
            return _stream(_chunk("x"), _chunk(finish_reason="stop"), "[DONE]")

    fake = Strict(Response())
    async with serving(fake.app) as server:
        provider = _provider(server)
        for _ in range(2):
            events = [event async for event in provider.stream(_request())]
            assert isinstance(events[-1], Completed)
        await provider.close()
    assert ["stream_options" in asked for asked in fake.asked] == [True, False, False]


async def test_refusal_of_something_else_is_not_asked_again() -> None:
    fake = _Fake(JSONResponse({"error": {"message": "no"}}, 400))
    async with serving(fake.app) as server:
        await _failure(_provider(server))
    assert len(fake.asked) == 1


async def test_headers_about_limits_are_passed_on_and_others_are_not() -> None:
    headers = {
        "x-request-id": "r",
        "X-RateLimit-Remaining-Tokens": "7",
        "openai-processing-ms": "5",
        "openai-organization": "ours",
        "set-cookie": "a=b",
    }
    expected = {
        "x-request-id": "r",
        "x-ratelimit-remaining-tokens": "7",
        "openai-processing-ms": "5",
    }
    response = _stream(_chunk("x"), _chunk(finish_reason="stop"), "[DONE]")
    response.headers.update(headers)
    async with serving(_Fake(response).app) as server:
        provider = _provider(server)
        started = await anext(provider.stream(_request()))
        await provider.close()
    assert started == Started(headers=expected)
    async with serving(_Fake(_refusal(429, headers)).app) as server:
        error = await _failure(_provider(server))
    assert error.upstream.headers == expected


async def test_connection_is_used_again_after_a_stream() -> None:
    fake = _Fake(Response())
    ports = set()

    async def answer(request: Request) -> Response:
        assert request.client is not None
        ports.add(request.client.port)
        return _stream(_chunk("x"), _chunk(finish_reason="stop"), "[DONE]")

    fake.app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    async with serving(fake.app) as server:
        provider = _provider(server)
        for _ in range(3):
            async with aclosing(provider.stream(_request())) as events:
                async for event in events:
                    if isinstance(event, Completed):
                        break
        await provider.close()
    assert len(ports) == 1


async def test_emoji_that_was_cut_in_two_is_whole_and_half_of_one_is_replaced() -> None:
    """A person gets an answer, not an error: half a character can be sent to nobody."""
    pieces = _chunk("a\ud83d"), _chunk("\ude00b"), _chunk("\udc00c"), _chunk("d\ud800e")
    fake = _Fake(_stream(*pieces, _chunk(finish_reason="stop"), "[DONE]"))
    async with serving(fake.app) as server:
        text, _ = await _ask(_provider(server))
    assert text == "a😀b�cd�e"


@pytest.mark.parametrize("tokens", [-1, 2**70])
async def test_usage_that_cannot_be_is_not_believed(tokens: int) -> None:
    told = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3}
    last = json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": told})
    fake = _Fake(_stream(_chunk("x"), _chunk(finish_reason="stop"), last, "[DONE]"))
    async with serving(fake.app) as server:
        _, end = await _ask(_provider(server))
    assert end.usage is None or end.usage.completion_tokens == 0


def _refusal(status: int, headers: dict[str, str] | None = None) -> Response:
    error = {"message": "their words, with sk-test", "param": "messages", "code": "x"}
    return JSONResponse({"error": error}, status, headers)


@pytest.mark.parametrize(
    ("status", "error_type", "ours"),
    [
        (401, "authentication", 502),
        (402, "permission_denied", 502),
        (403, "permission_denied", 502),
        (404, "not_found", 502),
        (408, "timeout", 504),
        (418, "bad_response", 502),
        (429, "rate_limit_exceeded", 429),
        (500, "server_error", 502),
        (503, "unavailable", 503),
        (504, "timeout", 504),
    ],
)
async def test_a_refusal_has_our_type_and_their_words_without_the_key(
    status: int, error_type: str, ours: int
) -> None:
    async with serving(_Fake(_refusal(status)).app) as server:
        error = await _failure(_provider(server))
    assert (error.error_type, http_status(error)) == (error_type, ours)
    assert (error.upstream.status, error.upstream.code) == (status, "x")
    # Their words may describe a part of the operator's key.
    assert ("their words" in error.message) == (status not in (401, 402, 403))
    assert "sk-test" not in error.message
    assert error.telemetry_text.endswith("their words, with ***")


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_they_refuse_in_the_request_is_the_clients_to_mend(status: int) -> None:
    async with serving(_Fake(_refusal(status)).app) as server:
        error = await _failure(_provider(server))
    assert (http_status(error), error.param, error.code) == (400, "messages", "x")
    assert (error.upstream.status, error.upstream.code) == (status, "x")
    assert error.message == "The model's endpoint refused the request: their words, with ***"


async def test_refusal_without_a_reason_says_so() -> None:
    async with serving(_Fake(JSONResponse({"error": {}}, 400)).app) as server:
        error = await _failure(_provider(server))
    assert error.message == "The model's endpoint refused the request: no reason given"


async def test_cause_of_a_malformed_response_is_kept_without_its_text() -> None:
    async with serving(_Fake(_stream("{not json, but sk-test")).app) as server:
        error = await _failure(_provider(server))
    assert type(error.__cause__).__name__ == "JSONDecodeError"
    assert str(error.__cause__) == WITHHELD


@pytest.mark.parametrize(("given", "passed"), [("17", "17"), ("soon", None)])
async def test_when_to_come_again_is_passed_on(given: str, passed: str | None) -> None:
    async with serving(_Fake(_refusal(429, {"retry-after": given})).app) as server:
        error = await _failure(_provider(server))
    assert error.retry_after == passed


@pytest.mark.parametrize(
    ("response", "error_type"),
    [
        (_stream("{not json"), "bad_response"),
        (_stream("[1, 2]"), "bad_response"),
        (_stream('{"choices": [{"delta": null}]}'), "broken_stream"),
        (_stream('{"choices": 5}'), "bad_response"),
        (Response("<html>hello</html>", media_type="text/html"), "bad_response"),
        (JSONResponse({"choices": []}), "bad_response"),
        (_stream("[DONE]"), "bad_response"),
        (_stream(_chunk("x")), "broken_stream"),
        (_stream(_chunk("x"), '{"error": {"message": "with sk-test"}}'), "server_error"),
    ],
)
async def test_what_is_no_answer_is_told_apart(response: Response, error_type: str) -> None:
    async with serving(_Fake(response).app) as server:
        error = await _failure(_provider(server))
    assert (error.error_type, http_status(error)) == (error_type, 502)
    assert "sk-test" not in error.message


async def test_a_stream_that_breaks_off_is_broken() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        event = f"data: {_chunk('x')}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        error = await _failure(_provider(f"{host}:{port}"))
    assert (error.error_type, http_status(error)) == ("broken_stream", 502)
    assert error.message == "The model's endpoint ended the stream before its final message."


async def test_nobody_there_is_a_connection_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        error = await _failure(_provider(f"127.0.0.1:{taken.getsockname()[1]}"))
    assert (error.error_type, http_status(error)) == ("connection", 503)


@pytest.mark.parametrize("events", [(), (_chunk("x"),)])
async def test_silence_beyond_the_limit_is_a_timeout(events: tuple[str, ...]) -> None:
    released = asyncio.Event()

    async def silent() -> AsyncIterator[str]:
        for event in events:
            yield f"data: {event}\n\n"
        await released.wait()

    response = StreamingResponse(silent(), media_type="text/event-stream")
    async with serving(_Fake(response).app) as server:
        error = await _failure(_provider(server, timeout=0.05))
        released.set()
    assert (error.error_type, http_status(error)) == ("timeout", 504)


async def test_a_failed_call_is_tried_again_as_often_as_set() -> None:
    fake = _Fake(_refusal(500, {"retry-after-ms": "1"}))
    async with serving(fake.app) as server:
        error = await _failure(_provider(server, max_retries=2))
    assert error.error_type == "server_error"
    assert len(fake.asked) == 3


async def test_a_stream_that_is_closed_gives_the_call_up() -> None:
    gone = asyncio.Event()

    async def body() -> AsyncIterator[str]:
        try:
            yield f"data: {_chunk('x')}\n\n"
            await asyncio.Event().wait()
        finally:
            gone.set()

    fake = _Fake(StreamingResponse(body(), media_type="text/event-stream"))
    async with serving(fake.app) as server:
        provider = _provider(server)
        async with aclosing(provider.stream(_request())) as events:
            assert isinstance(await anext(events), Started)
            chunk = await anext(events)
            assert isinstance(chunk, Chunk)
            assert chunk.text == "x"
        await asyncio.wait_for(gone.wait(), 30)
        await provider.close()


async def test_an_endpoint_that_takes_no_connection_is_a_connection_failure() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with ExitStack() as others:
            # Nobody accepts: once the queue is full, a further handshake gets no answer.
            for _ in range(3):
                waiting = others.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(address)
            provider = _provider(f"127.0.0.1:{address[1]}", connect_timeout=0.05)
            async with asyncio.timeout(5):  # half of the time for a silent response
                error = await _failure(provider)
    assert (error.error_type, http_status(error)) == ("connection", 503)
    assert type(error.__cause__.__cause__).__name__ == "ConnectTimeout"  # type: ignore[union-attr]


@pytest.fixture
def call() -> Iterator[Memory]:
    """What a recorded call around the call under test is told."""
    memory = Memory()
    telemetry = Telemetry(TelemetrySettings(), memory.providers)
    telemetry.start()
    answer = telemetry.start_answer(ModelRequest(provider="p", model="m"), started=0.0)
    with answer.current():
        yield memory
    telemetry.shutdown()


def _retries(memory: Memory) -> list[dict[str, object]]:
    records = [each.log_record for each in memory.logs]
    retries = [each for each in records if each.event_name == names.EVENT_RETRY]
    span = trace.get_current_span().get_span_context()
    assert {(each.trace_id, each.span_id) for each in retries} <= {(span.trace_id, span.span_id)}
    expected = {names.GEN_AI_REQUEST_MODEL: "m", names.GEN_AI_PROVIDER_NAME: "p"}
    assert all(expected.items() <= (each.attributes or {}).items() for each in retries)
    return [
        {name: value for name, value in (each.attributes or {}).items() if name not in expected}
        for each in retries
    ]


async def test_each_further_try_is_an_event_that_says_what_failed(call: Memory) -> None:
    async with serving(_Fake(_refusal(500, {"retry-after-ms": "1"})).app) as server:
        await _failure(_provider(server, max_retries=2))
    assert _retries(call) == [
        {names.HTTP_RESEND_COUNT: 1, names.HTTP_RESPONSE_STATUS_CODE: 500},
        {names.HTTP_RESEND_COUNT: 2, names.HTTP_RESPONSE_STATUS_CODE: 500},
    ]


async def test_a_further_try_after_no_answer_at_all_says_so(
    call: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        await _failure(_provider(f"127.0.0.1:{taken.getsockname()[1]}", max_retries=1))
    assert _retries(call) == [{names.HTTP_RESEND_COUNT: 1, names.ERROR_TYPE: "connection"}]


async def test_a_call_that_needs_no_further_try_has_no_such_event(call: Memory) -> None:
    fake = _Fake(_stream(_chunk("x"), _chunk(finish_reason="stop"), "[DONE]"))
    async with serving(fake.app) as server:
        await _ask(_provider(server))
    assert _retries(call) == []


@pytest.mark.usefixtures("call")
async def test_the_endpoint_may_join_the_trace_and_learns_nothing_else() -> None:
    fake = _Fake(_stream(_chunk("x"), _chunk(finish_reason="stop"), "[DONE]"))
    token = attach(baggage.set_baggage("whose", "a client's"))
    async with serving(fake.app) as server:
        await _ask(_provider(server))
    detach(token)
    context = trace.get_current_span().get_span_context()
    (headers,) = fake.headers
    ids = f"00-{context.trace_id:032x}-{context.span_id:016x}-"
    assert headers["traceparent"].startswith(ids)
    assert "baggage" not in headers
