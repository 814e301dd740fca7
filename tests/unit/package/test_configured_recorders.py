"""Recorders of the package's public names, with configured telemetry."""

import asyncio
import logging
from collections.abc import Generator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

import chatscope
from chatscope import names
from chatscope.testing import recorded

# Not in a line of code that raises: stack traces have those.
_KEY = "sk-test-123"


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


@pytest.mark.parametrize("captured", [False, True])
def test_text_of_a_failed_model_call_is_withheld_beyond_its_span_too(captured: bool) -> None:
    """It may repeat a key or a prompt, and passes through the request and its log records."""

    @chatscope.inference(model="gpt-4o", provider="openai")
    async def ask(_: Request) -> Response:
        raise LookupError(f"Incorrect API key provided: {_KEY}")

    async def wrapped(request: Request) -> Response:
        try:
            return await ask(request)
        except LookupError as error:
            logging.getLogger("shop").exception("model call failed")
            raise RuntimeError(f"no answer: {error}") from error

    async def other(_: Request) -> Response:
        raise RuntimeError("out of stock")

    app = Starlette(routes=[Route("/ask", ask), Route("/wrapped", wrapped), Route("/item", other)])
    with recorded(capture_content=captured) as memory:
        chatscope.instrument(app)
        with TestClient(app, raise_server_exceptions=False) as client:
            for path in ("/ask", "/wrapped", "/item"):
                assert client.get(path).status_code == 500
    texts = {
        path: str([event.attributes for event in memory.span(f"GET {path}").events])
        for path in ("/ask", "/wrapped", "/item")
    }
    texts["log"] = str([record.log_record.attributes for record in memory.logs])
    assert [path for path, found in texts.items() if _KEY in found] == (
        ["/ask", "/wrapped", "log"] if captured else []
    )
    assert "LookupError" in texts["/ask"]
    assert "out of stock" in texts["/item"]
