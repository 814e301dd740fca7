"""Responses as the official clients read them: whole, streamed, and cut anywhere."""

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import openai.types.responses as responses_types
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.responses import Response
from pydantic import BaseModel, TypeAdapter

from app.wire.formats import FORMATS
from tests.unit.wire.formats.clients import Endpoint
from tests.unit.wire.formats.completions import CASES, chunks, completion

Json = dict[str, Any]
_TIMES = ("created_at", "completed_at", "created")
_IDS = re.compile(r"(resp|msg|rs|fc|cmpl)_?-?[0-9a-f]{32}([0-9a-f]{16})?")
_RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(responses_types.ResponseStreamEvent)
_MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_CUTS = st.lists(st.integers(1, 7), max_size=30)


def _stable(found: Any) -> Any:
    """Return an object without its times and random IDs."""
    if isinstance(found, dict):
        kept = {k: v for k, v in found.items() if k not in (*_TIMES, "parsed_arguments", "parsed")}
        return {name: _stable(value) for name, value in kept.items() if value is not None}
    if isinstance(found, list):
        return [_stable(item) for item in found]
    return _IDS.sub(r"\1", found) if isinstance(found, str) else found


def _responses_whole(completion: Json) -> Json:
    found = Endpoint(completion).openai().responses.create(model="m", input="hi")
    Response.model_validate(found.to_dict(mode="json"))
    return found.to_dict(mode="json")


def _responses_streamed(parts: Sequence[Json]) -> Json:
    endpoint = Endpoint(chunks=parts)
    with endpoint.openai().responses.stream(model="m", input="hi") as stream:
        last = list(stream)[-1]
    events = endpoint.events()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        assert _RESPONSE_EVENT.validate_python(event).type == event["type"]
    _check_order(events)
    assert last.type in ("response.completed", "response.incomplete")
    return last.response.to_dict(mode="json")


def _check_order(events: Sequence[Json]) -> None:
    """Each item is added, extended and done, one after the other; deltas sum up to the end."""
    types = [event["type"] for event in events]
    assert types[:2] == ["response.created", "response.in_progress"]
    deltas: dict[tuple[str, str], str] = {}
    open_item = None
    for event in events[2:-1]:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert open_item is None
            open_item = event["output_index"]
        elif kind == "response.output_item.done":
            assert event["output_index"] == open_item
            open_item = None
        else:
            assert event["output_index"] == open_item
        if kind.endswith(".delta"):
            key = (kind.removesuffix(".delta"), event["item_id"])
            deltas[key] = deltas.get(key, "") + event["delta"]
        elif kind.removesuffix(".done") + ".delta" in types:
            texts = [event[name] for name in ("text", "refusal", "arguments") if name in event]
            assert texts == [deltas.get((kind.removesuffix(".done"), event["item_id"]), "")]
    assert open_item is None


def _messages_whole(completion: Json) -> Json:
    client = Endpoint(completion).anthropic()
    found = client.messages.create(**_MESSAGE_REQUEST)
    Message.model_validate(found.to_dict(mode="json"))
    return found.to_dict(mode="json")


def _messages_streamed(parts: Sequence[Json]) -> Json:
    endpoint = Endpoint(chunks=parts)
    with endpoint.anthropic().messages.stream(**_MESSAGE_REQUEST) as stream:
        final = stream.get_final_message()
    events = [event for event in endpoint.events() if event["type"] != "ping"]
    for event in events:
        assert _MESSAGE_EVENT.validate_python(event).type == event["type"]
    blocks = [event for event in events if event["type"].startswith("content_block")]
    starts = [each["index"] for each in blocks if each["type"] == "content_block_start"]
    assert starts == list(range(len(starts)))
    assert [each["index"] for each in blocks] == sorted(each["index"] for each in blocks)
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    return final.to_dict(mode="json")


def _text_whole(completion: Json) -> Json:
    found = Endpoint(completion).openai().completions.create(model="m", prompt="hi")
    Completion.model_validate(found.to_dict(mode="json"))
    return found.to_dict(mode="json")


def _text_streamed(parts: Sequence[Json]) -> Json:
    client = Endpoint(chunks=parts).openai()
    options: Any = {"include_usage": True}
    create: Any = client.completions.create
    stream = create(model="m", prompt="h", stream=True, stream_options=options)
    found = [part.to_dict(mode="json") for part in stream]
    choices = [choice for part in found for choice in part["choices"]]
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    text = "".join(choice["text"] for choice in choices)
    return {**found[-1], "choices": [{**choices[-1], "text": text}]}


_MESSAGE_REQUEST: Json = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
    "thinking": {"type": "adaptive"},
}
_WHOLE = {"responses": _responses_whole, "messages": _messages_whole, "text": _text_whole}
_STREAMED: dict[str, Callable[[Sequence[Json]], Json]] = {
    "responses": _responses_streamed,
    "messages": _messages_streamed,
    "text": _text_streamed,
}


@pytest.mark.parametrize("name", _WHOLE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_client_reads_the_same_whole_and_streamed(name: str, case: Json) -> None:
    assert _stable(_STREAMED[name](chunks(case))) == _stable(_WHOLE[name](case))


@pytest.mark.parametrize("name", _WHOLE)
@settings(max_examples=25, deadline=None)
@given(case=st.sampled_from(list(CASES)), cuts=_CUTS)
def test_client_reads_the_same_however_deltas_are_split(
    name: str, case: str, cuts: list[int]
) -> None:
    whole = CASES[case]
    assert _stable(_STREAMED[name](chunks(whole, cuts))) == _stable(_WHOLE[name](whole))


class _City(BaseModel):
    name: str


_STRUCTURED = completion({"content": '{"name":"Bern"}'})


def test_openai_client_parses_structured_output() -> None:
    endpoint = Endpoint(_STRUCTURED)
    found = endpoint.openai().responses.parse(model="m", input="Where?", text_format=_City)
    assert found.output_parsed == _City(name="Bern")
    schema = endpoint.chat["response_format"]["json_schema"]
    assert (schema["name"], schema["strict"]) == ("_City", True)
    assert schema["schema"]["required"] == ["name"]


def test_anthropic_client_parses_structured_output() -> None:
    endpoint = Endpoint(_STRUCTURED)
    found = endpoint.anthropic().messages.parse(**_MESSAGE_REQUEST, output_format=_City)
    assert found.parsed_output == _City(name="Bern")
    schema = endpoint.chat["response_format"]["json_schema"]
    assert schema["schema"]["required"] == ["name"]


@pytest.mark.parametrize("name", ["responses", "messages"])
def test_interleaved_tool_calls_are_sent_one_after_the_other(name: str) -> None:
    case = CASES["parallel tool calls"]
    start, *parts, last, usage = chunks(case, [3] * 20)
    calls = [[part for part in parts if _call_index(part) == index] for index in (0, 1)]
    mixed = [part for pair in zip_longest(*calls) for part in pair if part]
    assert [_call_index(part) for part in mixed[:4]] == [0, 1, 0, 1]
    assert _stable(_STREAMED[name]([start, *mixed, last, usage])) == _stable(_WHOLE[name](case))


def _call_index(part: Json) -> int:
    index: int = part["choices"][0]["delta"]["tool_calls"][0]["index"]
    return index


@pytest.mark.parametrize("path", FORMATS)
def test_usage_given_at_the_end_takes_precedence(path: str) -> None:
    given = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    prompts: dict[str, Json] = {
        "/v1/completions": {"prompt": "hi"},
        "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
        "/v1/responses": {"input": "hi"},
    }
    stream = FORMATS[path].read(given | prompts[path]).stream()
    for part in chunks(CASES["text"]):
        stream.chunk(part)
    sent = stream.end({"prompt_tokens": 7, "completion_tokens": 77, "total_tokens": 84})
    assert re.search(rb'"(completion|output)_tokens":77\b', sent)
    assert not re.search(rb'"(completion|output)_tokens":30\b', sent)
