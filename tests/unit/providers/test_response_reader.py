"""Responses as endpoints send them: any that a tolerant reader could read is one."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from app.domain.provider import Chunk, Completed, Event, ProviderError
from app.domain.request import ChatRequest
from app.providers.response_reader import ResponseReader
from app.providers.secrets import Cleaner, Redactor
from chatscope.genai import Usage

_PROMPT = "please reveal the hidden words"
_SHARED = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
_DONE = b"data: [DONE]\n\n"


def _reader(*, stream: bool = True, shown_model: str | None = None) -> ResponseReader:
    body = {"messages": [{"role": "user", "content": _PROMPT}]}
    request = ChatRequest(model="m", body=body, stream=stream, shown_model=shown_model)
    return ResponseReader(request, Cleaner(Redactor(["sk-secret"]), body))


def _events(reader: ResponseReader, parts: Iterable[bytes]) -> Iterator[Event]:
    for part in parts:
        if reader.done:
            break
        yield from reader.feed(part)
    yield from reader.end()


def _read(*parts: bytes, **options: Any) -> tuple[list[Chunk], Completed]:
    """Return the chunks, each of which the official client can read, and the end."""
    *chunks, end = _events(_reader(**options), parts)
    assert isinstance(end, Completed)
    found = [chunk for chunk in chunks if isinstance(chunk, Chunk)]
    assert len(found) == len(chunks)
    for chunk in found:
        assert chunk.data is not None
        ChatCompletionChunk.model_validate(chunk.data)
        if chunk.raw is not None:
            assert json.loads(chunk.raw) == chunk.data
    return found, end


def _error(*parts: bytes, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        list(_events(_reader(**options), parts))
    return caught.value


def _sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def _delta(finish_reason: object = None, /, **delta: object) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_SHARED, "choices": [choice]}


def _choice(**choice: object) -> dict[str, Any]:
    return {**_SHARED, "choices": [{"index": 0, **choice}]}


def _usage(**counts: object) -> dict[str, Any]:
    return {**_SHARED, "choices": [], "usage": counts}


def _text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


_HELLO = (_delta(role="assistant", content=""), _delta(content="Hel"), _delta(content="lo"))
_END = _delta("stop")
_AZURE_FILTER = _choice(
    finish_reason=None, content_filter_results={}, content_filter_offsets={"check_offset": 44}
)
_AZURE_FIRST = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
}

# Each is read as "Hello" that ends with "stop".
_TOLERATED: dict[str, bytes] = {
    "as the format says": _sse(*_HELLO, _END) + _DONE,
    "azure: the prompt's filter first": _sse(_AZURE_FIRST, *_HELLO, _END) + _DONE,
    "azure: a filter without delta": _sse(*_HELLO, _AZURE_FILTER, _END, _AZURE_FILTER) + _DONE,
    "retry first": b"retry: 3000\n\n" + _sse(*_HELLO, _END) + _DONE,
    "events without data": b"event: ping\n\ndata:\n\ndata\n\n" + _sse(*_HELLO, _END) + _DONE,
    "pings between numbered events": b": ping\n\nid: 1\n" + _sse(*_HELLO, _END) + b": ping\n\n",
    "event types": b"event: message\n" + _sse(*_HELLO, _END) + _DONE,
    "byte order mark": b"\xef\xbb\xbf" + _sse(*_HELLO, _END) + _DONE,
    "carriage returns": (_sse(*_HELLO, _END) + _DONE).replace(b"\n", b"\r"),
    "both line ends": (_sse(*_HELLO, _END) + _DONE).replace(b"\n", b"\r\n"),
    "no space after the colon": (_sse(*_HELLO, _END) + _DONE).replace(b"data: ", b"data:"),
    "data on several lines": _sse(*_HELLO, _END).replace(b', "object', b',\ndata: "object'),
    "no mark of the end": _sse(*_HELLO, _END),
    "no finish reason": _sse(*_HELLO) + _DONE,
    "no empty line at the end": (_sse(*_HELLO, _END) + _DONE).rstrip(),
    "no empty line after the finish reason": _sse(*_HELLO, _END).rstrip(),
    "an empty finish reason": _sse(_delta("", content="Hel"), _delta("", content="lo"), _END),
    "nothing after the mark is read": _sse(*_HELLO, _END) + _DONE + b"data: {broken\n\n",
    "blank lines first": b"\n\n\r\n" * 20 + _sse(*_HELLO, _END) + _DONE,
    "null choices": _sse(*_HELLO, {**_SHARED, "choices": None}, _END) + _DONE,
    "no choices": _sse(*_HELLO, _SHARED, _END) + _DONE,
    "null delta": _sse(*_HELLO, _choice(delta=None), _END) + _DONE,
    "null error": _sse(*({**chunk, "error": None} for chunk in (*_HELLO, _END))),
    "only choices": _sse(*({"choices": chunk["choices"]} for chunk in (*_HELLO, _END))),
    "no index": _sse({**_SHARED, "choices": [{"delta": {"content": "Hello"}}]}, _END),
    "whole messages": _sse(_choice(message={"role": "assistant", "content": "Hello"}), _END),
    "texts of the older format": _sse(_choice(text="Hel"), _choice(text="lo"), _END),
    "parts": _sse(_delta(content=[{"type": "text", "text": "Hel"}]), _delta(content="lo"), _END),
    "a part alone": _sse(_delta(content={"type": "text", "text": "Hello"}), _END),
    "thinking": _sse(
        _delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        _delta(content=[{"type": "text", "text": "Hello"}]),
        _END,
    ),
    "usage without the completion": _sse(*_HELLO, _END, _usage(prompt_tokens=11, total_tokens=11)),
    "null counts": _sse(*_HELLO, _END, _usage(prompt_tokens=None, completion_tokens=None)),
    "empty usage": _sse(*_HELLO, _END, _usage()),
    "usage that is a text": _sse(*_HELLO, _END, {**_SHARED, "choices": [], "usage": "much"}),
    "usage that is not finite": _sse(*_HELLO, _END, _usage(prompt_tokens=float("nan"))),
    "one object": json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}
    ).encode(),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("body", _TOLERATED.values(), ids=_TOLERATED)
def test_response_is_read_whatever_its_form_and_wherever_it_is_split(
    body: bytes, step: int, stream: bool
) -> None:
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    chunks, end = _read(*parts, stream=stream)
    assert end.finish_reason == "stop"
    if stream:
        assert _text(chunks) == "Hello"
        reasons = [each["finish_reason"] for c in chunks for each in (c.data or {})["choices"]]
        assert "stop" in reasons
    else:
        assert chunks == []
        whole = ChatCompletion.model_validate(end.body)
        assert whole.choices[0].message.content == end.text == "Hello"
        assert end.size >= 5


def test_chunks_that_every_client_can_read_keep_their_bytes() -> None:
    texts = [json.dumps(each).encode() for each in (*_HELLO, _END, _usage(a=1))]
    usage = b'{"id":"","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    usage += b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"new":{}}}'
    chunks, end = _read(b"".join(b"data: %b\n\n" % text for text in (*texts[:-1], usage)))
    assert [chunk.raw for chunk in chunks] == [*texts[:-1], usage]
    assert [chunk.size for chunk in chunks] == [0, 3, 2, 0, 0]
    assert end.usage == chunks[-1].usage == Usage(3, 2)
    assert (end.response_id, end.response_model) == ("c-1", "m")


def test_name_of_the_model_is_replaced() -> None:
    chunks, end = _read(_sse(*_HELLO, _END), shown_model="alias")
    assert {(chunk.data or {})["model"] for chunk in chunks} == {"alias"}
    assert (end.response_id, end.response_model) == ("c-1", "m-1")
    whole = {**_SHARED, "object": "chat.completion", "choices": [{"message": {"content": "x"}}]}
    _, end = _read(json.dumps(whole).encode(), shown_model="alias", stream=False)
    assert (end.body or {})["model"] == "alias"
    assert end.response_model == "m-1"


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_tokens": 11, "total_tokens": 11}, (11, 0)),
        ({"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}, (11, 5)),
        ({"prompt_tokens": 11, "completion_tokens": 5}, (11, 5)),
    ],
)
@pytest.mark.parametrize("position", [0, 4])
def test_usage_of_any_form_is_read_and_has_the_counts_of_the_format(
    counts: dict[str, int], usage: tuple[int, int], position: int
) -> None:
    events = [*_HELLO, _END]
    events.insert(position, _usage(**counts))
    chunks, end = _read(_sse(*events))
    assert end.usage is not None
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == usage
    reported = (chunks[position].data or {})["usage"]
    assert reported["total_tokens"] == sum(usage)
    assert counts.items() <= reported.items()


def test_usage_so_far_is_known_before_the_end() -> None:
    running = {"prompt_tokens": 900, "completion_tokens": 300, "total_tokens": 1200}
    reader = _reader()
    [chunk] = reader.feed(_sse({**_delta(content="x"), "usage": running}))
    assert isinstance(chunk, Chunk)
    assert chunk.usage == Usage(900, 300)
    assert chunk.text == "x"


def test_reasoning_and_refusal_are_output_in_the_providers_field() -> None:
    names = ("reasoning_content", "reasoning", "refusal")
    chunks, _ = _read(_sse(*(_delta(**{name: "hm"}) for name in names), _END))
    assert [chunk.size for chunk in chunks] == [2, 2, 2, 0]
    assert [list((c.data or {})["choices"][0]["delta"]) for c in chunks[:3]] == [[n] for n in names]
    assert _text(chunks) == ""
    _, end = _read(_sse(*(_delta(**{name: "hm"}) for name in names), _END), stream=False)
    message = (end.body or {})["choices"][0]["message"]
    assert {name: message[name] for name in names} == dict.fromkeys(names, "hm")
    assert (end.text, end.size) == ("", 6)


def test_thinking_parts_become_reasoning() -> None:
    chunks, _ = _read(_TOLERATED["thinking"])
    assert (chunks[0].data or {})["choices"][0]["delta"]["reasoning_content"] == "hm"


def _call(index: object, call_id: object, name: str | None, arguments: object) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    call = {"index": index, "id": call_id, "type": "function", "function": function}
    return {key: value for key, value in call.items() if value is not None}


_CALLS = {
    "as the format says": [
        _delta(tool_calls=[_call(0, "a", "f", "")]),
        _delta(tool_calls=[_call(0, None, None, '{"x":')]),
        _delta(tool_calls=[_call(0, None, None, "1}")]),
        _delta(tool_calls=[_call(1, "b", "g", "{}")]),
    ],
    "gemini: all calls have the number 0": [
        _delta(tool_calls=[_call(0, "a", "f", '{"x":1}')]),
        _delta(tool_calls=[_call(0, "b", "g", "{}")]),
    ],
    "no numbers": [
        _delta(tool_calls=[_call(None, "a", "f", '{"x":1}'), _call(None, "b", "g", "{}")]),
    ],
    "no numbers, in parts": [
        _delta(tool_calls=[_call(None, "a", "f", "")]),
        _delta(tool_calls=[_call(None, None, None, '{"x":')]),
        _delta(tool_calls=[_call(None, "", None, "1}")]),
        _delta(tool_calls=[_call(None, "b", "g", "{}")]),
    ],
    "the ID in each part": [
        _delta(tool_calls=[_call(0, "a", "f", '{"x":')]),
        _delta(tool_calls=[_call(0, "a", None, "1}")]),
        _delta(tool_calls=[_call(1, "b", "g", "{}")]),
    ],
    "ollama: arguments as an object": [
        _delta(tool_calls=[_call(0, "a", "f", {"x": 1}), _call(1, "b", "g", {})]),
    ],
    "no IDs": [
        _delta(tool_calls=[_call(0, None, "f", '{"x":1}'), _call(1, None, "g", "{}")]),
    ],
}


@pytest.mark.parametrize("finish", [_delta("tool_calls"), None])
@pytest.mark.parametrize("events", _CALLS.values(), ids=_CALLS)
def test_tool_calls_are_put_together(events: list[dict[str, Any]], finish: object) -> None:
    body = _sse(*events, *([finish] if finish else [])) + _DONE
    chunks, end = _read(body)
    assert end.finish_reason == "tool_calls"
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in (chunk.data or {})["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                parts = calls.setdefault(call["index"], ["", "", ""])
                parts[0] += call.get("id") or ""
                parts[1] += call["function"].get("name") or ""
                parts[2] += call["function"]["arguments"]
    assert [(name, json.loads(text)) for _, name, text in calls.values()] == [
        ("f", {"x": 1}),
        ("g", {}),
    ]
    assert len({parts[0] for parts in calls.values()} - {""}) == 2
    _, end = _read(body, stream=False)
    whole = ChatCompletion.model_validate(end.body).choices[0].message.tool_calls or []
    assert [call.function.name for call in whole if call.type == "function"] == ["f", "g"]
    assert end.size > 0


_LOGPROBS = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}


def test_several_choices_are_kept_apart() -> None:
    chunks = [
        {**_SHARED, "choices": [{"index": index, "delta": {"content": text}}]}
        for index, text in [(0, "a"), (1, "x"), (0, "b"), (1, "y")]
    ]
    ends = {**_SHARED, "choices": [
        {"index": index, "delta": {}, "finish_reason": reason, "logprobs": _LOGPROBS}
        for index, reason in [(1, "length"), (0, "stop")]
    ]}  # fmt: skip
    read, end = _read(_sse(*chunks, ends))
    assert (_text(read), end.finish_reason) == ("ab", "stop")
    assert sum(chunk.size or 0 for chunk in read) == 4
    _, end = _read(_sse(*chunks, ends), stream=False)
    choices = (end.body or {})["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["ab", "xy"]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]
    assert choices[0]["logprobs"] == _LOGPROBS


@pytest.mark.parametrize("name", ["content", "reasoning_content"])
def test_halves_of_an_emoji_are_joined_in_any_field(name: str) -> None:
    pieces = [_delta(**{name: text}) for text in ("a\ud83d", "\ude00b", "c\udc00", "d")]
    chunks, _ = _read(_sse(*pieces, _END))
    texts = [(c.data or {})["choices"][0]["delta"].get(name, "") for c in chunks]
    assert "".join(texts) == "a😀bc\ufffdd"
    json.dumps([chunk.data for chunk in chunks], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("body", "error_type", "status", "code"),
    [
        (_sse({"error": {"message": "no", "code": "a_code"}}), "server_error", None, "a_code"),
        (_sse({"error": {"message": "no", "code": 429}}), "rate_limit_exceeded", 429, None),
        (_sse({"error": {"message": "no", "code": "503"}}), "unavailable", 503, None),
        (_sse({"error": {"message": "no", "code": 400}}), "invalid_request", 400, None),
        (_sse({"error": "no"}), "server_error", None, None),
        (_sse({"object": "error", "message": "no", "code": 500}), "server_error", 500, None),
        (_sse({**_delta("error", content=""), "error": {"code": 502, "message": "no"}}),
         "server_error", 502, None),
        (b"event: error\n" + _sse({"message": "no"}), "server_error", None, None),
        (b"event: error\ndata: no\n\n", "server_error", None, None),
        (b'error: {"code":500,"message":"no"}\n\n', "server_error", 500, None),
        (b'{"error":{"code":404,"message":"no"}}', "not_found", 404, None),
        (b'[{"error":{"code":429,"message":"no","status":"RESOURCE_EXHAUSTED"}}]',
         "rate_limit_exceeded", 429, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False])
def test_errors_of_any_form_are_reported(
    body: bytes, error_type: str, status: int | None, code: str | None, stream: bool
) -> None:
    error = _error(body, stream=stream)
    assert (error.error_type, error.upstream.status, error.upstream.code) == (
        error_type,
        status,
        code,
    )
    assert error.upstream.text == "no"
    assert error.message.endswith(" no")


def test_chunks_before_an_error_are_read_first() -> None:
    events = _events(_reader(), [_sse(*_HELLO, {"error": {"message": "no"}})])
    read = [next(events) for _ in range(3)]
    assert _text([chunk for chunk in read if isinstance(chunk, Chunk)]) == "Hello"
    with pytest.raises(ProviderError):
        next(events)


def test_text_of_an_error_has_no_key_and_no_words_of_the_prompt() -> None:
    text = "Key sk-secret refused: 'reveal the hidden words' is not allowed."
    error = _error(_sse({"error": {"message": text, "code": 500}}))
    assert error.upstream.text == "Key *** refused: '…' is not allowed."
    assert error.telemetry_text.endswith(error.upstream.text)
    error = _error(_sse({"error": {"message": text, "code": 400}}))
    # The client that sent the words may see them again; telemetry does not.
    assert "reveal the hidden words" in error.message
    assert "reveal" not in error.telemetry_text
    assert "sk-secret" not in error.message + error.telemetry_text


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        (b"", "bad_response"),
        (b"\n\n", "bad_response"),
        (b"<html>hello</html>", "bad_response"),
        (_DONE, "bad_response"),
        (b"data: {broken\n\n" + _DONE, "bad_response"),
        (b"data: [1, 2]\n\n", "bad_response"),
        (_sse({"choices": 5}), "bad_response"),
        (b'{"choices": []}', "bad_response"),
        (b'{"choices": [5]}', "bad_response"),
        (b'{"id": "x"}', "bad_response"),
        (b'{"choices": [', "bad_response"),
        (_sse(*_HELLO), "broken_stream"),
        (_sse(*_HELLO) + b'data: {"id": "c', "broken_stream"),
        (_sse(_SHARED), "broken_stream"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_response_is_told_apart(body: bytes, error_type: str, stream: bool) -> None:
    assert _error(body, stream=stream).error_type == error_type


def test_event_and_object_without_end_are_refused() -> None:
    for begin in (b"data: ", b"{"):
        body: dict[str, Any] = {"messages": []}
        request = ChatRequest(model="m", body=body, stream=True)
        reader = ResponseReader(request, Cleaner(Redactor([]), body), max_bytes=1000)
        list(reader.feed(begin))
        with pytest.raises(ProviderError) as caught:
            list(chain.from_iterable(reader.feed(b"x" * 50) for _ in range(100)))
        assert caught.value.error_type == "bad_response"


def test_whole_response_keeps_what_the_format_does_not_know() -> None:
    message = {"role": "assistant", "content": None, "refusal": "no", "audio": {"id": "a"}}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, "new": 1}
    body = {**_SHARED, "object": "chat.completion", "choices": [choice], "service_tier": "flex"}
    _, end = _read(json.dumps(body).encode(), stream=False)
    assert json.loads(end.raw or b"") == body
    assert (end.text, end.size) == ("", 3)
    chunks, end = _read(json.dumps(body).encode())
    assert (chunks[0].data or {})["service_tier"] == "flex"
    assert (chunks[0].data or {})["choices"][0]["delta"]["audio"] == {"id": "a"}


def _odd_call(**function: Any) -> dict[str, Any]:
    call = {"index": 0, "id": "c", "type": "function", "function": function}
    return {"tool_calls": [call]}


def _odd_chunk(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return b"data: %b\n\n" % json.dumps({**_SHARED, "choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            (
                _odd_chunk({"content": "a"}, logprobs={"content": None}),
                _odd_chunk({"content": "b"}, logprobs={"content": [{"token": "b"}]}),
            ),
            {"content": "ab"},
        ),
        (
            (
                _odd_chunk(_odd_call(name="f", arguments=None)),
                _odd_chunk(_odd_call(arguments="{}")),
            ),
            {},
        ),
        (
            (
                _odd_chunk({"tool_calls": [{"index": 0, "id": "c", "function": "text"}]}),
                _odd_chunk(_odd_call(arguments="{}")),
            ),
            {},
        ),
        ((_odd_chunk({"note": "a"}), _odd_chunk({"note": ["b"]})), {"note": ["b"]}),
        (
            (_odd_chunk({"content": "a"}, message="x"), _odd_chunk({"content": "b"})),
            {"content": "ab"},
        ),
    ],
)
def test_whole_response_is_made_of_odd_chunks(
    parts: tuple[bytes, ...], expected: dict[str, Any]
) -> None:
    *_, end = _events(_reader(stream=False), [*parts, _DONE])
    assert isinstance(end, Completed)
    assert end.body is not None
    message = end.body["choices"][0]["message"]
    assert {name: message[name] for name in expected} == expected
    if "tool_calls" in message:
        assert message["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize("stream", [True, False])
def test_response_that_is_nested_too_deeply_is_malformed(stream: bool) -> None:
    """NaN: only the tolerant parser reads it, which reads more levels than can be rendered."""
    deep = b"[" * 400 + b"NaN" + b"]" * 400
    chunk = b'{"choices":[{"index":0,"delta":{"content":"a"}}],"deep":' + deep + b"}"
    body = b"data: " + chunk + b"\n\n" if stream else chunk
    assert _error(body, stream=stream).error_type == "bad_response"
