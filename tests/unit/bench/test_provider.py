"""The provider of the benchmarks: as many tokens as asked for, JSON and streamed."""

import time
from typing import Any, Final

import openai
import pytest

from bench.provider import MODEL, provider

_MESSAGES: Final[Any] = [{"role": "user", "content": "How are you?"}]


@pytest.mark.parametrize("tokens", [1, 60])
def test_official_client_understands_json_and_streams(tokens: int) -> None:
    with provider() as url, openai.OpenAI(base_url=url, api_key="none") as client:
        create = client.chat.completions.create
        whole = create(model=MODEL, messages=_MESSAGES, max_tokens=tokens)
        stream = create(model=MODEL, messages=_MESSAGES, max_tokens=tokens, stream=True)
        chunks = list(stream)
    assert len((whole.choices[0].message.content or "").split()) == tokens
    assert [bool(chunk.choices[0].delta.content) for chunk in chunks] == [True] * tokens + [False]
    assert whole.usage == chunks[-1].usage


def test_chunks_come_with_pauses() -> None:
    with provider(pause=0.05) as url, openai.OpenAI(base_url=url, api_key="none") as client:
        started = time.monotonic()
        stream = client.chat.completions.create(
            model=MODEL, messages=_MESSAGES, max_tokens=10, stream=True
        )
        assert len(list(stream)) == 11
    # The first chunk waits for nothing.
    assert time.monotonic() - started >= 0.5
