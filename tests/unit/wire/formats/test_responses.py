"""The Responses format: requests as chat completions, and what its responses say."""

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from app.domain.errors import InvalidRequest, ServiceError, ShuttingDown
from app.domain.provider import ProviderError
from app.wire.formats.responses import Responses
from tests.unit.wire.formats.clients import TRACE_ID, Endpoint
from tests.unit.wire.formats.completions import CALLS, CASES, chunk, chunks, completion

Json = dict[str, Any]
_TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
_PNG = "data:image/png;base64,aGk="


def _chat(**body: Any) -> Json:
    return Responses().read({"model": "m", "input": "hi", **body}).chat


def _messages(*items: Json) -> list[Json]:
    messages: list[Json] = _chat(input=list(items))["messages"]
    return messages


def _refusal(**body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _chat(**body)
    return caught.value


def test_text_is_a_message_of_the_user() -> None:
    assert _chat() == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_all_parameters_have_their_name_in_chat_completions() -> None:
    chat = _chat(
        instructions="Be brief.",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        user="u",
        service_tier="flex",
        safety_identifier="s",
        prompt_cache_key="k",
        parallel_tool_calls=False,
        tools=[_TOOL],
        tool_choice={"type": "function", "name": "weather"},
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low", "format": {"type": "json_object"}},
        top_logprobs=2,
        stream=True,
        top_k=3,
    )
    function = {name: value for name, value in _TOOL.items() if name != "type"}
    assert chat == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
        "max_completion_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "service_tier": "flex",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 3,
    }


def test_null_is_treated_as_omitted() -> None:
    names = ("previous_response_id", "conversation", "prompt", "tools", "text", "reasoning")
    assert _chat(**dict.fromkeys((*names, "metadata", "include", "stream", "unknown"))) == _chat()


def test_parameters_about_tools_are_left_out_without_tools() -> None:
    assert _chat(tools=[], tool_choice="auto", parallel_tool_calls=True) == _chat()


def test_parameters_that_change_nothing_are_accepted() -> None:
    given = {"store": True, "truncation": "auto", "background": False, "max_tool_calls": 3}
    assert _chat(**given, include=["reasoning.encrypted_content"]) == _chat()


def test_metadata_stays_in_the_service() -> None:
    exchange = Responses().read({"input": "hi", "metadata": {"session": "7"}})
    assert exchange.metadata == {"session": "7"}
    assert "metadata" not in exchange.chat


def test_schema_of_the_response_is_passed() -> None:
    schema = {"type": "object"}
    given = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    assert _chat(text={"format": given})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": schema, "strict": True},
    }


def test_logprobs_are_requested_by_include() -> None:
    assert _chat(include=["message.output_text.logprobs"])["logprobs"] is True
    assert "logprobs" not in _chat(include=["reasoning.encrypted_content"])


def test_tool_without_parameters() -> None:
    chat = _chat(tools=[{"type": "function", "name": "now", "parameters": None, "strict": None}])
    assert chat["tools"] == [{"type": "function", "function": {"name": "now"}}]


def test_instructions_between_messages() -> None:
    parts = [{"type": "input_text", "text": text} for text in ("Be", "brief.")]
    assert _messages({"role": "developer", "content": parts}) == [
        {"role": "developer", "content": "Be\n\nbrief."}
    ]


def test_allowed_tools_are_passed() -> None:
    choice = {"mode": "auto", "tools": [{"type": "function", "name": "weather"}]}
    chat = _chat(tools=[_TOOL], tool_choice={"type": "allowed_tools", **choice})
    named = {"type": "function", "function": {"name": "weather"}}
    assert chat["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [named]},
    }


def test_media_are_content_parts() -> None:
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": _PNG, "detail": "low"},
        {"type": "input_file", "file_data": "data:x", "filename": "a.pdf"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
    ]
    assert _messages({"role": "user", "content": parts}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": _PNG, "detail": "low"}},
                {"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            ],
        }
    ]


def test_output_of_one_response_is_input_of_the_next() -> None:
    message = {
        "reasoning_content": "Hm.",
        "content": "Let me see.",
        "tool_calls": CALLS,
    }
    found = Responses().read({"input": "hi"}).whole(completion(message, "tool_calls"))
    results = [
        {"type": "function_call_output", "call_id": call["id"], "output": "ok"} for call in CALLS
    ]
    assert _messages({"role": "user", "content": "hi"}, *found["output"], *results) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", **message},
        *({"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in CALLS),
    ]


def test_text_and_refusal_of_one_message() -> None:
    parts = [{"type": "output_text", "text": "Well."}, {"type": "refusal", "refusal": "No."}]
    assert _messages({"role": "assistant", "content": parts}) == [
        {"role": "assistant", "content": "Well.", "refusal": "No."}
    ]


def test_refusal_is_part_of_the_history() -> None:
    found = Responses().read({"input": "hi"}).whole(CASES["refusal"])
    refusal = CASES["refusal"]["choices"][0]["message"]["refusal"]
    assert _messages(*found["output"]) == [
        {"role": "assistant", "content": None, "refusal": refusal}
    ]


def test_summary_and_encrypted_reasoning_in_the_history() -> None:
    summary = [{"type": "summary_text", "text": "Sum."}]
    assert _messages(
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "reasoning", "id": "rs_2", "summary": summary},
        {"role": "assistant", "content": "A"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "B"}]},
    ) == [{"role": "assistant", "content": "A\n\nB", "reasoning_content": "Sum."}]


def test_image_of_a_tool_follows_in_a_message_of_the_user() -> None:
    image = {"type": "input_image", "image_url": _PNG}
    output = [{"type": "input_text", "text": "a screen"}, image]
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    found = _messages(call, {"type": "function_call_output", "call_id": "c", "output": output})
    part = {"type": "image_url", "image_url": {"url": _PNG}}
    assert found[1:] == [
        {"role": "tool", "tool_call_id": "c", "content": "a screen"},
        {"role": "user", "content": [part]},
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "never"}, "truncation"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "f"}]}]},
            "input[0].content[0].file_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input[0].content[0].file_data",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [_TOOL], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 5}, "max_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_refusal_names_the_parameter(body: Json, param: str) -> None:
    error = _refusal(**body)
    assert error.param == param
    assert f"'{param}'" in error.message
    assert error.message.isprintable()


def test_refusal_of_a_reference_says_what_to_do_instead() -> None:
    assert _refusal(previous_response_id="resp_1").message == (
        "Invalid 'previous_response_id': it is not supported, because no responses are stored; "
        "send the whole conversation in 'input' (got \"resp_1\")"
    )


def test_refusal_of_a_tool_names_the_supported_ones() -> None:
    message = _refusal(tools=[{"type": "web_search"}]).message
    assert message == (
        "Invalid 'tools[0].type': it is not supported; accepted: 'function' (got \"web_search\")"
    )


def test_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="it must be an object"):
        Responses().read([])


def test_response_repeats_the_parameters() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    given: Json = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "max_output_tokens": 50,
        "tools": [_TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": schema, "verbosity": "low"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }
    found = Endpoint(CASES["text"]).openai().responses.create(model="m", input="hi", **given)
    repeated = found.to_dict(mode="json")
    Response.model_validate(repeated)
    assert {name: repeated[name] for name in given} == given
    assert repeated["store"] is False
    assert (found.model, found.created_at) == ("served-model", 1_800_000_000)
    assert (found.status, found.output_text) == ("completed", "Grüezi, wörld")


def test_response_has_the_defaults_of_omitted_parameters() -> None:
    found = Endpoint(CASES["text"]).openai().responses.create(model="m", input="hi")
    assert (found.parallel_tool_calls, found.tool_choice, found.tools) == (True, "auto", [])
    assert (found.truncation, found.background) == ("disabled", False)
    assert found.text
    assert found.text.to_dict() == {"format": {"type": "text"}}


def test_usage_has_its_details() -> None:
    found = Endpoint(CASES["text"]).openai().responses.create(model="m", input="hi")
    assert found.usage
    assert found.usage.to_dict() == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 130,
    }


def test_unknown_usage_is_null() -> None:
    found = Responses().read({"input": "hi"}).whole({**CASES["text"], "usage": None})
    assert found["usage"] is None


@pytest.mark.parametrize(
    ("case", "reason"), [("length", "max_output_tokens"), ("content filter", "content_filter")]
)
def test_response_that_was_cut_is_incomplete(case: str, reason: str) -> None:
    found = Endpoint(CASES[case]).openai().responses.create(model="m", input="hi")
    assert found.status == "incomplete"
    assert found.incomplete_details
    assert found.incomplete_details.reason == reason
    assert [item.to_dict()["status"] for item in found.output] == ["incomplete"]


def test_reasoning_is_a_summary_for_clients_that_ask_for_one() -> None:
    case = CASES["reasoning"]
    endpoint = Endpoint(chunks=chunks(case, [2, 2]))
    client = endpoint.openai()
    with client.responses.stream(model="m", input="x", reasoning={"summary": "auto"}) as stream:
        item = stream.get_final_response().output[0]
    assert item.type == "reasoning"
    assert [part.text for part in item.summary] == ["Hm, 2+2."]
    assert not item.content
    names = [event["type"] for event in endpoint.events() if "reasoning" in event["type"]]
    assert names == [
        "response.reasoning_summary_part.added",
        *["response.reasoning_summary_text.delta"] * 3,
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]


def test_annotations_and_logprobs_are_in_events_and_in_the_text() -> None:
    url = {"start_index": 0, "end_index": 2, "title": "t", "url": "u"}
    token = {"token": "Hi", "logprob": -0.5, "bytes": None}
    logprobs = {"content": [{**token, "top_logprobs": [token]}]}
    annotations = [{"type": "url_citation", "url_citation": url}]
    parts = [
        chunk({"content": "Hi"}, logprobs=logprobs),
        chunk({"annotations": annotations}, finish_reason="stop"),
    ]
    endpoint = Endpoint(chunks=parts)
    with endpoint.openai().responses.stream(model="m", input="x") as stream:
        [item] = stream.get_final_response().output
    assert item.type == "message"
    probability = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5}
    assert item.content[0].to_dict() == {
        "parsed": None,
        "type": "output_text",
        "text": "Hi",
        "annotations": [{"type": "url_citation", **url}],
        "logprobs": [{**probability, "top_logprobs": [probability]}],
    }
    types = [event["type"] for event in endpoint.events()]
    assert "response.output_text.annotation.added" in types


def test_error_before_the_response_is_that_of_chat_completions() -> None:
    client = Endpoint(error=ProviderError("rate_limit_exceeded", "busy")).openai()
    with pytest.raises(openai.RateLimitError) as caught:
        client.responses.create(model="m", input="hi")
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.body == {
        "message": "busy",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
        "trace_id": TRACE_ID,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderError("broken_stream", "It ended early."), "server_error"),
        (ProviderError("rate_limit_exceeded", "Busy."), "rate_limit_exceeded"),
        (ProviderError("invalid_request", "No."), "invalid_prompt"),
        (ShuttingDown(), "server_error"),
    ],
)
def test_error_in_a_stream_fails_the_response(error: ServiceError, code: str) -> None:
    endpoint = Endpoint(chunks=[chunk({"content": "Half"})], error=error)
    stream = endpoint.openai().responses.create(model="m", input="hi", stream=True)
    events: list[Any] = []
    with pytest.raises(openai.APIError, match=error.message) as caught:
        events += stream
    assert caught.value.code == error.code
    found = endpoint.events()
    failed = openai.types.responses.ResponseFailedEvent.model_validate(found[-2]).response
    assert (failed.status, failed.output_text) == ("failed", "Half")
    assert [item.to_dict()["status"] for item in failed.output] == ["incomplete"]
    assert failed.error
    assert (failed.error.code, failed.error.message) == (code, error.message)
    last = openai.types.responses.ResponseErrorEvent.model_validate(found[-1])
    assert (last.code, last.message) == (error.code, error.message)
    assert found[-1]["error"]["trace_id"] == TRACE_ID


def test_error_before_the_first_chunk_of_a_stream_is_one_failed_response() -> None:
    stream = Responses().read({"input": "hi", "stream": True}).stream()
    sent = stream.error(ShuttingDown(), TRACE_ID).decode()
    names = [line[7:] for line in sent.splitlines() if line.startswith("event: ")]
    assert names == ["response.created", "response.in_progress", "response.failed", "error"]
