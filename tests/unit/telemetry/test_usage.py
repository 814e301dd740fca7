"""Usage objects of the providers, as their documentation shows them."""

from typing import Any

import pytest
from anthropic.types import Usage as AnthropicUsage
from openai.types import CompletionUsage

from chatscope.genai.request import Usage
from chatscope.genai.usage import merge_usage, read_usage

_REPORTED: dict[str, tuple[dict[str, Any], Usage]] = {
    "openai, cached prompt, reasoning and audio": (
        {
            "prompt_tokens": 10_000,
            "completion_tokens": 100,
            "total_tokens": 10_100,
            "prompt_tokens_details": {"cached_tokens": 9_600, "audio_tokens": 12},
            "completion_tokens_details": {
                "reasoning_tokens": 40,
                "audio_tokens": 7,
                "accepted_prediction_tokens": 3,
                "rejected_prediction_tokens": 1,
            },
        },
        Usage(
            10_000,
            100,
            cache_read_tokens=9_600,
            reasoning_tokens=40,
            audio_input_tokens=12,
            audio_output_tokens=7,
        ),
    ),
    "openai responses": (
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 128},
            "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 32},
            "total_tokens": 380,
        },
        Usage(328, 52, cache_read_tokens=128, reasoning_tokens=32),
    ),
    "openai images": (
        {
            "input_tokens": 50,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            "output_tokens": 4_160,
            "output_tokens_details": {"image_tokens": 4_160, "text_tokens": 0},
            "total_tokens": 4_210,
        },
        Usage(50, 4_160, image_input_tokens=40, image_output_tokens=4_160),
    ),
    "openai realtime": (
        {
            "total_tokens": 253,
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119,
                "audio_tokens": 13,
                "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
        Usage(
            132,
            121,
            cache_read_tokens=64,
            audio_input_tokens=13,
            audio_output_tokens=91,
            audio_cache_read_tokens=4,
        ),
    ),
    "anthropic": (
        {
            "input_tokens": 3,
            "cache_creation_input_tokens": 456,
            "cache_read_input_tokens": 1_800,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 356,
                "ephemeral_1h_input_tokens": 100,
            },
            "output_tokens": 503,
        },
        Usage(
            2_259,
            503,
            cache_read_tokens=1_800,
            cache_write_tokens=456,
            cache_write_1h_tokens=100,
        ),
    ),
    "anthropic, lifetimes only": (
        {
            "input_tokens": 3,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7},
            "output_tokens": 1,
        },
        Usage(15, 1, cache_write_tokens=12, cache_write_1h_tokens=7),
    ),
    "anthropic, end of a stream": ({"output_tokens": 15}, Usage(0, 15, partial=True)),
    "bedrock": (
        {
            "inputTokens": 20,
            "outputTokens": 8,
            "totalTokens": 128,
            "cacheReadInputTokens": 70,
            "cacheWriteInputTokens": 30,
        },
        Usage(120, 8, cache_read_tokens=70, cache_write_tokens=30),
    ),
    "deepseek": (
        {
            "prompt_tokens": 1_000,
            "completion_tokens": 50,
            "total_tokens": 1_050,
            "prompt_cache_hit_tokens": 896,
            "prompt_cache_miss_tokens": 104,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        Usage(1_000, 50, cache_read_tokens=896, reasoning_tokens=30),
    ),
    "gemini, openai format, thinking in the total only": (
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        Usage(20, 603, reasoning_tokens=405),
    ),
    "gemini, openai format, thinking in the completion": (
        {"prompt_tokens": 20, "completion_tokens": 603, "total_tokens": 623},
        Usage(20, 603),
    ),
    "gemini": (
        {
            "promptTokenCount": 1_000,
            "cachedContentTokenCount": 600,
            "candidatesTokenCount": 10,
            "thoughtsTokenCount": 100,
            "toolUsePromptTokenCount": 5,
            "totalTokenCount": 1_115,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 700},
                {"modality": "AUDIO", "tokenCount": 200},
                {"modality": "IMAGE", "tokenCount": 100},
            ],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 150}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
        },
        Usage(
            1_005,
            110,
            cache_read_tokens=600,
            reasoning_tokens=100,
            audio_input_tokens=200,
            audio_cache_read_tokens=150,
            image_input_tokens=100,
        ),
    ),
    "mistral": (
        {
            "prompt_tokens": 13,
            "completion_tokens": 4,
            "total_tokens": 17,
            "prompt_audio_seconds": {},
            "num_cached_tokens": 8,
        },
        Usage(13, 4, cache_read_tokens=8),
    ),
    "groq, last chunk": (
        {
            "id": "c",
            "choices": [],
            "x_groq": {
                "id": "req_1",
                "usage": {
                    "queue_time": 0.01,
                    "prompt_tokens": 18,
                    "prompt_time": 0.0009,
                    "completion_tokens": 556,
                    "completion_time": 0.463,
                    "total_tokens": 574,
                    "total_time": 0.464,
                },
            },
        },
        Usage(18, 556),
    ),
    "xai, reasoning beside the completion": (
        {
            "prompt_tokens": 37,
            "completion_tokens": 530,
            "total_tokens": 800,
            "prompt_tokens_details": {
                "text_tokens": 37,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": 8,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 233,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        Usage(
            37,
            763,
            cache_read_tokens=8,
            reasoning_tokens=233,
            audio_input_tokens=0,
            audio_output_tokens=0,
            image_input_tokens=0,
        ),
    ),
    "reasoning beside the completion, no total": (
        {
            "prompt_tokens": 5,
            "completion_tokens": 10,
            "completion_tokens_details": {"reasoning_tokens": 90},
        },
        Usage(5, 100, reasoning_tokens=90),
    ),
    "openrouter, own key": (
        {
            "prompt_tokens": 194,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100},
            "completion_tokens": 2,
            "completion_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 196,
            "cost": 0.25,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 0.5},
        },
        Usage(
            194,
            2,
            cache_read_tokens=0,
            cache_write_tokens=100,
            reasoning_tokens=0,
            reported_cost=0.75,
        ),
    ),
    "perplexity": (
        {
            "prompt_tokens": 8,
            "completion_tokens": 439,
            "total_tokens": 447,
            "search_context_size": "low",
            "cost": {"input_tokens_cost": 0.0, "request_cost": 0.005, "total_cost": 0.005},
        },
        Usage(8, 439, reported_cost=0.005),
    ),
    "cohere": (
        {
            "finish_reason": "COMPLETE",
            "usage": {
                "billed_units": {"input_tokens": 17, "output_tokens": 11},
                "tokens": {"input_tokens": 215, "output_tokens": 13},
            },
        },
        Usage(215, 13),
    ),
    "ollama": (
        {"model": "m", "done": True, "prompt_eval_count": 26, "eval_count": 298},
        Usage(26, 298),
    ),
    "llama.cpp": (
        {"choices": [], "timings": {"cache_n": 236, "prompt_n": 1, "predicted_n": 35}},
        Usage(237, 35, cache_read_tokens=236),
    ),
    "langchain": (
        {
            "input_tokens": 350,
            "output_tokens": 240,
            "total_tokens": 590,
            "input_token_details": {"audio": 10, "cache_creation": 200, "cache_read": 100},
            "output_token_details": {"audio": 10, "reasoning": 200},
        },
        Usage(
            350,
            240,
            cache_read_tokens=100,
            cache_write_tokens=200,
            reasoning_tokens=200,
            audio_input_tokens=10,
            audio_output_tokens=10,
        ),
    ),
    "cached tokens beside the prompt": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "prompt_tokens_details": {"cached_tokens": 100},
        },
        Usage(110, 5, cache_read_tokens=100),
    ),
    "more parts than the total allows": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        Usage(10, 5, cache_read_tokens=10, reasoning_tokens=5),
    ),
    "embeddings": ({"prompt_tokens": 11, "total_tokens": 11}, Usage(11, 0, partial=True)),
    "embeddings, total only": ({"total_tokens": 11}, Usage(11, 0, partial=True)),
    "other names in a chat": (
        {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16},
        Usage(11, 5),
    ),
    "completion by the total": ({"prompt_tokens": 11, "total_tokens": 16}, Usage(11, 5)),
    "numbers with a fraction of zero": (
        {"prompt_tokens": 11.0, "completion_tokens": 5.0},
        Usage(11, 5),
    ),
}


@pytest.mark.parametrize("name", _REPORTED)
def test_usage_of_each_provider_is_read(name: str) -> None:
    reported, expected = _REPORTED[name]
    assert read_usage(reported) == expected
    if not reported.keys() & {"choices", "usage"}:
        assert read_usage({"id": "r", "usage": reported}) == expected


@pytest.mark.parametrize(
    "reported",
    [
        None,
        {},
        "11",
        11,
        [11],
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -1, "completion_tokens": True},
        {"prompt_tokens": "11", "completion_tokens": 1.5},
        {"prompt_tokens": 10**400, "completion_tokens": float("inf")},
        {"prompt_tokens": float("nan"), "completion_tokens": {"prompt_tokens": 1}},
        object(),
    ],
)
def test_usage_without_a_valid_count_is_none(reported: object) -> None:
    assert read_usage(reported) is None


def test_objects_of_the_official_clients_are_read() -> None:
    openai = CompletionUsage.model_validate(_REPORTED["deepseek"][0])
    assert read_usage(openai) == _REPORTED["deepseek"][1]
    anthropic = AnthropicUsage.model_validate(_REPORTED["anthropic"][0])
    assert read_usage(anthropic) == _REPORTED["anthropic"][1]


def test_object_whose_attributes_raise_is_no_usage() -> None:
    class Hostile:
        @property
        def prompt_tokens(self) -> int:
            raise RuntimeError("no")

    assert read_usage(Hostile()) is None
    assert read_usage({"usage": Hostile()}) is None


def test_start_and_end_of_a_stream_are_one_complete_usage() -> None:
    start = read_usage({"input_tokens": 25, "cache_read_input_tokens": 75, "output_tokens": 1})
    end = read_usage({"output_tokens": 15})
    assert merge_usage(start, end) == Usage(100, 15, cache_read_tokens=75)
    assert merge_usage(read_usage({"prompt_tokens": 11}), end) == Usage(11, 15)


def test_usage_of_the_caller_is_returned_only_with_valid_counts() -> None:
    assert read_usage(Usage(3, 2)) == Usage(3, 2)
    assert read_usage(Usage(3, -1)) is None
    assert read_usage(Usage(3, 1, cache_read_tokens="2")) is None  # type: ignore[arg-type]
