"""Requests and completions with a value of another type anywhere."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidRequest
from app.wire.formats import FORMATS, count_tokens
from tests.unit.wire.formats.completions import CALLS, chunks, completion

Json = dict[str, Any]
_COMPLETION = completion(
    {
        "reasoning_content": "Hm",
        "content": "Hi",
        "refusal": "No",
        "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}],
        "tool_calls": CALLS,
    },
    logprobs={"content": [{"token": "Hi", "logprob": -1.0, "bytes": [1], "top_logprobs": []}]},
)
_FUNCTION = {"type": "function", "name": "f", "parameters": {}, "strict": True, "description": "d"}
_REQUESTS: dict[str, Json] = {
    "/v1/responses": {
        "model": "m",
        "instructions": "i",
        "stream": True,
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "t"},
                    {"type": "input_image", "image_url": "u", "detail": "low"},
                    {"type": "input_file", "file_data": "d", "filename": "n"},
                    {"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}},
                ],
            },
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "t"}],
            },
            {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
        ],
        "tools": [_FUNCTION],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"a": "b"},
        "include": ["message.output_text.logprobs"],
        "temperature": 1,
        "max_output_tokens": 5,
        "truncation": "auto",
        "store": True,
    },
    "/v1/messages": {
        "model": "m",
        "max_tokens": 5,
        "stream": True,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image", "source": {"type": "url", "url": "u"}},
                    {
                        "type": "document",
                        "title": "t",
                        "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "tool_use", "id": "i", "name": "n", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "i",
                        "is_error": False,
                        "content": [{"type": "text", "text": "r"}],
                    }
                ],
            },
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": None, "format": {"type": "json_schema", "schema": {}}},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["s"],
        "top_k": 5,
        "temperature": 0.5,
    },
    "/v1/completions": {
        "model": "m",
        "prompt": ["p"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": 2,
        "n": 1,
        "best_of": 1,
        "echo": False,
        "suffix": None,
        "seed": 1,
        "stop": ["s"],
        "max_tokens": 5,
        "temperature": 0.5,
    },
}
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=60),
    st.sampled_from(["text", "function", "message", "tool", "user", "assistant", "enabled"]),
    st.lists(st.one_of(st.none(), st.integers(), st.text(), st.lists(st.none()))),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text())),
)
_CHUNKS = chunks(_COMPLETION, [1, 1, 1])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a JSON value."""
    yield path
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield from _places(value[key], (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = new
    return changed


@pytest.mark.parametrize("path", FORMATS)
def test_request_is_valid_as_it_is(path: str) -> None:
    FORMATS[path].read(_REQUESTS[path])


@pytest.mark.parametrize("path", FORMATS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_odd_request_is_translated_or_refused(path: str, data: st.DataObject) -> None:
    body = _REQUESTS[path]
    place = data.draw(st.sampled_from(list(_places(body))))
    odd = _replaced(body, place, data.draw(_VALUES))
    error = _error(path, odd)
    if error is None:
        FORMATS[path].read(odd).whole(_COMPLETION)
        return
    assert error.param or not isinstance(odd, dict)
    assert error.message.startswith(f"Invalid '{error.param or 'body'}': ")
    assert len(error.message) < 400


def _error(path: str, body: object) -> InvalidRequest | None:
    try:
        FORMATS[path].read(body)
        if path == "/v1/messages":
            count_tokens(body)
    except InvalidRequest as error:
        return error
    return None


@pytest.mark.parametrize("path", FORMATS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_odd_completion_yields_a_response(path: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(list(_places(_COMPLETION))).filter(bool))
    odd = _replaced(_COMPLETION, place, data.draw(_VALUES))
    assert FORMATS[path].read(_REQUESTS[path]).whole(odd)


@pytest.mark.parametrize("path", FORMATS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_odd_chunk_yields_events(path: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(list(_places(_CHUNKS))).filter(lambda place: len(place) > 1))
    odd = _replaced(_CHUNKS, place, data.draw(_VALUES))
    stream = FORMATS[path].read(_REQUESTS[path]).stream()
    sent = b"".join([*map(stream.chunk, odd), stream.end()])
    for line in sent.decode().split("\n"):  # not at line separators within strings
        if line.startswith("data: {"):
            json.loads(line.removeprefix("data: "), parse_constant=pytest.fail)
