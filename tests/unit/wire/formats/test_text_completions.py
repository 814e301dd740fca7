"""Legacy text completions as chat completions."""

from typing import Any

import openai
import pytest

from app.domain.errors import InvalidRequest
from app.domain.provider import ProviderError
from app.wire.formats.text_completions import TextCompletions
from tests.unit.wire.formats.clients import Endpoint
from tests.unit.wire.formats.completions import CASES, USAGE, chunk, chunks, completion

Json = dict[str, Any]


def _chat(**body: Any) -> Json:
    return TextCompletions().read({"prompt": "Once", **body}).chat


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_prompt_is_a_message_of_the_user(prompt: object) -> None:
    assert _chat(prompt=prompt) == {
        "messages": [{"role": "user", "content": "Once"}],
        "max_tokens": 16,
    }


def test_all_parameters_have_their_name_in_chat_completions() -> None:
    same = {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["a"],
        "seed": -3,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "logit_bias": {"50256": -100},
        "user": "u",
        "min_p": 0.1,
    }
    chat = _chat(**same, logprobs=3, echo=False, best_of=2, suffix=None, stream=True)
    assert chat == {
        **same,
        "messages": [{"role": "user", "content": "Once"}],
        "logprobs": True,
        "top_logprobs": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [None]}, "prompt[0]"),
        ({"suffix": "."}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
    ],
)
def test_refusal_names_the_parameter(body: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _chat(**body)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


def test_response_has_text_usage_and_reason() -> None:
    found = Endpoint(CASES["length"]).openai().completions.create(model="m", prompt="Once")
    assert found.object == "text_completion"
    assert found.model == "served-model"
    assert found.choices[0].text == "Once upon"
    assert found.choices[0].finish_reason == "length"
    assert found.usage
    assert found.usage.to_dict() == USAGE


def test_choices_keep_their_index() -> None:
    first, second = (completion({"content": text})["choices"][0] for text in ("A", "B"))
    case = {**CASES["text"], "choices": [first, {**second, "index": 1}]}
    found = Endpoint(case).openai().completions.create(model="m", prompt="x", n=2)
    assert [(choice.index, choice.text) for choice in found.choices] == [(0, "A"), (1, "B")]


def test_logprobs_have_the_offsets_of_the_tokens() -> None:
    def part(text: str) -> Json:
        token = {"token": text, "logprob": -0.5, "bytes": None}
        return chunk({"content": text}, logprobs={"content": [{**token, "top_logprobs": [token]}]})

    client = Endpoint(chunks=[part("Once"), part(" upon")]).openai()
    stream = client.completions.create(model="m", prompt="x", logprobs=1, stream=True)
    [first, second] = [each.choices[0].logprobs for each in stream]
    assert first
    assert second
    assert (first.text_offset, second.text_offset) == ([0], [4])
    assert second.to_dict() == {
        "tokens": [" upon"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{" upon": -0.5}],
        "text_offset": [4],
    }


def test_usage_is_streamed_only_on_request() -> None:
    endpoint = Endpoint(chunks=chunks(CASES["text"]))
    list(endpoint.openai().completions.create(model="m", prompt="x", stream=True))
    assert not any("usage" in event for event in endpoint.events())
    assert endpoint.sent.endswith(b"data: [DONE]\n\n")


def test_error_in_a_stream_is_that_of_chat_completions() -> None:
    error = ProviderError("broken_stream", "It ended early.")
    client = Endpoint(chunks=[chunk({"content": "Half"})], error=error).openai()
    with pytest.raises(openai.APIError, match=r"It ended early\.") as caught:
        list(client.completions.create(model="m", prompt="x", stream=True))
    assert caught.value.code == "broken_stream"
