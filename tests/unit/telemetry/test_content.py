"""Messages of providers as the messages, instructions and tools of the GenAI conventions."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatscope.genai.content import (
    MAX_INPUT_BYTES,
    MAX_OTHER_BYTES,
    as_json,
    input_messages,
    output_messages,
    system_instructions,
    tool_definitions,
)

_PNG = "iVBORw0KGgo="
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
}
_CALLED = {
    "type": "tool_call",
    "id": "call_1",
    "name": "weather",
    "arguments": {"city": "Rome"},
}


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


# By the conventions' JSON schemas: the members that a part of each type must have.
_REQUIRED = {
    "text": {"content"},
    "reasoning": {"content"},
    "tool_call": {"name"},
    "tool_call_response": {"response"},
    "blob": {"modality", "content"},
    "uri": {"modality", "uri"},
    "file": {"modality", "file_id"},
}


def _assert_valid(messages: Any) -> None:
    for message in messages:
        assert isinstance(message["role"], str)
        for part in message["parts"]:
            assert _REQUIRED.get(part["type"], set()) <= part.keys(), part
            if part["type"] in ("text", "reasoning", "blob"):
                assert isinstance(part["content"], str)


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        pytest.param({"role": "user", "content": "hi"}, [_text("hi")], id="text"),
        pytest.param(
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
            [_text("a"), _text("b")],
            id="texts",
        ),
        pytest.param(
            {"role": "assistant", "content": None, "tool_calls": [_CALL]}, [_CALLED], id="tool call"
        ),
        pytest.param(
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{broken"}}],
            },
            [{"type": "tool_call", "id": "c", "name": "f", "arguments": "{broken"}],
            id="arguments that are not JSON",
        ),
        pytest.param(
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            [{"type": "tool_call_response", "id": "call_1", "response": "sunny"}],
            id="tool result",
        ),
        pytest.param(
            {"role": "assistant", "reasoning_content": "hm", "content": "42"},
            [{"type": "reasoning", "content": "hm"}, _text("42")],
            id="reasoning",
        ),
        pytest.param(
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PNG}"}}
                ],
            },
            [{"type": "blob", "modality": "image", "mime_type": "image/png", "content": _PNG}],
            id="image in the message",
        ),
        pytest.param(
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://a/b.png"}]},
            [{"type": "uri", "modality": "image", "uri": "https://a/b.png"}],
            id="image elsewhere",
        ),
        pytest.param(
            {
                "role": "user",
                "content": [
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
                ],
            },
            [{"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "AAAA"}],
            id="audio",
        ),
        pytest.param(
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
            [{"type": "file", "modality": "document", "file_id": "file-1"}],
            id="file",
        ),
        pytest.param(
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "weather",
                        "input": {"city": "Rome"},
                    },
                ],
            },
            [{"type": "reasoning", "content": "hm"}, _CALLED],
            id="Anthropic's tool call",
        ),
        pytest.param(
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": [{"type": "text", "text": "sunny"}],
                    },
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": _PNG},
                    },
                ],
            },
            [
                {"type": "tool_call_response", "id": "call_1", "response": "sunny"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": _PNG},
            ],
            id="Anthropic's tool result and image",
        ),
        pytest.param(
            {"role": "user", "content": [{"type": "hologram", "data": 1}]},
            [{"type": "hologram", "data": 1}],
            id="unknown part",
        ),
        pytest.param({"role": "user", "content": None}, [], id="nothing"),
    ],
)
def test_message_has_the_parts_of_the_conventions(
    message: dict[str, Any], parts: list[dict[str, Any]]
) -> None:
    [found] = json.loads(input_messages([message]))
    assert found == {"role": message["role"], "parts": parts}
    _assert_valid([found])


def test_each_choice_of_a_response_is_a_message() -> None:
    output: list[dict[str, Any]] = [
        {"role": "assistant", "content": "a", "finish_reason": "stop"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [_CALL],
            "finish_reason": "tool_calls",
        },
        {"content": "c"},
    ]
    assert json.loads(output_messages("", "length", output)) == [
        {"role": "assistant", "parts": [_text("a")], "finish_reason": "stop"},
        {"role": "assistant", "parts": [_CALLED], "finish_reason": "tool_calls"},
        {"role": "assistant", "parts": [_text("c")], "finish_reason": "length"},
    ]


def test_instructions_are_text_parts() -> None:
    assert json.loads(system_instructions("be brief")) == [_text("be brief")]
    blocks = [{"type": "text", "text": "be brief"}]
    assert json.loads(system_instructions(blocks)) == [_text("be brief")]


def test_tools_have_a_type_a_name_and_their_schema() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools: list[dict[str, Any]] = [
        {"type": "function", "function": {"name": "weather", "parameters": schema}},
        {"name": "weather", "description": "The weather", "input_schema": schema},
        {"type": "web_search", "max_uses": 5},
    ]
    assert json.loads(tool_definitions(tools)) == [
        {"type": "function", "name": "weather", "parameters": schema},
        {
            "type": "function",
            "name": "weather",
            "description": "The weather",
            "parameters": schema,
        },
        {"type": "web_search", "max_uses": 5, "name": "web_search"},
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "x" * 1_000_000}],
        [{"role": "user", "content": "\x00" * 300_000}],
        [{"role": "user", "content": "ü" * 300_000}, {"role": "user", "content": "last"}],
        [{"role": "user", "content": f"{n}: {'x' * 100}"} for n in range(20_000)],
        [{"role": "user", "content": [{"type": "text", "text": "x" * 9}] * 50_000}],
    ],
    ids=["long", "escaped", "umlauts", "many", "many parts"],
)
def test_long_messages_are_shortened_to_valid_json(messages: list[dict[str, Any]]) -> None:
    rendered = input_messages(messages)
    assert len(rendered.encode()) <= MAX_INPUT_BYTES
    _assert_valid(json.loads(rendered))


def test_the_newest_messages_are_kept() -> None:
    messages = [{"role": "user", "content": f"{n}: {'x' * 100}"} for n in range(20_000)]
    kept = json.loads(input_messages(messages))
    assert kept[-1]["parts"][0]["content"].startswith("19999: ")


def test_values_that_json_lacks_become_text() -> None:
    shown = as_json({"score": float("nan"), "best": float("inf"), 1: (0.5, {"x": float("-inf")})})
    assert json.loads(shown) == {"score": "nan", "best": "inf", "1": [0.5, {"x": "-inf"}]}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    [
        *("role", "content", "type", "text", "tool_calls", "function", "name", "arguments"),
        *("image_url", "url", "source", "data", "input_audio", "file", "audio", "tool_call_id"),
        *("thinking", "input", "refusal", "reasoning", "input_schema", "finish_reason"),
    ]
)
_TYPES = st.sampled_from(
    [
        *("text", "image_url", "input_image", "input_audio", "file", "image", "document"),
        *("tool_use", "tool_result", "thinking", "function", "tool", "assistant"),
    ]
)
_MESSAGES = st.recursive(
    _VALUES | _TYPES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(_KEYS, _MESSAGES, max_size=6), max_size=3))
def test_anything_becomes_valid_json(messages: list[dict[str, Any]]) -> None:
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    for rendered, limit in (
        (input_messages(messages), MAX_INPUT_BYTES),
        (output_messages("x", None, messages), MAX_OTHER_BYTES),
        (tool_definitions(messages), MAX_OTHER_BYTES),
    ):
        found = json.loads(rendered, parse_constant=refused)
        assert isinstance(found, list)
        assert len(rendered.encode("utf-8", "surrogatepass")) <= limit
    _assert_valid(json.loads(input_messages(messages)))


@pytest.mark.parametrize("function", ["text", 5, ["a"], True])
def test_call_without_a_function_is_recorded_without_a_name(function: object) -> None:
    call = {"id": "c", "function": function}
    [message] = json.loads(input_messages([{"role": "assistant", "tool_calls": [call]}]))
    expected = {"type": "tool_call", "id": "c", "name": "None", "arguments": None}
    assert message["parts"] == [expected]


@pytest.mark.parametrize("text", ["", "word", 'é "\\\n\x00\u2028', "\ud800", "\U0001f600"])
@pytest.mark.parametrize("role", ["user", "é\n", "assistant"])
def test_message_of_one_text_is_rendered_as_any_other(role: str, text: str) -> None:
    """The two kinds of messages are rendered by different code."""
    plain = {"role": role, "content": text}
    assert input_messages([plain]) == input_messages([{**plain, "unknown": 1}])
    assert input_messages([plain]) == input_messages([{**plain, "content": [text]}])


def test_tool_message_of_one_text_is_a_tool_response() -> None:
    [message] = json.loads(input_messages([{"role": "tool", "content": "5 degrees"}]))
    assert message["parts"] == [{"type": "tool_call_response", "id": None, "response": "5 degrees"}]
