"""The rate limits that a provider's response headers tell."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from chatscope import instruments as module
from chatscope import names
from chatscope.genai.rate_limits import RateLimit, rate_limits
from chatscope.instruments import Instruments
from tests.memory import Memory

_OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "800000",
    "x-ratelimit-remaining-tokens": "799968",
    "x-request-id": "req_1",
}
_ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-11-29T03:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "2000000",
    "anthropic-ratelimit-input-tokens-remaining": "1999000",
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            _OPENAI,
            [RateLimit("requests", 4999, 5000), RateLimit("tokens", 799_968, 800_000)],
        ),
        (
            _ANTHROPIC,
            [
                RateLimit("requests", 3999, 4000),
                RateLimit("input_tokens", 1_999_000, 2_000_000),
            ],
        ),
        ({"X-RateLimit-Remaining-Tokens": " 7 "}, [RateLimit("tokens", 7)]),
        ({"x-ratelimit-remaining-project-tokens": "7"}, []),
        ({"x-ratelimit-limit": "7", "x-ratelimit-remaining": "6"}, []),
        ({"x-ratelimit-remaining-requests": "-1"}, []),
        ({"x-ratelimit-remaining-requests": "1e9"}, []),
        ({"x-ratelimit-remaining-requests": "\u0667"}, []),
        ({"x-ratelimit-remaining-requests": "9" * 400}, []),
        ({}, []),
    ],
)
def test_headers_are_read(headers: Mapping[str, str], expected: list[RateLimit]) -> None:
    assert list(rate_limits(headers)) == expected


def _recorded(memory: Memory, metric: names.Metric) -> dict[Any, float]:
    by = (names.GEN_AI_PROVIDER_NAME, names.GEN_AI_REQUEST_MODEL, names.RATE_LIMIT_TYPE)
    points = memory.points(metric.name)
    return {tuple(point.attributes[name] for name in by): point.value for point in points}


def test_last_values_are_exported_until_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    instruments = Instruments(memory.providers.meter_provider.get_meter("test"))
    remaining = "x-ratelimit-remaining-requests"
    instruments.record_rate_limits(_OPENAI, "openai", "gpt-4o")
    instruments.record_rate_limits({remaining: "1"}, "openai", "gpt-4o")
    assert _recorded(memory, names.RATE_LIMIT_REMAINING) == {
        ("openai", "gpt-4o", "requests"): 1,
        ("openai", "gpt-4o", "tokens"): 799_968,
    }
    assert _recorded(memory, names.RATE_LIMIT_LIMIT) == {("openai", "gpt-4o", "tokens"): 800_000}

    later = time.monotonic() + module._RATE_LIMIT_SECONDS + 1
    monkeypatch.setattr("chatscope.instruments.time.monotonic", lambda: later)
    instruments.record_rate_limits({remaining: "0"}, "openai", "gpt-4o")
    assert _recorded(memory, names.RATE_LIMIT_REMAINING) == {("openai", "gpt-4o", "requests"): 0}
