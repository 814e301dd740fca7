"""Responses of providers: server-sent events, chunks, whole responses, errors, headers."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from app.domain.provider import Chunk, Completed, Event, ProviderError
from app.domain.request import ChatRequest
from app.json_text import parse, render
from app.providers.failures import of_status, report_in, reported_error
from app.providers.response_headers import passed_on
from app.providers.response_reader import ResponseReader
from app.providers.secrets import Cleaner, Redactor
from app.providers.sse import EventReader, EventTooLarge
from app.wire.errors import error_object, http_status
from app.wire.formats import FORMATS
from chatscope.genai import merge_usage, read_usage
from chatscope.genai.rate_limits import rate_limits
from fuzz.source import Source, as_json
from fuzz.target import Target, ensure

_MAX_BYTES: Final = 65_536
_KEY: Final = "sk-operators-key-0123456789"
_PROMPT: Final = "confidential marmalade"
_BODY: Final = {"model": "m", "messages": [{"role": "user", "content": _PROMPT}]}
_CLEANER: Final = Cleaner(Redactor([_KEY]), _BODY)


def _events(reader: EventReader, pieces: Sequence[bytes]) -> list[tuple[bytes | None, bytes]]:
    found = [event for piece in pieces for event in reader.feed(piece)]
    last = reader.end()
    return [*found, last] if last else found


def _check_sse(data: bytes) -> None:
    """However the stream is divided, it has the same events, and lines end as the standard says."""
    source = Source(data)
    pieces = source.pieces(source.take(len(data) - min(8, len(data))))
    try:
        divided = _events(EventReader(256), pieces)
        whole = _events(EventReader(256), [b"".join(pieces)])
    except EventTooLarge:
        return
    ensure(divided == whole, "events do not depend on how the stream is divided")
    for kind, text in whole:
        ensure(b"\r" not in text and text.strip(), "an event has data")
        ensure(kind is None or b"\n" not in kind, "a type is one line")


_CHUNK: Final = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _chunk(delta: object, **more: Any) -> dict[str, Any]:
    return {**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}


def _stream(*chunks: dict[str, Any], finish: str = "stop") -> str:
    return json.dumps([*chunks, _chunk({}, finish_reason=finish)])


_USAGE: Final = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
_LOGPROBS: Final = {
    "content": [
        {
            "token": "t",
            "logprob": -1.5,
            "bytes": [1],
            "top_logprobs": [{"token": "u", "logprob": -2.5}],
        }
    ],
    "refusal": None,
}
_STREAMS: Final = (
    _stream(_chunk({"role": "assistant", "content": ""}), _chunk({"content": "Hello"})),
    _stream(
        _chunk({"content": "a"}, logprobs=_LOGPROBS),
        _chunk({"content": "b"}, logprobs=_LOGPROBS),
        {**_CHUNK, "choices": [], "usage": _USAGE},
    ),
    _stream(
        _chunk(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": ""},
                    }
                ]
            }
        ),
        _chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        _chunk(
            {
                "tool_calls": [
                    {"index": 0, "function": {"arguments": "1}"}},
                    {"index": 1, "id": "d", "function": {"name": "g"}},
                ]
            }
        ),
        finish="tool_calls",
    ),
    _stream(
        _chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]}),
        _chunk({"content": [{"type": "text", "text": "x"}, "y"]}),
        _chunk({"reasoning_content": "r", "annotations": [{"type": "url_citation"}]}),
        _chunk({"refusal": "no"}),
        _chunk({"function_call": {"name": "f", "arguments": "{}"}}),
    ),
    _stream(
        {
            **_CHUNK,
            "choices": [{"index": 0, "text": "t", "message": {"content": "m"}}],
            "x_groq": {"usage": _USAGE},
            "error": None,
            "content_filter_results": {},
        }
    ),
    json.dumps([_chunk({"content": "a"}), {"error": {"message": "overloaded", "code": 503}}]),
)
_WHOLE: Final = (
    json.dumps(
        {
            **_CHUNK,
            "object": "chat.completion",
            "usage": _USAGE,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello"},
                    "logprobs": _LOGPROBS,
                    "finish_reason": "stop",
                }
            ],
        }
    ),
    json.dumps(
        {
            **_CHUNK,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "c",
                                "type": "function",
                                "function": {"name": "f", "arguments": {"a": 1}},
                            }
                        ],
                    },
                    "finish_reason": "tool_calls",
                },
                {"index": 1, "text": "t", "stop_reason": "x"},
            ],
        }
    ),
    json.dumps({"error": {"message": "bad key", "type": "t", "param": "p", "code": "c"}}),
)
_WORDS: Final = (
    *("id", "object", "chat.completion.chunk", "chat.completion", "created", "model", "choices"),
    *("index", "delta", "message", "text", "role", "assistant", "content", "refusal", "type"),
    *("reasoning", "reasoning_content", "thinking", "tool_calls", "function", "name", "arguments"),
    *("function_call", "finish_reason", "stop", "length", "tool_calls", "content_filter"),
    *("stop_reason", "logprobs", "token", "logprob", "top_logprobs", "bytes", "annotations"),
    *("usage", "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "x_groq"),
    *("output_tokens", "prompt_tokens_details", "cached_tokens", "completion_tokens_details"),
    *("reasoning_tokens", "audio_tokens", "cost", "cache_read_input_tokens", "audio", "images"),
    *("error", "code", "status", "param", "detail", "system_fingerprint", "stream", "timings"),
)


def _read(request: ChatRequest, pieces: Sequence[bytes]) -> Iterator[Event]:
    reader = ResponseReader(request, _CLEANER, max_bytes=_MAX_BYTES)
    for piece in pieces:
        yield from reader.feed(piece)
        if reader.done:
            break
    yield from reader.end()


def _strict(data: bytes) -> Any:
    return json.loads(data, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _check_events(events: Sequence[Event]) -> None:
    """Check what a client receives: JSON that official clients can read."""
    *chunks, end = events
    ensure(isinstance(end, Completed), "the last event of a response is its end")
    for chunk in chunks:
        assert isinstance(chunk, Chunk)
        found = _strict(chunk.raw if chunk.raw is not None else render(chunk.data))
        ensure(type(found["id"]) is str and type(found["created"]) is int, "a chunk has its fields")
        ensure(type(found["model"]) is str, "a chunk has its model")
        for choice in found["choices"]:
            ensure(type(choice["index"]) is int, "a choice has its index")
            _check_message(choice["delta"])
    if isinstance(end, Completed) and end.body is not None:
        found = _strict(end.raw if end.raw is not None else render(end.body))
        for choice in found["choices"]:
            ensure(type(choice["finish_reason"]) is str, "a choice has the reason of its end")
            _check_message(choice["message"])
    usage = end.usage if isinstance(end, Completed) else None
    ensure(usage is None or 0 <= usage.total_tokens < 2**63, "usage fits into a counter")


def _check_message(message: Any) -> None:
    content = message.get("content")
    ensure(content is None or type(content) is str, "a content is a text")
    for call in message.get("tool_calls") or ():
        ensure(type(call) is dict, "a tool call is an object")


def _translate(events: Sequence[Event], path: str, body: dict[str, Any]) -> None:
    """Translate a response into another format."""
    exchange = FORMATS[path].read(body)
    stream = exchange.stream()
    *chunks, end = events
    assert isinstance(end, Completed)
    if end.body is not None:
        _strict(render(exchange.whole(end.body)))
        return
    sent = [stream.chunk(chunk.data) for chunk in chunks if isinstance(chunk, Chunk) and chunk.data]
    for event in b"".join([*sent, stream.end()]).split(b"\n\n"):
        data = event.partition(b"data: ")[2]
        if data and data != b"[DONE]":
            _strict(data)


_FORMATS: Final = (
    (
        "/v1/messages",
        {
            "max_tokens": 1,
            "messages": [{"role": "user", "content": "x"}],
            "thinking": {"type": "enabled", "budget_tokens": 9},
        },
    ),
    ("/v1/responses", {"input": "x", "include": ["message.output_text.logprobs"]}),
    ("/v1/completions", {"prompt": "x", "logprobs": 1}),
)


def _failed(error: ProviderError) -> None:
    text = as_json(error_object(error, "t")).decode()
    ensure(_KEY not in text, "the operator's key is not sent to a client")
    recorded = error.upstream.text if error.upstream else None
    # Of words: a prompt that is glued to other letters is made of other words.
    found = re.search(rf"\b{_PROMPT}\b", recorded or "")
    ensure(not found, "a prompt is not recorded with an error")
    ensure(400 <= http_status(error) < 600, "an error has a status")


def _check_response(data: bytes, documents: Sequence[str]) -> None:
    source = Source(data)
    mode = source.byte()
    request = ChatRequest(model="m", body=_BODY, stream=mode % 2 == 1, shown_model=None)
    if mode == 255:
        content = source.rest()
    else:
        found = source.edited(documents, _WORDS)
        chunks = found if isinstance(found, list) and mode % 8 < 6 else [found]
        as_stream = documents is _STREAMS or mode % 8 == 7
        content = (
            b"".join(b"data: %b\n\n" % as_json(each) for each in chunks)
            if as_stream
            else as_json(found)
        )
        content += b"data: [DONE]\n\n" if as_stream and mode & 64 else b""
    try:
        events = list(_read(request, [content]))
    except ProviderError as error:
        _failed(error)
        return
    _check_events(events)
    _translate(events, *_FORMATS[mode // 8 % 3])


_ERRORS: Final = (
    json.dumps({"error": {"message": f"bad key {_KEY}", "type": "t", "param": "p", "code": "c"}}),
    json.dumps([{"error": {"message": _PROMPT, "status": "UNAVAILABLE", "code": 429}}]),
    json.dumps({"object": "error", "message": "m", "code": 400, "param": None}),
    json.dumps({"detail": [{"loc": ["body"], "msg": "m"}]}),
    json.dumps({"error": "text"}),
)
_STATUSES: Final = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 504, 418, 599, 302)


def _check_error(data: bytes) -> None:
    source = Source(data)
    status = source.choice(_STATUSES)
    try:
        found, _ = parse(as_json(source.edited(_ERRORS, (*_WORDS, _KEY, _PROMPT))))
    except ValueError:
        return
    _failed(of_status(status, report_in(found), _CLEANER, retry_after="1", headers={}))
    _failed(reported_error(found, _CLEANER))


_USAGES: Final = (
    json.dumps(_USAGE),
    json.dumps(
        {
            "input_tokens": 3,
            "cache_read_input_tokens": 1,
            "cache_creation_input_tokens": 1,
            "output_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
        }
    ),
)


def _check_usage(data: bytes) -> None:
    source = Source(data)
    usages = [read_usage(source.edited(_USAGES, _WORDS)) for _ in range(2)]
    merged = merge_usage(*usages)
    for usage in (*usages, merged):
        if usage is not None:
            counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
            ensure(all(type(c) is int and 0 <= c < 2**63 for c in counts), "counts are counts")
    ensure(merge_usage(*reversed(usages)) == merged, "merged usage does not depend on the order")


_HEADERS: Final = (
    *("x-request-id", "openai-processing-ms", "x-ratelimit-limit-requests", "retry-after"),
    *("x-ratelimit-remaining-tokens", "anthropic-ratelimit-input-tokens-remaining", "X-RateLimit-"),
)


def _check_headers(data: bytes) -> None:
    source = Source(data)
    headers = {
        source.text(_HEADERS): source.text(("1", "100", "1m30s")) for _ in range(source.below(6))
    }
    kept = passed_on(headers)
    for name, value in kept.items():
        f"{name}: {value}".encode("ascii")
        ensure(name == name.lower() and "\n" not in name + value, "a header is one line")
    for limit in rate_limits(headers):
        for number in (limit.limit, limit.remaining):
            ensure(number is None or 0 <= number < 10**15, "a limit is a count")


def _check_stream(data: bytes) -> None:
    _check_response(data, _STREAMS)


def _check_whole(data: bytes) -> None:
    _check_response(data, _WHOLE)


def _response_seeds(documents: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(bytes([mode, index]) for index in range(len(documents)) for mode in (0, 65, 8, 17))


TARGETS: Final = (
    Target(
        "provider_events",
        _check_sse,
        (
            b"data: a\n\ndata: b\r\n\r\nevent: x\rdata:c\r\r: ping\n"
            b"error: e\n\nid: 1\n\xef\xbb\xbf01234567",
            b"\xef\xbb\xbfdata: [DONE]\n\n01234567",
        ),
        ("data: ", "event: ", "error: ", "id:", "retry:", "\\x0d\\x0a", "[DONE]"),
    ),
    Target(
        "provider_stream",
        _check_stream,
        (*_response_seeds(_STREAMS), b"\xffdata: [DONE]\n\n"),
        _WORDS,
    ),
    Target("provider_response", _check_whole, (*_response_seeds(_WHOLE), b"\xff{}"), _WORDS),
    Target(
        "provider_error", _check_error, tuple(bytes([3, i]) for i in range(len(_ERRORS))), _WORDS
    ),
    Target("provider_usage", _check_usage, (b"\0", b"\1"), _WORDS),
    Target("provider_headers", _check_headers, (b"\3", b"\5\1\2\3\4"), _HEADERS),
)
