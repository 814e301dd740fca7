"""A grammar of provider streams: framing, shapes of chunks, usage, ends and errors.

Whatever the grammar makes, a tolerant reader could read it, and so the service does: the same text,
output and finish reason come out, in chunks that the official client accepts.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from app.domain.provider import Chunk, Completed, Event, ProviderError
from app.domain.request import ChatRequest
from app.domain.turn import Summary
from app.providers.response_reader import ResponseReader
from app.providers.secrets import Cleaner, Redactor
from app.wire.completion import Completion

_BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_texts = st.lists(_text, max_size=6)

Delta = dict[str, Any]
Shape = Callable[[Delta, str | None], dict[str, Any]]


def _as_the_format_says(delta: Delta, reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**shared, "choices": [choice]}


def _bare(delta: Delta, reason: str | None) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": reason}]}


def _empty_reason(delta: Delta, reason: str | None) -> dict[str, Any]:
    return _as_the_format_says(delta, reason or "")


def _parts(delta: Delta, reason: str | None) -> dict[str, Any]:
    content = delta.get("content")
    parts = [] if content is None else [{"type": "text", "text": content}]
    return _as_the_format_says({**delta, "content": parts} if parts else delta, reason)


def _message(delta: Delta, reason: str | None) -> dict[str, Any]:
    return {"id": 5, "choices": [{"index": 0, "message": delta, "finish_reason": reason}]}


def _odd_metadata(delta: Delta, reason: str | None) -> dict[str, Any]:
    odd = {"id": None, "object": "", "created": 1.5, "model": ["m"], "error": None, "new": {"a": 1}}
    return {**_as_the_format_says(delta, reason), **odd}


_shapes = st.sampled_from(
    [_as_the_format_says, _bare, _empty_reason, _parts, _message, _odd_metadata]
)
# Chunks without output, which some providers send anywhere.
_NOISE: list[dict[str, Any]] = [
    {"choices": []},
    {"choices": None},
    {"id": "c"},
    {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "id": "", "object": ""},
    {"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"start": 0}}]},
    {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
    _as_the_format_says({"content": ""}, None),
    _as_the_format_says({"role": "assistant", "content": None, "tool_calls": []}, None),
]
_USAGES: list[Any] = [
    None,
    {},
    "a lot",
    {"prompt_tokens": 11, "total_tokens": 11},
    {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    {"prompt_tokens": None, "completion_tokens": -1, "total_tokens": 2**80},
    {"input_tokens": 11, "output_tokens": 5},
    {"prompt_tokens": 11, "completion_tokens": 5, "completion_tokens_details": {"reasoning": 2}},
]


@dataclass(frozen=True)
class Source:
    """A stream's events, and what they say."""

    events: list[dict[str, Any]]
    text: str
    reasoning: str
    reason: str
    marked: bool  # with [DONE]


@st.composite
def _sources(draw: st.DrawFn) -> Source:
    contents, thoughts = draw(_texts), draw(_texts)
    field = draw(st.sampled_from(["reasoning_content", "reasoning"]))
    deltas: list[Delta] = [{field: text} for text in thoughts] + [{"content": t} for t in contents]
    if draw(st.booleans()):
        deltas.insert(0, {"role": "assistant", "content": ""})
    shape = draw(_shapes)
    events = [shape(delta, None) for delta in deltas]
    reason = draw(st.sampled_from(["stop", "length", "content_filter"]))
    has_reason, marked = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    if has_reason:
        events.append(shape({}, reason))
    if not events:  # at least one chunk
        events.append(shape({}, None))
    for noise in draw(st.lists(st.sampled_from(_NOISE), max_size=3)):
        events.insert(draw(st.integers(0, len(events))), noise)
    usage = draw(st.sampled_from(_USAGES))
    if draw(st.booleans()):
        events.append({"choices": [], "usage": usage})
    else:
        events[-1] = {**events[-1], "usage": usage}
    text = "".join(contents)
    return Source(events, text, "".join(thoughts), reason if has_reason else "stop", marked)


@st.composite
def _framed(draw: st.DrawFn, source: Source) -> bytes:
    """Return the bytes of the stream, in one of the ways in which a server may write them."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    space = draw(st.sampled_from(["", " "]))
    ascii_only = draw(st.booleans())
    between = st.lists(
        st.sampled_from([": ping", ":", "id: 7", "retry: 3000", "event: message", "new: field"]),
        max_size=2,
    )
    lines: list[str] = []
    for event in source.events:
        lines += draw(between)
        if draw(st.booleans()):
            lines += ["", "event: ping", "", "data", "", "data:", ""]
        indent = draw(st.sampled_from([None, None, 1]))
        text = json.dumps(event, ensure_ascii=ascii_only, indent=indent)
        # The line ends of other alphabets are none of this format.
        lines += [f"data:{space}{line}" for line in text.split("\n")]
        lines.append("")
    if source.marked:
        lines += [f"data:{space}[DONE]", ""]
        if draw(st.booleans()):
            lines += ["data: {", ""]
    text = newline.join(lines) + newline
    begin = draw(st.sampled_from(["", "\ufeff", newline * 3]))
    body = (begin + text).encode()
    return body.rstrip() if draw(st.booleans()) else body


def _split(body: bytes, positions: list[int]) -> list[bytes]:
    ends = sorted({position % (len(body) + 1) for position in positions})
    return [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True) if a < b]


def _read(parts: list[bytes], *, stream: bool) -> list[Event]:
    request = ChatRequest(model="m", body=_BODY, stream=stream)
    reader = ResponseReader(request, Cleaner(Redactor([]), _BODY))
    events: list[Event] = []
    for part in parts:
        if not reader.done:
            events += reader.feed(part)
    return [*events, *reader.end()]


def _field(found: dict[str, Any], *names: str) -> str:
    return "".join(found.get(name) or "" for name in names)


_positions = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=100)
@given(data=st.data(), source=_sources(), positions=_positions)
def test_any_stream_is_a_response(
    data: st.DataObject, source: Source, positions: list[int]
) -> None:
    body = data.draw(_framed(source))
    *chunks, end = _read(_split(body, positions), stream=True)
    assert isinstance(end, Completed)
    assert end.finish_reason == source.reason
    text = reasoning = ""
    size = 0
    for chunk in chunks:
        assert isinstance(chunk, Chunk)
        assert chunk.data is not None
        ChatCompletionChunk.model_validate(chunk.data)
        assert chunk.raw is None or json.loads(chunk.raw) == chunk.data
        text += chunk.text
        size += chunk.size or 0
        for choice in chunk.data["choices"]:
            reasoning += _field(choice["delta"], "reasoning_content", "reasoning")
    assert (text, reasoning) == (source.text, source.reasoning)
    assert size == len(text) + len(reasoning)
    if end.usage is not None:
        assert end.usage.prompt_tokens == 11
        assert end.usage.completion_tokens in (0, 5)


@settings(max_examples=50)
@given(data=st.data(), source=_sources(), positions=_positions)
def test_any_stream_in_place_of_a_whole_response_is_one(
    data: st.DataObject, source: Source, positions: list[int]
) -> None:
    body = data.draw(_framed(source))
    [end] = _read(_split(body, positions), stream=False)
    assert isinstance(end, Completed)
    whole = ChatCompletion.model_validate(end.body)
    message = (end.body or {})["choices"][0]["message"]
    assert (whole.choices[0].message.content or "", end.text) == (source.text, source.text)
    assert _field(message, "reasoning_content", "reasoning") == source.reasoning
    assert whole.choices[0].finish_reason == source.reason


@settings(max_examples=50)
@given(data=st.data(), source=_sources(), include_usage=st.booleans())
def test_any_stream_is_sent_as_the_format_says(
    data: st.DataObject, source: Source, include_usage: bool
) -> None:
    """What the client receives: one event a line, its usage if it asked for it, and the mark."""
    *chunks, end = _read([data.draw(_framed(source))], stream=True)
    assert isinstance(end, Completed)
    completion = Completion("m", include_usage=include_usage)
    sent = b"".join(completion.delta(chunk) for chunk in chunks if isinstance(chunk, Chunk))
    sent += completion.last(
        Summary(
            model="m",
            finish_reason=end.finish_reason,
            usage=end.usage,
            cost=None,
            seconds=1.0,
            trace_id="t",
        )
    )
    *events, done, rest = sent.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    read = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert "".join(_field(c["delta"], "content") for r in read for c in r["choices"]) == source.text
    counted = [each["usage"] for each in read if each.get("usage")]
    assert include_usage or not counted
    assert not include_usage or "usage" in read[-1] or counted


_error = st.sampled_from(
    [
        {"error": {"message": "no", "code": 500}},
        {"error": "no"},
        {"object": "error", "message": "no", "code": 400},
    ]
)


@settings(max_examples=50)
@given(data=st.data(), source=_sources(), error=_error, positions=_positions)
def test_an_error_anywhere_ends_a_stream(
    data: st.DataObject, source: Source, error: dict[str, Any], positions: list[int]
) -> None:
    place = data.draw(st.integers(0, len(source.events)))
    events = [*source.events[:place], error, *source.events[place:]]
    broken = Source(events, source.text, source.reasoning, source.reason, source.marked)
    body = data.draw(_framed(broken))
    with pytest.raises(ProviderError) as caught:
        _read(_split(body, positions), stream=True)
    assert caught.value.error_type in ("server_error", "invalid_request")


@settings(max_examples=50)
@given(data=st.data(), source=_sources(), end=st.integers(1, 10_000))
def test_a_stream_that_is_cut_is_a_response_or_reported(
    data: st.DataObject, source: Source, end: int
) -> None:
    body = data.draw(_framed(source))
    try:
        *_, last = _read([body[: end % len(body)]], stream=True)
    except ProviderError as error:
        kind = error.error_type
    else:
        assert isinstance(last, Completed)
        kind = ""
    assert kind in ("", "broken_stream", "bad_response")


@given(body=st.binary(max_size=300), stream=st.booleans(), positions=_positions)
def test_any_bytes_are_a_response_or_a_providers_error(
    body: bytes, stream: bool, positions: list[int]
) -> None:
    try:
        events = _read(_split(body, positions), stream=stream)
    except ProviderError as error:
        assert error.message  # noqa: PT017
    else:
        assert isinstance(events[-1], Completed)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5), st.just(2**70)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    *("id", "choices", "delta", "message", "content", "tool_calls", "function"),
                    *("index", "arguments", "finish_reason", "usage", "error", "text", "name"),
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=100)
@given(values=st.lists(_json, min_size=1, max_size=4), stream=st.booleans(), whole=st.booleans())
def test_any_json_is_a_response_or_a_providers_error(
    values: list[Any], stream: bool, whole: bool
) -> None:
    texts = [json.dumps(value) for value in values]
    body = (
        texts[0] if whole else "".join(f"data: {text}\n\n" for text in texts) + "data: [DONE]\n\n"
    )
    try:
        events = _read([body.encode()], stream=stream)
    except ProviderError as error:
        assert error.message  # noqa: PT017
        return
    for event in events:
        if isinstance(event, Chunk):
            json.dumps(event.data, ensure_ascii=False).encode()
            assert isinstance(event.size, int)
