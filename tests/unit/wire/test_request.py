"""Requests: what the service checks, and what it says of the rest."""

import pytest

from app.domain.errors import InvalidRequest
from app.domain.request import ChatRequest, message_text
from app.wire.parsing import parse_json, validate
from app.wire.request import CompletionRequest, characters, completion_request, embedding_request
from app.wire.websocket import Question

_USER = {"role": "user", "content": "hi"}
_LIMITS = {"max_message_chars": 100}


def _check(**parameters: object) -> CompletionRequest:
    return completion_request({"messages": [_USER], **parameters}, _LIMITS)


def _domain(**parameters: object) -> ChatRequest:
    return _check(**parameters).to_domain("m")


def _refusal(**parameters: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _check(**parameters)
    return caught.value


def test_body_is_kept_as_it_was_sent() -> None:
    body = {"messages": [{**_USER, "name": None, "x": [1]}], "n": "many", "new": {"a": None}}
    request = completion_request(body, _LIMITS).to_domain("m")
    assert request.body is body
    assert (request.model, request.stream) == ("m", False)


def test_service_reads_model_stream_and_usage() -> None:
    request = _check(model="x", stream=True, stream_options={"include_usage": True, "new": 1})
    assert (request.model, request.stream, request.include_usage) == ("x", True, True)


def test_null_is_treated_as_omitted() -> None:
    request = _check(model=None, stream=None, stream_options=None)
    assert (request.model, request.stream, request.include_usage) == ("", False, False)
    assert _check(stream=True, stream_options={"include_usage": None}).include_usage is False


def test_parameters_that_telemetry_records_are_read() -> None:
    given = {"temperature": 0.5, "top_p": 1, "frequency_penalty": -1.0, "presence_penalty": 2}
    request = _domain(**given, seed=7, reasoning_effort="low", user="u", n=3, metadata={"a": "b"})
    assert {name: getattr(request, name) for name in given} == given
    assert (request.seed, request.reasoning_effort, request.user) == (7, "low", "u")
    assert (request.choices, request.metadata) == (3, {"a": "b"})
    assert _domain(stop="x").stop == ("x",)
    assert _domain(stop=["x", "y"]).stop == ("x", "y")
    assert _domain(response_format={"type": "json_object"}).response_format == "json_object"
    assert _domain(tools=[{"type": "function"}]).tools == [{"type": "function"}]


def test_the_newer_token_limit_wins() -> None:
    assert _domain(max_tokens=5).token_limit == 5
    assert _domain(max_tokens=5, max_completion_tokens=3).token_limit == 3


@pytest.mark.parametrize("value", ["x", [], [1], {}, True, 2**70, 10**400, float("inf"), None])
def test_values_of_other_types_are_passed_on_and_not_recorded(value: object) -> None:
    names = ("temperature", "seed", "max_tokens", "tools", "response_format", "metadata", "n")
    request = _domain(**dict.fromkeys(names, value))
    assert request.temperature in (None, 2**70)
    assert (request.seed, request.token_limit, request.response_format) == (None, None, None)
    assert (list(request.tools), dict(request.metadata), request.choices) == ([], {}, 1)
    assert {name: request.body[name] for name in names} == dict.fromkeys(names, value)


@pytest.mark.parametrize("value", [5, [], [5, ""], {}, None, ""])
def test_stop_of_another_type_is_not_recorded(value: object) -> None:
    assert _domain(stop=value).stop == ()


@pytest.mark.parametrize(
    ("parameters", "param", "text"),
    [
        ({"stream": "yes"}, "stream", "it must be true or false (got 'yes')"),
        ({"stream": 1}, "stream", "it must be true or false (got 1)"),
        ({"stream_options": 5}, "stream_options", "it must be an object"),
        (
            {"stream_options": {"include_usage": "yes"}},
            "stream_options.include_usage",
            "it must be true or false (got 'yes')",
        ),
        ({"model": 5}, "model", "it must be a text (got 5)"),
        ({"model": "m" * 201}, "model", "it must have at most 200 characters"),
        ({"messages": None}, "messages", "it is required"),
        ({"messages": []}, "messages", "it must not be empty"),
        ({"messages": "hi"}, "messages", "it must be a list (got 'hi')"),
        ({"messages": [5]}, "messages[0]", "it must be an object (got 5)"),
        ({"messages": [_USER, {"content": "x"}]}, "messages[1].role", "it is required"),
        ({"messages": [{"role": 5}]}, "messages[0].role", "it must be a text"),
    ],
)
def test_a_refusal_says_where_what_and_what_is_accepted(
    parameters: dict[str, object], param: str, text: str
) -> None:
    refusal = _refusal(**parameters)
    assert (refusal.code, refusal.param) == ("invalid_request", param)
    assert refusal.message == f"Invalid '{param}': {text}"


def test_exceeded_limit_has_a_code_and_a_metric_attribute() -> None:
    refusal = _refusal(messages=[{"role": "user", "content": "x" * 101}])
    assert (refusal.code, refusal.limit) == ("too_many_message_chars", "message_chars")
    assert refusal.param == "messages[0]"
    assert refusal.message.endswith("the content has 101 characters, the maximum is 100")


def test_content_as_long_as_the_limit_is_accepted() -> None:
    _check(messages=[{"role": "user", "content": "x" * 100}])


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
        completion_request(two, limits)
    assert (caught.value.code, caught.value.limit) == (f"too_many_{limit}", limit)
    assert caught.value.message == f"Invalid 'messages': {text}, the maximum is 1"
    completion_request(two, dict.fromkeys(limits, 2))


@pytest.mark.parametrize("count", [6, 9])
def test_first_five_problems_are_listed_and_the_rest_counted(count: int) -> None:
    problems = _refusal(messages=[{"content": "x"}] * count).message.split("; ")
    assert problems == [
        *(f"Invalid 'messages[{place}].role': it is required" for place in range(5)),
        f"and {count - 5} more",
    ]


def test_invalid_value_is_repeated_up_to_40_characters() -> None:
    short, long = "x" * 38, "x" * 39  # and two quotes
    assert _refusal(stream=short).message.endswith(f" (got '{short}')")
    assert _refusal(stream=long).message.endswith("true or false")


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^Invalid 'body': it must be an object$"):
        completion_request([], {})


_CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": None}, ""),
        ({"role": "assistant"}, ""),
        ({"role": "assistant", "content": None, "refusal": "I can't."}, "I can't."),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, "no"),
        ({"role": "assistant", "content": "a", "tool_calls": _CALLS}, "a"),
        ({"role": "assistant", "content": "a", "reasoning_content": "hm"}, "a"),
        ({"role": "tool", "content": "4", "tool_call_id": "c"}, "4"),
        ({"role": "user", "content": [{"type": "text", "text": "u"}, _IMAGE]}, "u"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, ""),
        ({"role": "user", "content": [5, None, {"text": 5}]}, ""),
        ({"role": "user", "content": {"text": "u"}}, ""),
    ],
)
def test_text_of_a_message_is_that_of_its_parts(message: dict[str, object], text: str) -> None:
    assert message_text(message) == text
    assert _check(messages=[message]).body["messages"] == [message]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "refusal": "x" * 101},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "x" * 101}]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 101}}]},
        {"role": "assistant", "function_call": {"arguments": "x" * 101}},
        {"role": "assistant", "reasoning_content": "x" * 101},
        {"role": "assistant", "something_new": ["x" * 101]},
        {"role": "user", "content": {"text": "x" * 101}},
        {"role": "user", "content": [{"type": "text", "text": "x" * 101}, _IMAGE]},
        {"role": "user", "content": [{"type": "new", "new": "x" * 101}]},
        {"role": "user", "content": ["x" * 101]},
    ],
)
def test_all_that_a_model_reads_counts_as_characters(message: dict[str, object]) -> None:
    assert _refusal(messages=[message]).code == "too_many_message_chars"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_media_do_not_count_as_characters(kind: str) -> None:
    part = {"type": kind, kind: {"url": "x" * 1000}}
    assert characters({"role": "user", "content": [part, {"type": "text", "text": "ab"}]}) == 2


def test_messages_after_the_last_answer_are_new() -> None:
    roles = ["system", "user", "assistant", "tool", "function", "developer", "user"]
    messages = [{"role": role, "content": "x"} for role in roles]
    assert _domain(messages=messages).new_roles() == ["tool", "tool", "system", "user"]
    assert _domain(messages=messages[:2]).new_roles() == ["system", "user"]
    assert _domain(messages=messages[:3]).new_roles() == []


@pytest.mark.parametrize("body", ['{"a": [1.5, null]}', b'{"a": [1.5, null]}'])
def test_json_is_parsed_from_text_and_bytes(body: str | bytes) -> None:
    assert parse_json(body) == {"a": [1.5, None]}


def test_last_of_repeated_keys_counts_and_large_integers_are_kept() -> None:
    assert parse_json(b'{"a": 1, "a": 123456789012345678901234567890}') == {
        "a": 123456789012345678901234567890
    }


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


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"content": 5}, "Invalid 'content': Input should be a valid string (got 5)"),
        ({}, "Invalid 'content': it is required"),
        (
            {"content": "x", "b": 1, "a": 2},
            "Unrecognized request arguments supplied: a, b",
        ),
        (
            {"content": "x", **dict.fromkeys("fedcba", 1)},
            "Unrecognized request arguments supplied: b, c, d, e, f and 1 more",
        ),
    ],
)
def test_problems_of_a_question_are_described(data: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(Question, {"type": "message", **data}, _LIMITS)
    assert caught.value.message == text


def test_a_request_for_embeddings_keeps_its_body() -> None:
    body = {"model": "m", "input": ["a", "b"], "dimensions": 3, "new": 1}
    model, request = embedding_request(body, {"max_request_chars": 2})
    assert (model, request.body, request.dimensions) == ("m", body, 3)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"input": []}, "invalid_request"),
        ({"input": 5}, "invalid_request"),
        ({"input": ["a", "bc"]}, "too_many_request_chars"),
        ({"input": "abc"}, "too_many_request_chars"),
    ],
)
def test_input_of_embeddings_is_checked(body: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embedding_request(body, {"max_request_chars": 2})
    assert (caught.value.code, caught.value.param) == (code, "input")


@pytest.mark.parametrize("kind", [{}, [], {"a": 1}, None, 5, True])
def test_part_whose_type_is_no_text_is_passed_on_and_counted(kind: object) -> None:
    part = {"type": kind, "data": "x" * 50}
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert completion_request(body, {"max_message_chars": 100}).body == body
    with pytest.raises(InvalidRequest):
        completion_request(body, {"max_message_chars": 50})
