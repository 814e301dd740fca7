"""The cost of usage objects of seven providers, by hand.

Prices are US dollars for a million tokens, written down from the providers' pages: they are not
read from the table. Each line of a sum is a number of tokens and their price.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from chatscope.genai.pricing import PriceTable
from chatscope.genai.usage import read_usage

_Sum = list[tuple[int, str]]
_Case = tuple[str, dict[str, Any], _Sum]

_SATURDAY = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
_PEAK = datetime(2026, 11, 27, 2, 0, tzinfo=UTC)  # a Friday
_TABLE = PriceTable.load()


def _chat(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


def _cached(count: int) -> dict[str, Any]:
    return {"prompt_tokens_details": {"cached_tokens": count}}


# https://developers.openai.com/api/docs/pricing and the pages of the models
_OPENAI: list[_Case] = [
    ("gpt-4o-mini", _chat(10_000, 100, **_cached(9_600)),
     [(400, "0.15"), (9_600, "0.075"), (100, "0.60")]),
    ("gpt-4o-2024-08-06", _chat(2_006, 300, **_cached(1_920)),
     [(86, "2.50"), (1_920, "1.25"), (300, "10")]),
    ("gpt-4.1", _chat(1_200, 850), [(1_200, "2"), (850, "8")]),
    ("o3-2025-04-16",
     _chat(75, 1_186, completion_tokens_details={"reasoning_tokens": 1_024}),
     [(75, "2"), (1_186, "8")]),
    ("gpt-5-mini",
     {"input_tokens": 5_328, "input_tokens_details": {"cached_tokens": 5_120},
      "output_tokens": 952, "output_tokens_details": {"reasoning_tokens": 832},
      "total_tokens": 6_280},
     [(208, "0.25"), (5_120, "0.025"), (952, "2")]),
    # More than 272,000 tokens of input: other prices for all of the request.
    ("gpt-5.4", _chat(300_000, 1_000, **_cached(200_000)),
     [(100_000, "5"), (200_000, "0.50"), (1_000, "22.50")]),
    ("gpt-realtime-1.5",
     {"total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
      "input_token_details": {"text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64,
                              "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4}},
      "output_token_details": {"text_tokens": 30, "audio_tokens": 91}},
     [(59, "4"), (60, "0.40"), (9, "32"), (4, "0.40"), (30, "16"), (91, "64")]),
    ("gpt-image-1",
     {"input_tokens": 373, "input_tokens_details": {"text_tokens": 50, "image_tokens": 323},
      "output_tokens": 4_160, "total_tokens": 4_533},
     [(50, "5"), (323, "10"), (4_160, "40")]),
    ("text-embedding-3-small", {"prompt_tokens": 8_191, "total_tokens": 8_191},
     [(8_191, "0.02")]),
]  # fmt: skip
# https://platform.claude.com/docs/en/about-claude/pricing
_ANTHROPIC: list[_Case] = [
    ("claude-opus-5", {"input_tokens": 2_095, "output_tokens": 503},
     [(2_095, "5"), (503, "25")]),
    ("claude-opus-4-8",
     {"input_tokens": 21, "cache_creation_input_tokens": 188_086, "cache_read_input_tokens": 0,
      "output_tokens": 393},
     [(21, "5"), (188_086, "6.25"), (393, "25")]),
    ("claude-sonnet-4-6",
     {"input_tokens": 21, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 188_086,
      "output_tokens": 393},
     [(21, "3"), (188_086, "0.30"), (393, "15")]),
    ("claude-haiku-4-5-20251001",
     {"input_tokens": 2_048, "cache_read_input_tokens": 1_800,
      "cache_creation_input_tokens": 248,
      "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
      "output_tokens": 503},
     [(2_048, "1"), (1_800, "0.10"), (148, "1.25"), (100, "2"), (503, "5")]),
    # More than 100,000 tokens of input, most of them from the cache.
    ("claude-haiku-5-5",
     {"input_tokens": 2_000, "cache_read_input_tokens": 110_000, "output_tokens": 500},
     [(2_000, "0.50"), (110_000, "0.05"), (500, "2.50")]),
]  # fmt: skip
# https://ai.google.dev/gemini-api/docs/pricing
_GOOGLE: list[_Case] = [
    ("gemini-2.5-flash", {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
     [(20, "0.30"), (603, "2.50")]),
    ("models/gemini-2.5-flash", _chat(20, 603), [(20, "0.30"), (603, "2.50")]),
    ("gemini-2.5-flash",
     {"promptTokenCount": 1_000, "cachedContentTokenCount": 600, "candidatesTokenCount": 10,
      "thoughtsTokenCount": 100, "totalTokenCount": 1_110,
      "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 800},
                              {"modality": "AUDIO", "tokenCount": 200}],
      "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 450},
                             {"modality": "AUDIO", "tokenCount": 150}]},
     [(350, "0.30"), (450, "0.03"), (50, "1"), (150, "0.10"), (110, "2.50")]),
    ("gemini-2.5-pro",
     {"promptTokenCount": 200_000, "candidatesTokenCount": 900, "thoughtsTokenCount": 1_100,
      "totalTokenCount": 202_000},
     [(200_000, "1.25"), (2_000, "10")]),
    ("gemini-2.5-pro",
     {"promptTokenCount": 250_000, "cachedContentTokenCount": 200_000,
      "candidatesTokenCount": 900, "thoughtsTokenCount": 1_100, "totalTokenCount": 252_000},
     [(50_000, "2.50"), (200_000, "0.25"), (2_000, "15")]),
    ("gemini-2.5-flash-image",
     {"promptTokenCount": 270, "candidatesTokenCount": 1_300, "totalTokenCount": 1_570,
      "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290},
                                  {"modality": "TEXT", "tokenCount": 10}]},
     [(270, "0.30"), (1_290, "30"), (10, "2.50")]),
]  # fmt: skip
# https://api-docs.deepseek.com/quick_start/pricing
_DEEPSEEK: list[_Case] = [
    ("deepseek-flash",
     _chat(1_000, 50, prompt_cache_hit_tokens=896, prompt_cache_miss_tokens=104),
     [(104, "0.15"), (896, "0.003"), (50, "0.60")]),
    ("deepseek-v4-pro",
     _chat(4_000, 2_500, prompt_cache_hit_tokens=0, prompt_cache_miss_tokens=4_000,
           completion_tokens_details={"reasoning_tokens": 2_100}),
     [(4_000, "0.66"), (2_500, "1.98")]),
]  # fmt: skip
_DEEPSEEK_PEAK: list[_Case] = [
    ("deepseek-flash",
     _chat(1_000, 50, prompt_cache_hit_tokens=896, prompt_cache_miss_tokens=104),
     [(104, "0.30"), (896, "0.006"), (50, "1.20")]),
]  # fmt: skip
# https://mistral.ai/pricing
_MISTRAL: list[_Case] = [
    ("codestral-latest", _chat(640, 210), [(640, "0.30"), (210, "0.90")]),
    ("magistral-medium-latest", _chat(88, 1_900), [(88, "2"), (1_900, "5")]),
    ("mistral-medium-3-5", _chat(9_000, 700, num_cached_tokens=8_000),
     [(1_000, "1.50"), (8_000, "0.15"), (700, "7.50")]),
]  # fmt: skip
# https://groq.com/pricing
_GROQ: list[_Case] = [
    ("llama-3.3-70b-versatile",
     {"choices": [], "x_groq": {"id": "req_1", "usage": _chat(18, 556, total_time=0.464)}},
     [(18, "0.59"), (556, "0.79")]),
    ("llama-3.1-8b-instant", _chat(120_000, 40), [(120_000, "0.05"), (40, "0.08")]),
    ("openai/gpt-oss-120b", _chat(4_641, 1_817, **_cached(4_608)),
     [(33, "0.15"), (4_608, "0.075"), (1_817, "0.60")]),
]  # fmt: skip
# https://docs.x.ai/docs/models
_XAI: list[_Case] = [
    ("grok-3-mini",
     {"prompt_tokens": 37, "completion_tokens": 530, "total_tokens": 800, **_cached(8),
      "completion_tokens_details": {"reasoning_tokens": 233}},
     [(29, "0.30"), (8, "0.075"), (763, "0.50")]),
    ("grok-4.3", _chat(150_000, 2_000, **_cached(100_000)),
     [(50_000, "1.25"), (100_000, "0.20"), (2_000, "2.50")]),
    ("grok-4.3", _chat(250_000, 2_000, **_cached(100_000)),
     [(150_000, "2.50"), (100_000, "0.40"), (2_000, "5")]),
]  # fmt: skip

_CASES = [
    pytest.param(host, when, case, id=f"{host} {case[0]} {number}")
    for host, when, cases in (
        ("api.openai.com", _SATURDAY, _OPENAI),
        ("api.anthropic.com", _SATURDAY, _ANTHROPIC),
        ("generativelanguage.googleapis.com", _SATURDAY, _GOOGLE),
        ("api.deepseek.com", _SATURDAY, _DEEPSEEK),
        ("api.deepseek.com", _PEAK, _DEEPSEEK_PEAK),
        ("api.mistral.ai", _SATURDAY, _MISTRAL),
        ("api.groq.com", _SATURDAY, _GROQ),
        ("api.x.ai", _SATURDAY, _XAI),
    )
    for number, case in enumerate(cases, 1)
]


@pytest.mark.parametrize(("host", "when", "case"), _CASES)
def test_cost_is_that_of_the_price_page(host: str, when: datetime, case: _Case) -> None:
    model, reported, lines = case
    usage = read_usage(reported)
    assert usage is not None
    # The lines of the sum are all tokens, and none twice.
    assert usage.total_tokens == sum(count for count, _ in lines)
    by_hand = sum(count * Decimal(price) for count, price in lines) / 1_000_000
    cost = _TABLE.cost_of(usage, model, "openai", host, now=when)
    assert cost == pytest.approx(float(by_hand), abs=1e-9, rel=0)


def test_there_are_thirty_of_seven_providers() -> None:
    assert len(_CASES) >= 30
    assert len({str(case.id).split()[0] for case in _CASES}) == 7
