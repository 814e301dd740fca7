"""Requests made of anything: taken and kept, or refused in a few words."""

import json
from asyncio import run
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
from hypothesis import example, given
from pydantic_core import from_json

from app.domain.errors import InvalidRequest
from app.domain.provider import Completed, ProviderError
from app.domain.request import ChatRequest, message_text
from app.providers.openai_compatible import rendered
from app.providers.simulated import Behaviour, SimulatedProvider
from app.wire.errors import error_object
from app.wire.parsing import parse_json, validate
from app.wire.request import completion_request
from app.wire.websocket import Question

_LIMITS = {"max_message_chars": 1000, "max_request_messages": 20, "max_request_chars": 5000}
_MOST_WORDS = 1500
_PARAMETERS = (
    *("messages", "model", "stream", "stream_options", "temperature", "max_tokens", "stop", "n"),
    *("seed", "tools", "tool_choice", "response_format", "metadata", "user", "reasoning_effort"),
)
_SIMULATED = SimulatedProvider(Behaviour(answer_tokens=2), model="m")
_names = st.one_of(
    st.sampled_from([*_PARAMETERS, *Question.model_fields]),
    st.sampled_from(["role", "content", "text", "include_usage", "tool_calls", "name"]),
    st.text(max_size=60),
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=60),
    st.sampled_from(["user", "assistant", "system", "text", "message", "simulated-1"]),
)
_json = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(_names, inner)),
    max_leaves=25,
)
_content = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
_message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={"name": st.text(st.characters(exclude_categories=["Cs"]), max_size=20)},
).flatmap(lambda message: _content.map(lambda content: {**message, "content": content}))
_optional: dict[str, st.SearchStrategy[Any]] = {
    "model": st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "frequency_penalty": st.floats(-2, 2),
    "presence_penalty": st.floats(-2, 2),
    "max_tokens": st.integers(1, 2**31 - 1),
    "max_completion_tokens": st.integers(1, 2**31 - 1),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "stop": st.lists(_content.filter(bool), max_size=4),
    "user": st.text(st.characters(exclude_categories=["Cs"]), max_size=512),
    "stream": st.just(True),
}
_request = st.fixed_dictionaries(
    {"messages": st.lists(_message, min_size=1, max_size=20)}, optional=_optional
)


def _assert_short(refusal: InvalidRequest) -> None:
    assert 0 < len(refusal.message) < _MOST_WORDS
    assert len(refusal.param or "") < 100
    json.dumps(error_object(refusal, "")).encode()


def _read_all(data: Any) -> None:
    """Use a request as the service does: each fact, the model's response, and the next provider."""
    parsed = parse_json(json.dumps(data))
    request = completion_request(parsed, _LIMITS).to_domain("m")
    assert request.body is parsed
    for name in vars(ChatRequest):
        if isinstance(getattr(ChatRequest, name), property):
            getattr(request, name)
    request.new_roles()
    [message_text(message) for message in request.messages]
    assert from_json(rendered(request.body)) == parsed
    with suppress(ProviderError):
        run(_respond(request))


async def _respond(request: ChatRequest) -> None:
    events = [event async for event in _SIMULATED.stream(request)]
    assert isinstance(events[-1], Completed)


@given(data=_json)
def test_any_question_is_taken_or_refused_in_a_few_words(data: Any) -> None:
    try:
        validate(Question, parse_json(json.dumps(data)), _LIMITS)
    except InvalidRequest as refusal:
        _assert_short(refusal)


@given(data=_json)
def test_any_json_is_taken_or_refused_in_a_few_words(data: Any) -> None:
    try:
        _read_all(data)
    except InvalidRequest as refusal:
        _assert_short(refusal)


# A list is no key of a set.
@example(part={"type": []}, name="a", request={"messages": [{"role": "user", "content": "a"}]})
@given(part=_json, name=_names, request=_request)
def test_one_wrong_part_is_taken_or_refused_in_a_few_words(
    part: Any, name: str, request: dict[str, Any]
) -> None:
    for data in (
        {**request, name: part},
        {**request, "messages": [*request["messages"], part]},
        {**request, "messages": [{**request["messages"][0], name: part}]},
        {**request, "messages": [{"role": "user", "content": [part]}]},
        {**request, "stream": True, "stream_options": {name: part}},
    ):
        try:
            _read_all(data)
        except InvalidRequest as refusal:
            _assert_short(refusal)


@example(body="\ud800")
@given(body=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_any_bytes_are_json_or_refused_in_a_few_words(body: bytes | str) -> None:
    try:
        parse_json(body)
    except InvalidRequest as refusal:
        _assert_short(refusal)
        code = refusal.code
    else:
        code = "invalid_json"
    assert code == "invalid_json"


@given(request=_request)
def test_a_valid_request_comes_through_as_it_was(request: dict[str, Any]) -> None:
    total = sum(len(message["content"]) for message in request["messages"])
    parsed = completion_request(parse_json(json.dumps(request)), _LIMITS)
    assert total <= _LIMITS["max_request_chars"]
    assert parsed.body == request


@given(sizes=st.lists(st.integers(0, 1200), min_size=1, max_size=25))
def test_a_request_is_refused_exactly_when_it_is_too_long(sizes: list[int]) -> None:
    messages = [{"role": "user", "content": "x" * size} for size in sizes]
    too_long = (
        len(sizes) > _LIMITS["max_request_messages"]
        or max(sizes) > _LIMITS["max_message_chars"]
        or sum(sizes) > _LIMITS["max_request_chars"]
    )
    try:
        completion_request({"messages": messages}, _LIMITS)
        refused = None
    except InvalidRequest as refusal:
        refused = refusal.limit
    assert (refused is not None) == too_long
