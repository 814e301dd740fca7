"""Requests: what is taken, and what is said of the rest."""

import pytest

from app.domain.errors import InvalidRequest
from app.providers.openai_compatible import forwarded_message
from app.wire.parsing import parse_json, validate
from app.wire.request import CompletionRequest
from app.wire.websocket import Question

_USER = {"role": "user", "content": "hi"}
_LIMITS = {"max_message_chars": 100}


def _check(**parameters: object) -> CompletionRequest:
    return validate(CompletionRequest, {"messages": [_USER], **parameters}, _LIMITS)


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
    assert _check(max_tokens=5).to_domain("m").token_limit == 5
    assert _check(max_tokens=5, max_completion_tokens=3).to_domain("m").token_limit == 3


def test_null_is_treated_as_omitted() -> None:
    nulls = dict.fromkeys([*CompletionRequest.model_fields, "tools", "n", "logprobs", "audio"])
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
    assert "not supported" in refusal.message


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"n": 2}, "Invalid 'n': it is not supported; the only accepted value is 1"),
        (
            {"service_tier": "flex"},
            "Invalid 'service_tier': it is not supported; the only accepted value is "
            '"auto" or "default"',
        ),
        ({"audio": {}}, "Invalid 'audio': it is not supported"),
    ],
)
def test_unsupported_parameter_is_refused_with_its_accepted_values(
    parameters: dict[str, object], text: str
) -> None:
    assert _refusal(**parameters).message == text


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"foo": 1}, "Unrecognized request argument supplied: foo"),
        ({"foo": 1, "bar": 2}, "Unrecognized request arguments supplied: bar, foo"),
        (dict.fromkeys("edcba", 1), "Unrecognized request arguments supplied: a, b, c, d, e"),
        (
            dict.fromkeys("fedcba", 1),
            "Unrecognized request arguments supplied: b, c, d, e, f and 1 more",
        ),
    ],
)
def test_an_unknown_parameter_is_refused_in_openais_words(
    parameters: dict[str, object], text: str
) -> None:
    assert _refusal(**parameters).message == text


@pytest.mark.parametrize(
    ("parameters", "param", "text"),
    [
        ({"temperature": 3}, "temperature", "less than or equal to 2 (got 3)"),
        ({"temperature": "hot"}, "temperature", "valid number (got 'hot')"),
        ({"stream": "yes"}, "stream", "valid boolean (got 'yes')"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1 (got 0)"),
        ({"stop": [""]}, "stop[0]", "at least 1 character"),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"messages": []}, "messages", "Invalid 'messages': it must not be empty"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "refusal"}]}]},
            "messages[0].content",
            "'refusal' must have a text in 'refusal'",
        ),
        ({"messages": "hi"}, "messages", "must be a list"),
        ({"messages": [5]}, "messages[0]", "must be an object"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "'assistant'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "it is required"),
        ({"messages": [_USER, {**_USER, "x": 1}]}, "messages[1].x", "Unrecognized"),
        ({"messages": [{**_USER, "tool_calls": [{}]}]}, "messages[0].tool_calls", "not supported"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "'image_url' are not supported; accepted: 'text'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "'image_url' must have an object in 'image_url'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}]},
            "messages[0].content",
            "accepted: 'text', 'image_url', 'input_audio', 'file'",
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
        ({"stream_options": {"include_usage": True}}, None, "'stream': true"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_what_and_what_is_accepted(
    parameters: dict[str, object], param: str | None, text: str
) -> None:
    refusal = _refusal(**parameters)
    assert (refusal.code, refusal.param) == ("invalid_request", param)
    assert text in refusal.message


def test_exceeded_limit_has_a_code_and_a_metric_attribute() -> None:
    refusal = _refusal(messages=[{"role": "user", "content": "x" * 101}])
    assert (refusal.code, refusal.limit) == ("too_many_message_chars", "message_chars")
    assert refusal.param == "messages[0]"
    assert refusal.message.endswith("the content has 101 characters, the maximum is 100")


def test_content_as_long_as_the_limit_is_accepted() -> None:
    assert _check(messages=[{"role": "user", "content": "x" * 100}]).messages[0].characters == 100


@pytest.mark.parametrize(
    ("limits", "limit", "text"),
    [
        ({"max_request_messages": 1}, "request_messages", "there are 2 messages"),
        (
            {"max_request_chars": 1},
            "request_chars",
            "all contents together have 2 characters",
        ),
    ],
)
def test_all_messages_together_have_limits(limits: dict[str, int], limit: str, text: str) -> None:
    two = {"messages": [{"role": "user", "content": "x"}] * 2}
    with pytest.raises(InvalidRequest) as caught:
        validate(CompletionRequest, two, limits)
    assert (caught.value.code, caught.value.limit) == (f"too_many_{limit}", limit)
    assert caught.value.message == f"Invalid 'messages': {text}, the maximum is 1"
    validate(CompletionRequest, two, dict.fromkeys(limits, 2))


@pytest.mark.parametrize("count", [6, 9])
def test_first_five_problems_are_listed_and_the_rest_counted(count: int) -> None:
    problems = _refusal(messages=[{"role": "user"}] * count).message.split("; ")
    assert problems == [
        *(f"Invalid 'messages[{place}].content': it is required" for place in range(5)),
        f"and {count - 5} more",
    ]


def test_invalid_value_is_repeated_up_to_40_characters() -> None:
    short, long = "x" * 38, "x" * 39  # and two quotes
    assert _refusal(temperature=short).message.endswith(f" (got '{short}')")
    assert _refusal(temperature=long).message.endswith("valid number")


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^Invalid 'body': it must be an object$"):
        validate(CompletionRequest, [])


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
    request = _check(messages=[_USER, message, _USER]).to_domain("m")
    assert forwarded_message(request.messages[1]) == message
    assert request.texts()[1] == {"role": message["role"], "content": text}


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
    assert _check(messages=messages).to_domain("m").new_roles() == [
        "tool",
        "tool",
        "system",
        "user",
    ]
    assert _check(messages=messages[:2]).to_domain("m").new_roles() == ["system", "user"]
    assert _check(messages=messages[:3]).to_domain("m").new_roles() == []


@pytest.mark.parametrize("body", ['{"a": [1.5, null]}', b'{"a": [1.5, null]}'])
def test_json_is_parsed_from_text_and_bytes(body: str | bytes) -> None:
    assert parse_json(body) == {"a": [1.5, None]}


@pytest.mark.parametrize(
    "text", ['{"a":', "", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 9999, b"\xff"]
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_json(text)
    assert caught.value.code == "invalid_json"
    assert caught.value.message.startswith("The body is not valid JSON: ")


def test_a_question_over_websocket_has_the_same_limit() -> None:
    data = {"type": "message", "content": "x" * 101}
    with pytest.raises(InvalidRequest, match="maximum is 100"):
        validate(Question, data, _LIMITS)
