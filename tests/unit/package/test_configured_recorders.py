"""Recorders of the package's public names, with configured telemetry."""

import asyncio
from collections.abc import Generator

import chatscope
from chatscope import names
from chatscope.testing import recorded


@chatscope.inference(model="gpt-4o", provider="openai")
async def _ask() -> str:
    chatscope.current_call().response(usage=chatscope.Usage(12, 7))
    return "because"


def test_recorder_uses_the_configured_telemetry() -> None:
    with recorded(prefix="shop") as memory:
        assert asyncio.run(_ask()) == "because"
        chatscope.record_message("user")
    span = memory.span("chat gpt-4o")
    assert (span.attributes or {})["shop.answer.outcome"] == "completed"
    assert memory.value("llm_token_usage", type="prompt") == 12
    assert memory.value("message_count") == 1
    record = memory.log("answer completed").log_record
    assert span.context is not None
    assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
    assert (record.attributes or {})[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 7


def test_stream_that_is_closed_early_is_found_at_once() -> None:
    @chatscope.inference(model="gpt-4o", provider="openai")
    def words() -> Generator[str, None, None]:
        yield from ("one", "two")

    with recorded() as memory:
        stream = words()
        next(stream)
        stream.close()
        assert (memory.span("chat gpt-4o").attributes or {})[names.ERROR_TYPE] == "cancelled"


def test_pauses_of_a_stream_are_among_the_metrics() -> None:
    with recorded() as memory:
        with chatscope.inference(model="gpt-4o", provider="openai") as call:
            for word in ("one", "two", "three"):
                call.chunk(word)
        assert memory.value(names.CLIENT_TIME_PER_OUTPUT_CHUNK.name) == 2
        memory.clear()
        assert memory.points(names.CLIENT_TIME_PER_OUTPUT_CHUNK.name) == []
