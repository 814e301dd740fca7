"""Requests: what is taken, and what is said of the rest."""

import pytest

from app.chat.parsing import check, parse_json
from app.chat.request import ChatRequest, SocketQuestion
from app.errors import InvalidRequest

_USER = {"role": "user", "content": "hi"}
_LIMITS = {"max_message_chars": 100}


def _check(**parameters: object) -> ChatRequest:
    return check(ChatRequest, {"messages": [_USER], **parameters}, _LIMITS)


def _refusal(**parameters: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _check(**parameters)
    return caught.value


def test_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = _check(messages=[{"role": "user", "content": parts}])
    assert request.messages[0].content == "ab"


def test_all_honoured_parameters_are_kept() -> None:
    given = {
        "model": "m",
        "temperature": 1,
        "top_p": 0.5,
        "frequency_penalty": -1.0,
        "presence_penalty": 1.0,
        "max_tokens": 5,
        "seed": 7,
        "stop": ["x"],
        "user": "u",
        "stream": True,
    }
    request = _check(**given, stream_options={"include_usage": True})
    assert request.model_dump(include=set(given)) == given
    assert request.include_usage


def test_one_stop_text_is_a_list_of_one() -> None:
    assert _check(stop="x").stop == ["x"]


def test_the_newer_token_limit_wins() -> None:
    assert _check(max_tokens=5).token_limit == 5
    assert _check(max_tokens=5, max_completion_tokens=3).token_limit == 3


def test_null_is_as_good_as_absent() -> None:
    nulls = dict.fromkeys([*ChatRequest.model_fields, "tools", "n", "logprobs", "audio"])
    del nulls["messages"]
    assert _check(**nulls) == _check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("tools", []),
        ("logprobs", False),
        ("response_format", {"type": "text"}),
        ("tool_choice", "none"),
        ("metadata", {"a": "b"}),
        ("store", False),
    ],
)
def test_a_parameter_that_asks_for_nothing_is_taken(name: str, value: object) -> None:
    assert _check(**{name: value}) == _check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", True),
        ("tools", [{"type": "function"}]),
        ("functions", [{}]),
        ("logprobs", True),
        ("top_logprobs", 5),
        ("response_format", {"type": "json_object"}),
        ("audio", {}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_what_we_cannot_honour_is_refused_by_name(name: str, value: object) -> None:
    refusal = _refusal(**{name: value})
    assert refusal.param == name
    assert "not supported here" in refusal.message


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"foo": 1}, "Unrecognized request argument supplied: foo"),
        ({"foo": 1, "bar": 2}, "Unrecognized request arguments supplied: bar, foo"),
    ],
)
def test_an_unknown_parameter_is_refused_in_openais_words(
    parameters: dict[str, object], text: str
) -> None:
    assert _refusal(**parameters).message == text


@pytest.mark.parametrize(
    ("parameters", "param", "text"),
    [
        ({"temperature": 3}, "temperature", "less than or equal to 2, not 3"),
        ({"temperature": "hot"}, "temperature", "valid number, not 'hot'"),
        ({"stream": "yes"}, "stream", "valid boolean, not 'yes'"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1, not 0"),
        ({"stop": [""]}, "stop[0]", "at least 1 character"),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"messages": []}, "messages", "must not be empty"),
        ({"messages": "hi"}, "messages", "must be a list"),
        ({"messages": [5]}, "messages[0]", "must be an object"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "'assistant'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "it is required"),
        ({"messages": [_USER, {**_USER, "x": 1}]}, "messages[1].x", "Unrecognized"),
        ({"messages": [{**_USER, "tool_calls": [{}]}]}, "messages[0].tool_calls", "not supported"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "'image_url' are not supported; accepted is 'text'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "'image_url' must have an object under 'image_url'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}]},
            "messages[0].content",
            "accepted is 'text' or 'image_url' or 'input_audio' or 'file'",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a text or a list"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "is required"),
        ({"messages": [{"role": "tool"}]}, "messages[0].content", "it is required"),
        ({"messages": [{**_USER, "refusal": "no"}]}, "messages[0].refusal", "not supported"),
        (
            {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
            "messages[0].audio",
            "not supported",
        ),
        ({"messages": [{**_USER, "content": [{}]}]}, "messages[0].content", '"type": "text"'),
        ({"messages": [{"role": "user", "content": "x" * 101}]}, "messages[0]", "up to 100"),
        ({"stream_options": {"include_usage": True}}, None, "'stream': true"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_what_and_what_is_accepted(
    parameters: dict[str, object], param: str | None, text: str
) -> None:
    refusal = _refusal(**parameters)
    assert refusal.param == param
    assert text in refusal.message


def test_many_problems_are_told_up_to_a_limit() -> None:
    refusal = _refusal(messages=[{"role": "user"}] * 9)
    assert refusal.message.count("it is required") == 5
    assert refusal.message.endswith("; and 4 more")


def test_a_long_wrong_value_is_not_sent_back() -> None:
    assert "secret" not in _refusal(temperature="secret " * 20).message


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be an object"):
        check(ChatRequest, [])


def test_an_answer_can_be_sent_back_as_history() -> None:
    answer: dict[str, object] = {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert _check(messages=[answer, _USER]).messages[0].content == "a"


_CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": None}, ""),
        ({"role": "assistant"}, ""),
        ({"role": "assistant", "content": ""}, ""),
        ({"role": "assistant", "content": None, "refusal": "I can't."}, "I can't."),
        ({"role": "assistant", "refusal": "I can't."}, "I can't."),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, "no"),
        ({"role": "assistant", "content": None, "tool_calls": _CALLS}, ""),
        ({"role": "assistant", "content": "a", "tool_calls": _CALLS}, "a"),
        ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, ""),
        ({"role": "assistant", "content": "a", "reasoning_content": "hm"}, "a"),
        ({"role": "tool", "content": "4", "tool_call_id": "c"}, "4"),
        ({"role": "function", "content": "4", "name": "f"}, "4"),
        ({"role": "function", "content": None, "name": "f"}, ""),
        ({"role": "developer", "content": "d", "name": "n"}, "d"),
        ({"role": "user", "content": "u", "name": "n"}, "u"),
        ({"role": "user", "content": [{"type": "text", "text": "u"}, _IMAGE]}, "u"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, ""),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, ""),
    ],
)
def test_history_goes_to_the_provider_as_it_was_sent(message: dict[str, object], text: str) -> None:
    request = _check(messages=[_USER, message, _USER])
    assert request.messages[1].wire() == message
    assert request.texts()[1]["content"] == text


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "refusal": "x" * 101},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "x" * 101}]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 101}}]},
        {"role": "assistant", "function_call": {"arguments": "x" * 101}},
        {"role": "assistant", "reasoning_content": "x" * 101},
        {"role": "user", "content": [{"type": "text", "text": "x" * 101}, _IMAGE]},
    ],
)
def test_all_that_a_model_reads_counts_as_characters(message: dict[str, object]) -> None:
    assert _refusal(messages=[message]).code == "too_many_message_chars"


def test_messages_after_the_last_answer_are_new() -> None:
    roles = ["system", "user", "assistant", "tool", "function", "developer", "user"]
    messages = [{"role": role, "content": "x"} for role in roles]
    assert _check(messages=messages).new_roles() == ["tool", "tool", "system", "user"]
    assert _check(messages=messages[:2]).new_roles() == ["system", "user"]
    assert _check(messages=messages[:3]).new_roles() == []


@pytest.mark.parametrize(
    "text", ['{"a":', "", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 9999, b"\xff"]
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_json(text)
    assert caught.value.code == "invalid_json"


def test_a_question_over_websocket_has_the_same_limit() -> None:
    data = {"type": "message", "content": "x" * 101}
    with pytest.raises(InvalidRequest, match="up to 100"):
        check(SocketQuestion, data, _LIMITS)
