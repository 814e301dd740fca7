"""Anthropic's format: requests as chat completions, and what its responses say."""

from typing import Any

import anthropic
import pytest

from app.domain.errors import InternalError, InvalidRequest, ServiceError, ShuttingDown
from app.domain.provider import ProviderError
from app.wire.errors import HttpError
from app.wire.formats.messages import Messages
from tests.unit.wire.formats.clients import TRACE_ID, Endpoint
from tests.unit.wire.formats.completions import CALLS, CASES, chunk, chunks, completion

Json = dict[str, Any]
_REQUEST: Json = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_TOOL = {"name": "weather", "description": "Tells the weather", "input_schema": _SCHEMA}
_IMAGE = {"type": "base64", "media_type": "image/png", "data": "aGk="}
_IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def _chat(**body: Any) -> Json:
    return Messages().read({**_REQUEST, **body}).chat


def _messages(*messages: Json) -> list[Json]:
    found: list[Json] = _chat(messages=list(messages))["messages"]
    return found


def _user(*blocks: Json) -> list[Json]:
    return _messages({"role": "user", "content": list(blocks)})


def _refusal(**body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _chat(**body)
    return caught.value


def _whole(case: Json, **body: Any) -> anthropic.types.Message:
    found: anthropic.types.Message
    found = Endpoint(case).anthropic().messages.create(**{**_REQUEST, **body})
    return found


def test_all_parameters_have_their_name_in_chat_completions() -> None:
    chat = _chat(
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}],
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        tools=[_TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 5000},
        output_config={"format": {"type": "json_schema", "schema": _SCHEMA}},
        stream=True,
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        seed=4,
    )
    function = {"name": "weather", "description": "Tells the weather", "parameters": _SCHEMA}
    assert chat == {
        "model": "m",
        "max_completion_tokens": 100,
        "messages": [
            {"role": "system", "content": "Be\n\nbrief."},
            {"role": "user", "content": "hi"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "stop": ["END"],
        "user": "u",
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "medium",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": _SCHEMA, "strict": True},
        },
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 4,
    }


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "any"}, "required"),
        ({"type": "tool", "name": "w"}, {"type": "function", "function": {"name": "w"}}),
    ],
)
def test_choice_of_tools(choice: Json, expected: object) -> None:
    chat = _chat(tools=[_TOOL], tool_choice=choice)
    assert chat["tool_choice"] == expected
    assert "parallel_tool_calls" not in chat


@pytest.mark.parametrize("serial", [True, False])
def test_choice_of_parallel_calls(serial: bool) -> None:
    chat = _chat(tools=[_TOOL], tool_choice={"type": "auto", "disable_parallel_tool_use": serial})
    assert chat["parallel_tool_calls"] is not serial


@pytest.mark.parametrize(
    ("body", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16_385}}, "high"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
    ],
)
def test_thinking_is_an_effort(body: Json, effort: str | None) -> None:
    assert _chat(**body).get("reasoning_effort") == effort


def test_media_are_content_parts() -> None:
    text = {"type": "text", "media_type": "text/plain", "data": "a text"}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    content = {"type": "content", "content": [{"type": "text", "text": "inner"}]}
    found = _user(
        {"type": "text", "text": "Look:", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": _IMAGE},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": text, "title": "Title"},
        {"type": "document", "source": content},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
    )
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}
    parts = [
        {"type": "text", "text": "Look:"},
        _IMAGE_PART,
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": file},
        {"type": "text", "text": "Title"},
        {"type": "text", "text": "a text"},
        {"type": "text", "text": "inner"},
        {"type": "file", "file": {"file_id": "f"}},
    ]
    assert found == [{"role": "user", "content": parts}]


def test_message_is_part_of_the_next_request() -> None:
    message = {"reasoning_content": "Hm.", "content": "Let me see.", "tool_calls": CALLS}
    found = _whole(completion(message, "tool_calls"), thinking={"type": "adaptive"})
    assert [block.type for block in found.content] == ["thinking", "text", "tool_use", "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": "call_a", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "call_b", "is_error": True, "content": "late"},
    ]
    answer = {"role": "assistant", "content": [block.to_dict() for block in found.content]}
    user = {"role": "user", "content": [*results, {"type": "text", "text": "And?"}]}
    assert _messages(_REQUEST["messages"][0], answer, user) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", **message},
        {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_b", "content": "Error:\n\nlate"},
        {"role": "user", "content": "And?"},
    ]


def test_texts_around_citations_are_one_text() -> None:
    blocks = [{"type": "text", "text": "It is "}, {"type": "text", "text": "sunny."}]
    assert _messages({"role": "assistant", "content": blocks}) == [
        {"role": "assistant", "content": "It is sunny."}
    ]


def test_instructions_between_messages() -> None:
    [_, system] = _messages(_REQUEST["messages"][0], {"role": "system", "content": "Be brief."})
    assert system == {"role": "system", "content": "Be brief."}


def test_schema_in_the_older_parameter() -> None:
    given = {"type": "json_schema", "schema": _SCHEMA}
    chat = _chat(output_format=given)
    assert chat == _chat(output_config={"format": given})
    assert chat["response_format"]["json_schema"]["schema"] == _SCHEMA


def test_tool_of_type_custom_is_a_function() -> None:
    assert _chat(tools=[{"type": "custom", **_TOOL}]) == _chat(tools=[_TOOL])


def test_choice_without_tools_is_left_out() -> None:
    assert _chat(tools=[], tool_choice={"type": "auto"}) == _chat()


def test_image_of_a_tool_precedes_the_rest_of_the_message() -> None:
    content = [{"type": "image", "source": _IMAGE}, {"type": "text", "text": "a screen"}]
    result = {"type": "tool_result", "tool_use_id": "c", "content": content}
    assert _user(result, {"type": "text", "text": "And?"}) == [
        {"role": "tool", "tool_call_id": "c", "content": "a screen"},
        {"role": "user", "content": [_IMAGE_PART, {"type": "text", "text": "And?"}]},
    ]


def test_hidden_thinking_is_left_out_of_the_history() -> None:
    blocks = [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "A"}]
    assert _messages({"role": "assistant", "content": blocks}) == [
        {"role": "assistant", "content": "A"}
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]},
            "messages[0].content[0].type",
        ),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
        ({"tools": [{"name": "w"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [_TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"url": "u"}]}, "mcp_servers"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"temperature": 1e400}, "temperature"),
        ({"n": 2}, "n"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_refusal_names_the_parameter(body: Json, param: str) -> None:
    error = _refusal(**body)
    assert error.param == param
    assert f"'{param}'" in error.message


def test_input_tokens_are_without_those_of_the_cache() -> None:
    assert _whole(CASES["text"]).usage.to_dict() == {
        "input_tokens": 30,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 10,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 12},
    }


def test_unknown_usage_is_zero() -> None:
    usage = _whole({**CASES["text"], "usage": None}).usage
    assert (usage.input_tokens, usage.output_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (CASES["text"], "end_turn"),
        (CASES["length"], "max_tokens"),
        (CASES["tool call"], "tool_use"),
        (completion({"tool_calls": CALLS}, "stop"), "tool_use"),
        (CASES["refusal"], "refusal"),
        (CASES["content filter"], "refusal"),
        (completion({"content": "A"}, None), "end_turn"),
    ],
)
def test_reason_of_the_end(case: Json, reason: str) -> None:
    found = _whole(case)
    assert found.stop_reason == reason
    assert bool(found.stop_details) == (reason == "refusal")


def test_stop_sequence_that_the_provider_reports_is_named() -> None:
    case = completion({"content": "A"}, stop_reason="END")
    found = _whole(case, stop_sequences=["END"])
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "END")
    assert _whole(case).stop_reason == "end_turn"


@pytest.mark.parametrize(
    "thinking", [None, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"}]
)
def test_thinking_is_sent_only_to_clients_that_ask_for_it(thinking: Json | None) -> None:
    body: Json = {"thinking": thinking} if thinking else {}
    assert [block.type for block in _whole(CASES["reasoning"], **body).content] == ["text"]
    client = Endpoint(chunks=chunks(CASES["reasoning"])).anthropic()
    with client.messages.stream(**_REQUEST, **body) as stream:
        assert [block.type for block in stream.get_final_message().content] == ["text"]


def test_arguments_that_were_cut_are_an_object() -> None:
    calls = [{**CALLS[0], "function": {"name": "w", "arguments": '{"city":"Be'}}]
    [block] = _whole(completion({"tool_calls": calls}, "length")).content
    assert block.type == "tool_use"
    assert isinstance(block.input, dict)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("No.", param="x"), 400, "invalid_request_error"),
        (HttpError(401, "No.", code="c"), 401, "authentication_error"),
        (HttpError(403, "No.", code="c"), 403, "permission_error"),
        (HttpError(404, "No.", code="c"), 404, "not_found_error"),
        (HttpError(413, "No.", code="c"), 413, "invalid_request_error"),
        (ProviderError("rate_limit_exceeded", "No."), 429, "rate_limit_error"),
        (InternalError(), 500, "api_error"),
        (ProviderError("bad_response", "No."), 502, "api_error"),
        (ShuttingDown(), 503, "overloaded_error"),
        (ProviderError("timeout", "No."), 504, "timeout_error"),
    ],
)
def test_error_has_anthropics_type(error: ServiceError, status: int, kind: str) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        Endpoint(error=error).anthropic().messages.create(**_REQUEST)
    found = caught.value
    assert (found.status_code, found.type, found.api_message) == (status, kind, error.message)
    assert found.error_code == error.code
    assert found.body == Messages().error(error, TRACE_ID)
    assert isinstance(found.body, dict)
    anthropic.types.ErrorResponse.model_validate(found.body)
    assert found.body["request_id"] == TRACE_ID


def test_error_in_a_stream_is_its_last_event() -> None:
    error = ProviderError("broken_stream", "It ended early.")
    endpoint = Endpoint(chunks=[chunk({"content": "Half"})], error=error)
    texts: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError, match=r"It ended early\.") as caught,
        endpoint.anthropic().messages.stream(**_REQUEST) as stream,
    ):
        texts += stream.text_stream
    assert caught.value.error_code == "broken_stream"
    assert endpoint.events()[-1] == Messages().error(error, TRACE_ID)


def test_tokens_are_counted_by_the_length_of_texts() -> None:
    client = Endpoint().anthropic()
    messages: Any = [{"role": "user", "content": "x" * 40}]
    found = client.messages.count_tokens(model="m", messages=messages, system="y" * 7)
    assert found.input_tokens == 12
    tools: Any = [_TOOL]
    more = client.messages.count_tokens(model="m", messages=messages, tools=tools)
    assert more.input_tokens > 30


def test_image_is_not_counted_as_text() -> None:
    client = Endpoint().anthropic()
    source = {**_IMAGE, "data": "a" * 10_000}
    messages: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    assert client.messages.count_tokens(model="m", messages=messages).input_tokens == 0
