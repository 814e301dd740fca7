"""Tools, structured output, images, choices and embeddings by the official `openai` client."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from app.main import create_app
from tests.memory import Memory
from tests.unit.serving import quick, serving

pytestmark = pytest.mark.anyio
_ASK: dict[str, Any] = {
    "model": "simulated-1",
    "messages": [{"role": "user", "content": "What is the weather in Vienna, and the time?"}],
}
_LIMITS = {"type": "integer", "minimum": 1, "maximum": 3}
_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": _LIMITS,
            },
            "required": ["city", "unit", "days"],
        },
    },
}
_TIME: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}


@pytest.fixture(scope="module")
async def client(anyio_backend: str) -> AsyncIterator[openai.AsyncOpenAI]:
    app = create_app(quick(), providers=Memory().providers)
    async with serving(app) as server:
        url = f"http://{server}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            yield client


async def _message(client: openai.AsyncOpenAI, stream: bool, **parameters: Any) -> Any:
    """Return the final message, however it came."""
    if not stream:
        answer = await client.chat.completions.create(**_ASK, **parameters)
        return answer.choices[0].message
    async with client.chat.completions.stream(**_ASK, **parameters) as events:
        final = await events.get_final_completion()
    return final.choices[0].message


def _assert_weather(arguments: str) -> None:
    found = json.loads(arguments)
    assert found.keys() == {"city", "unit", "days"}
    assert isinstance(found["city"], str)
    assert found["unit"] in ("celsius", "fahrenheit")
    assert 1 <= found["days"] <= 3


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_is_called_and_its_result_answered(
    client: openai.AsyncOpenAI, stream: bool
) -> None:
    message = await _message(client, stream, tools=[_TIME, _WEATHER])
    [call] = message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    _assert_weather(call.function.arguments)
    messages = [
        *_ASK["messages"],
        message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    parameters: dict[str, Any] = {"messages": messages, "tools": [_WEATHER]}
    answer = await client.chat.completions.create(model="simulated-1", **parameters)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
async def test_two_tools_are_called_in_parallel(client: openai.AsyncOpenAI, stream: bool) -> None:
    message = await _message(client, stream, tools=[_WEATHER, _TIME], parallel_tool_calls=True)
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
    assert len({call.id for call in message.tool_calls}) == 2
    _assert_weather(message.tool_calls[0].function.arguments)
    assert json.loads(message.tool_calls[1].function.arguments) == {}


async def test_choice_of_the_tool_is_honoured(client: openai.AsyncOpenAI) -> None:
    tools = [_WEATHER, _TIME]
    named: Any = {"type": "function", "function": {"name": "get_time"}}
    message = await _message(client, False, tools=tools, tool_choice=named)
    assert [call.function.name for call in message.tool_calls] == ["get_time"]
    message = await _message(client, False, tools=tools, tool_choice="none")
    assert message.tool_calls is None
    assert message.content


async def test_a_tool_call_is_streamed_in_pieces(client: openai.AsyncOpenAI) -> None:
    parameters: dict[str, Any] = {**_ASK, "tools": [_WEATHER], "stream": True}
    stream: Any = await client.chat.completions.create(**parameters)
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices]
    arguments = [each[0].function.arguments for each in pieces if each]
    assert len(arguments) > 3
    _assert_weather("".join(arguments))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


class _Person(BaseModel):
    name: str
    age: int = Field(ge=0, le=150)
    color: Literal["red", "green"]
    tags: list[str]
    friend: "_Person | None"


@pytest.mark.parametrize("seed", range(5))
async def test_structured_output_is_parsed(client: openai.AsyncOpenAI, seed: int) -> None:
    answer = await client.chat.completions.parse(**_ASK, response_format=_Person, seed=seed)
    assert isinstance(answer.choices[0].message.parsed, _Person)


async def test_streamed_structured_output_is_parsed(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(**_ASK, response_format=_Person) as events:
        final = await events.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, _Person)


async def test_json_without_a_schema_is_an_object(client: openai.AsyncOpenAI) -> None:
    message = await _message(client, False, response_format={"type": "json_object"})
    assert isinstance(json.loads(message.content), dict)


async def test_several_choices_differ(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**_ASK, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.choices[0].logprobs is None
    stream = await client.chat.completions.create(**_ASK, n=3, stream=True)
    texts = ["", "", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


async def test_images_and_files_are_accepted(client: openai.AsyncOpenAI) -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ]
    messages: Any = [{"role": "user", "content": content}]
    answer = await client.chat.completions.create(model="simulated-1", messages=messages)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_embeddings_are_unit_vectors_that_depend_on_the_words(
    client: openai.AsyncOpenAI, encoding: Any
) -> None:
    parameters = {} if encoding is None else {"encoding_format": encoding}
    texts = ["the quick brown fox", "a quick brown dog", "stock market report"]
    found = await client.embeddings.create(
        model="simulated-1", input=texts, dimensions=64, **parameters
    )
    assert [each.index for each in found.data] == [0, 1, 2]
    assert found.usage.prompt_tokens == 11
    if encoding == "base64":
        assert all(isinstance(each.embedding, str) for each in found.data)
        return
    vectors = [each.embedding for each in found.data]
    assert [len(vector) for vector in vectors] == [64] * 3
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-5) for vector in vectors)
    near = sum(a * b for a, b in zip(vectors[0], vectors[1], strict=True))
    far = sum(a * b for a, b in zip(vectors[0], vectors[2], strict=True))
    assert near > far


@pytest.mark.parametrize(
    "parameters",
    [{"input": ""}, {"input": "x", "dimensions": 0}, {"input": "x", "encoding_format": "int8"}],
)
async def test_invalid_request_for_embeddings_is_its_bad_request(
    client: openai.AsyncOpenAI, parameters: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="simulated-1", **parameters)
    assert caught.value.param in parameters
