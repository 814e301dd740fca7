"""Every block of code of docs/recorders.md runs, and records what the page says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatscope import genai
from chatscope.genai import Recorder
from chatscope.genai.pricing import Price, PriceTable
from chatscope.instruments import Instruments
from tests.memory import Memory
from tests.unit.telemetry.model_endpoint import model_endpoint

_PAGE = (Path(__file__).parents[3] / "docs" / "recorders.md").read_text()
_BLOCKS = re.findall(r"^```python\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
_NEEDS_EXTRAS = "instrument_clients"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """Telemetry in memory, and an endpoint at the address that the client finds."""
    memory = Memory()
    meter = memory.providers.meter_provider.get_meter("test")
    recorder = Recorder(
        tracer=memory.providers.tracer_provider.get_tracer("test"),
        instruments=Instruments(meter, tallies=memory.tallies),
        prices=PriceTable({"gpt-4o": Price(prompt=2.5, completion=10.0)}),
        tracer_provider=memory.providers.tracer_provider,
        meter_provider=memory.providers.meter_provider,
    )
    genai.use_recorder(recorder)
    with model_endpoint() as address:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{address}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        yield memory
    genai.forget_recorder(recorder)


def _run(blocks: list[str]) -> None:
    """Run blocks in their order, as one program."""
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "recorders.md", "exec"), namespace)  # noqa: S102
    namespace["client"].close()


def test_every_block_runs_and_records(memory: Memory) -> None:
    _run([block for block in _BLOCKS if _NEEDS_EXTRAS not in block])
    names = [span.name for span in memory.spans]
    assert names == [
        "chat gpt-4o",  # a call
        "chat gpt-4o",  # named facts
        "chat gpt-4o",  # decorated
        "chat gpt-4o",  # a stream
        "chat gpt-4o",  # a stream that outlives its function
        "execute_tool weather",
        "chat gpt-4o",
        "invoke_agent travel planner",
        "execute_tool search",
        "embeddings text-embedding-3-small",
        "chat gpt-4o",  # a response that is rated
        "evaluate response",
        "evaluate response",
    ]
    assert all(span.status.is_unset for span in memory.spans)
    calls = [dict(span.attributes or {}) for span in memory.spans if span.name == "chat gpt-4o"]
    assert [call.get("gen_ai.usage.output_tokens") for call in calls] == [2, 7, 7, 2, 4, 3, 3]
    assert memory.value("chatscope.feedback", gen_ai__request__model="gpt-4o") == 2
    for metric in ("socket_connections", "message_count", "llm_token_usage", "llm_response_time"):
        assert memory.points(metric), metric


def test_block_with_the_extras_records_the_client(memory: Memory) -> None:
    pytest.importorskip("opentelemetry.instrumentation.genai.openai", reason="an extra")
    [block] = [block for block in _BLOCKS if _NEEDS_EXTRAS in block]
    try:
        _run([_BLOCKS[0], block])
    finally:
        genai.uninstrument_clients()
    assert memory.value("llm_response_time") == 2
