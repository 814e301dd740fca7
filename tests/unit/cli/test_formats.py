"""Recorded messages as messages of OpenAI: each comes back as it was sent."""

from typing import Any

import pytest

from chatscope.cli.openai_format import messages_of, system_of, tools_of
from chatscope.genai.content import (
    input_messages,
    output_messages,
    system_instructions,
    tool_definitions,
)
from tests.each import for_each

_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "ü"}'}}
_IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
_DATA = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAAA"}}
_MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"role": "user", "content": "hi"},
    "empty": {"role": "user", "content": ""},
    "name": {"role": "user", "content": "hi", "name": "ann"},
    "system": {"role": "system", "content": "Be brief."},
    "tool calls": {"role": "assistant", "content": None, "tool_calls": [_CALL, _CALL]},
    "text and tool call": {"role": "assistant", "content": "wait", "tool_calls": [_CALL]},
    "tool result": {"role": "tool", "tool_call_id": "c", "content": "21"},
    "refusal": {"role": "assistant", "content": None, "refusal": "no"},
    "image": {"role": "user", "content": [{"type": "text", "text": "what?"}, _IMAGE]},
    "image in the message": {"role": "user", "content": [_DATA]},
    "audio": {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}],
    },
}


@for_each(_MESSAGES)
def test_message_comes_back_as_it_was_sent(message: dict[str, Any]) -> None:
    assert messages_of(input_messages([message])) == [message]


def test_reasoning_is_left_out() -> None:
    message = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    assert messages_of(output_messages("", "stop", [message])) == [
        {"role": "assistant", "content": "4"}
    ]


def test_results_of_tools_in_one_message_are_messages() -> None:
    """Anthropic's format has them in a message of the user."""
    results = [{"type": "tool_result", "tool_use_id": n, "content": n} for n in ("a", "b")]
    sent = {"role": "user", "content": [*results, {"type": "text", "text": "and?"}]}
    assert messages_of(input_messages([sent])) == [
        {"role": "tool", "tool_call_id": "a", "content": "a"},
        {"role": "tool", "tool_call_id": "b", "content": "b"},
        {"role": "user", "content": "and?"},
    ]


def test_instructions_and_tools_come_back() -> None:
    assert system_of(system_instructions("Be brief.")) == [
        {"role": "system", "content": "Be brief."}
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert tools_of(tool_definitions([tool])) == [tool]


@pytest.mark.parametrize("broken", [None, "", "[", "{}", "[1]", "5", '[{"parts": [1]}]'])
def test_broken_texts_raise_nothing(broken: str | None) -> None:
    for message in messages_of(broken):
        assert message == {"role": "user", "content": None}
    assert tools_of(broken) == [] or broken == '[{"parts": [1]}]'
