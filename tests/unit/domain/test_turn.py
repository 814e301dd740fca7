"""Every way out of a turn: what the client is told, and that it is recorded once."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.trace import SpanKind

from app.domain.errors import Overloaded, ServiceError
from app.domain.identity import Identity
from app.domain.provider import Chunk, Completed, Event, ProviderError, Started, Upstream
from app.domain.request import ChatRequest
from app.domain.turn import SHUTDOWN, ClientDisconnected, Summary, Turn, run_turn
from app.providers.catalog import CatalogModel
from app.wire.errors import http_status
from chatscope import Telemetry, names
from chatscope.genai import Usage
from chatscope.genai.pricing import PriceTable
from chatscope.providers import TelemetrySettings
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted, Step, catalog_of, chat_request

pytestmark = pytest.mark.anyio
PRICED = "simulated-1"


class _Output:
    """Notes what it is given; `gone_after` pieces, nobody is there any more.

    The end of an answer waits for `room`, as for a client that reads slowly.
    """

    def __init__(self, gone_after: int | None = None) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.ending = asyncio.Event()
        self.texts: list[str] = []
        self.endings: list[Summary] = []
        self.cancellations: list[Summary] = []
        self.errors: list[tuple[ServiceError, str]] = []
        self.begun = asyncio.Event()
        self._gone_after = gone_after

    def started(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    async def delta(self, chunk: Chunk, *, more: bool = False) -> None:
        if len(self.texts) == self._gone_after:
            raise ClientDisconnected
        self.texts.append(chunk.text)
        self.begun.set()

    async def completed(self, ending: Summary) -> None:
        self.ending.set()
        await self.room.wait()
        if len(self.texts) == self._gone_after:
            raise ClientDisconnected
        self.endings.append(ending)

    async def cancelled(self, ending: Summary) -> None:
        self.cancellations.append(ending)

    async def failed(self, error: ServiceError, trace_id: str) -> None:
        self.errors.append((error, trace_id))


@pytest.fixture
def telemetry(memory: Memory) -> Telemetry:
    settings = TelemetrySettings(known_models=frozenset({MODEL}))
    telemetry = Telemetry(settings, memory.providers)
    telemetry.start()
    return telemetry


def _turn(provider: Scripted, *, stream: bool = True) -> Turn:
    request = chat_request(
        {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    )
    return Turn(model=catalog_of(provider).find(MODEL), request=request, started=0.0)


def _assert_recorded_once(memory: Memory, *, outcome: str, error_type: str | None) -> None:
    span = memory.span(f"chat {MODEL}")
    attributes = span.attributes or {}
    assert attributes.get(names.ANSWER_OUTCOME) == outcome
    assert attributes.get(names.ERROR_TYPE) == error_type
    assert memory.value("llm_response_time") == 1
    assert memory.value("message_count", role="user") == 1
    memory.log(f"answer {outcome}")


async def test_a_whole_answer_is_passed_on_and_ends_with_what_it_took(
    telemetry: Telemetry, memory: Memory
) -> None:
    output = _Output()
    await run_turn(telemetry, _turn(Scripted("Hel", "lo", END)), output)
    assert output.texts == ["Hel", "lo"]
    (ending,) = output.endings
    assert (ending.model, ending.finish_reason, ending.usage) == (MODEL, "stop", END.usage)
    assert ending.trace_id == f"{memory.span(f'chat {MODEL}').context.trace_id:032x}"
    _assert_recorded_once(memory, outcome="completed", error_type=None)
    assert memory.value("message_count", role="assistant") == 1
    assert memory.value("llm_token_usage", type="completion") == 2


@pytest.mark.parametrize("steps", [(), ("par", "tial")])
async def test_a_providers_failure_is_told_and_recorded_under_its_type(
    telemetry: Telemetry, memory: Memory, steps: tuple[Step, ...]
) -> None:
    output = _Output()
    error = ProviderError("timeout", "late")
    await run_turn(telemetry, _turn(Scripted(*steps, error)), output)
    assert output.errors == [(error, f"{memory.span(f'chat {MODEL}').context.trace_id:032x}")]
    assert output.endings == []
    _assert_recorded_once(memory, outcome="failed", error_type="timeout")
    assert memory.value("message_count", role="assistant") == bool(steps)


async def test_an_unexpected_exception_is_recorded_by_type_and_place_alone(
    telemetry: Telemetry, memory: Memory
) -> None:
    output = _Output()
    await run_turn(telemetry, _turn(Scripted("x", ZeroDivisionError("a secret"))), output)
    ((error, _),) = output.errors
    assert error.code == "internal_error"
    assert "secret" not in error.message
    _assert_recorded_once(memory, outcome="failed", error_type="internal_error")
    record = memory.log("response failed").log_record
    attributes = record.attributes or {}
    assert attributes["exception.type"] == "ZeroDivisionError"
    assert "scripted.py" in str(attributes["exception.stacktrace"])
    assert "secret" not in str([r.log_record for r in memory.logs])
    assert "secret" not in str([span.to_json() for span in memory.spans])


async def test_an_output_that_fails_as_well_raises_without_the_providers_exception(
    telemetry: Telemetry, memory: Memory
) -> None:
    class Broken(_Output):
        async def failed(self, error: ServiceError, trace_id: str) -> None:
            raise LookupError("no way out")

    with pytest.raises(LookupError) as caught:
        await run_turn(telemetry, _turn(Scripted(ProviderError("timeout", "a secret"))), Broken())
    assert caught.value.__context__ is None
    _assert_recorded_once(memory, outcome="failed", error_type="timeout")


async def test_an_answer_without_an_end_is_a_failure(telemetry: Telemetry, memory: Memory) -> None:
    output = _Output()
    await run_turn(telemetry, _turn(Scripted("x")), output)
    ((error, _),) = output.errors
    assert error.code == "broken_stream"
    _assert_recorded_once(memory, outcome="failed", error_type="broken_stream")


async def test_request_and_response_are_recorded_whole(memory: Memory) -> None:
    class Remote(Scripted):
        in_process = False
        server = ("api.example", 8443)

    parameters: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "max_tokens": 50,
        "seed": 7,
    }
    messages = [{"role": "user", "content": "hi"}]
    request = chat_request({"messages": messages, "stream": True, "stop": ["x"], **parameters})
    settings = TelemetrySettings(known_models=frozenset({PRICED}), capture_content=True)
    telemetry = Telemetry(settings, memory.providers)
    telemetry.start()
    provider, output = Remote("Hel", "lo", END), _Output()
    turn = Turn(
        model=CatalogModel(PRICED, provider, stall_seconds=30.0),
        request=request,
        started=time.perf_counter() - 5,
        identity=Identity(conversation_id="c-1"),
    )
    await run_turn(telemetry, turn, output)
    assert provider.requests == [request]
    [ending] = output.endings
    assert ending.cost == PriceTable.load().cost(PRICED, 3, 2)
    assert 5 <= ending.seconds < 60
    span = memory.span(f"chat {PRICED}")
    assert span.kind is SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    assert (
        attributes.items()
        >= {
            **{f"gen_ai.request.{name}": value for name, value in parameters.items()},
            "gen_ai.provider.name": "scripted",
            "gen_ai.request.stream": True,
            "gen_ai.request.stop_sequences": ("x",),
            "gen_ai.conversation.id": "c-1",
            "gen_ai.response.id": "r-1",
            "gen_ai.response.model": MODEL,
            "server.address": "api.example",
            "server.port": 8443,
        }.items()
    )
    assert '"hi"' in str(attributes["gen_ai.input.messages"])
    assert '"Hello"' in str(attributes["gen_ai.output.messages"])


async def test_captured_content_has_all_of_a_streamed_response(memory: Memory) -> None:
    def chunk(index: int, delta: dict[str, Any], reason: str | None = None) -> Chunk:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        return Chunk("", {"choices": [choice]}, size=1)

    function = {"name": "f", "arguments": '{"x":'}
    call = {"index": 0, "id": "c", "type": "function", "function": function}
    more = {"index": 0, "function": {"arguments": "1}"}}
    chunks = [
        chunk(0, {"role": "assistant", "reasoning_content": "hm"}),
        chunk(0, {"tool_calls": [call]}),
        chunk(1, {"content": "Hel"}),
        chunk(0, {"tool_calls": [more]}, "tool_calls"),
        chunk(1, {"content": "lo"}, "stop"),
    ]
    telemetry = Telemetry(TelemetrySettings(capture_content=True), memory.providers)
    telemetry.start()
    await run_turn(telemetry, _turn(Scripted(*chunks, END)), _Output())
    attributes = memory.span(f"chat {MODEL}").attributes or {}
    first, second = json.loads(str(attributes["gen_ai.output.messages"]))
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert {"type": "reasoning", "content": "hm"} in first["parts"]
    assert [part for part in first["parts"] if part["type"] == "tool_call"] == [
        {"type": "tool_call", "id": "c", "name": "f", "arguments": {"x": 1}}
    ]
    assert second["parts"] == [{"type": "text", "content": "Hello"}]


async def test_providers_own_status_and_code_are_recorded_with_its_exception(
    telemetry: Telemetry, memory: Memory
) -> None:
    upstream = Upstream(status=429, code="quota")
    error = ProviderError("rate_limit_exceeded", "busy", detail="a secret", upstream=upstream)
    await run_turn(telemetry, _turn(Scripted(error)), _Output())
    attributes = memory.span(f"chat {MODEL}").attributes or {}
    assert attributes[names.HTTP_RESPONSE_STATUS_CODE] == 429
    assert attributes[names.PROVIDER_ERROR_CODE] == "quota"
    event = memory.log(names.EVENT_INFERENCE_EXCEPTION).log_record
    assert (event.attributes or {})["exception.message"] == "busy"


def _sum(memory: Memory, name: str) -> float:
    [point] = memory.metrics()[name].data.data_points
    assert isinstance(point, HistogramDataPoint)
    return point.sum


async def test_times_of_the_provider_are_without_those_of_a_slow_client(
    telemetry: Telemetry, memory: Memory
) -> None:
    class Slow(_Output):
        async def delta(self, chunk: Chunk, *, more: bool = False) -> None:
            await asyncio.sleep(0.1)

    await run_turn(telemetry, _turn(Scripted(*"abcdef", END)), Slow())
    for name in ("duration", "time_per_output_chunk"):
        assert _sum(memory, f"gen_ai.client.inference.{name}") < 0.3
    assert _sum(memory, "llm_response_time") >= 0.6


async def test_output_beside_text_is_none_of_an_empty_response(
    telemetry: Telemetry, memory: Memory
) -> None:
    refusal = Chunk("", {"choices": []}, size=7)
    await run_turn(telemetry, _turn(Scripted(refusal, Completed(finish_reason="stop"))), _Output())
    attributes = memory.span(f"chat {MODEL}").attributes or {}
    assert names.ANSWER_EMPTY not in attributes
    assert memory.value("message_count", role="assistant") == 1


async def test_chunk_without_output_is_no_first_token(telemetry: Telemetry, memory: Memory) -> None:
    role = Chunk("", {"choices": []}, size=0)
    await run_turn(telemetry, _turn(Scripted(role, Completed(finish_reason="stop"))), _Output())
    attributes = memory.span(f"chat {MODEL}").attributes or {}
    assert attributes[names.ANSWER_EMPTY]
    assert names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK not in attributes


async def test_usage_so_far_is_kept_when_the_provider_fails(
    telemetry: Telemetry, memory: Memory
) -> None:
    running = Chunk("a", {"choices": []}, size=1, usage=Usage(900, 300))
    await run_turn(telemetry, _turn(Scripted(running, ProviderError("timeout", "late"))), _Output())
    assert memory.value("llm_token_usage", type="prompt") == 900
    assert memory.value("llm_token_usage", type="completion") == 300


async def test_whole_response_counts_as_received(telemetry: Telemetry, memory: Memory) -> None:
    whole = Completed(finish_reason="tool_calls", body={"id": "w"}, raw=b"{}", size=40)
    output = _Output()
    await run_turn(telemetry, _turn(Scripted(whole), stream=False), output)
    [ending] = output.endings
    assert (ending.body, ending.raw) == ({"id": "w"}, b"{}")
    assert ending.usage == Usage(1, 10, partial=True)
    assert names.ANSWER_EMPTY not in (memory.span(f"chat {MODEL}").attributes or {})


async def test_providers_headers_reach_the_output_first(telemetry: Telemetry) -> None:
    output = _Output()
    await run_turn(telemetry, _turn(Scripted(Started(headers={"x": "y"}), "a", END)), output)
    assert output.headers == {"x": "y"}
    assert output.texts == ["a"]


async def test_provider_without_room_is_refused_by_its_limit(
    telemetry: Telemetry, memory: Memory
) -> None:
    output, error = _Output(), Overloaded("answers", 7)
    await run_turn(telemetry, _turn(Scripted(error)), output)
    assert [sent for sent, _ in output.errors] == [error]
    _assert_recorded_once(memory, outcome="failed", error_type="too_many_answers")
    assert memory.value("chatscope.limit.reached", chatscope__limit="answers") == 1
    event = memory.log(names.EVENT_INFERENCE_EXCEPTION).log_record
    assert str((event.attributes or {})["exception.type"]).endswith("Overloaded")


async def test_client_that_cancels_and_leaves_is_no_failure(
    telemetry: Telemetry, memory: Memory
) -> None:
    class Gone(_Output):
        async def cancelled(self, ending: Summary) -> None:
            raise ClientDisconnected

    output = Gone()
    task = asyncio.create_task(run_turn(telemetry, _turn(Scripted("a", asyncio.Event())), output))
    await output.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    _assert_recorded_once(memory, outcome="cancelled", error_type="cancelled")


@pytest.mark.parametrize(("gone_after", "answers"), [(0, 0), (1, 1)])
async def test_a_client_that_is_gone_ends_the_call_and_is_no_failure(
    telemetry: Telemetry, memory: Memory, gone_after: int, answers: int
) -> None:
    provider = Scripted("a", 0.01, "b", asyncio.Event())
    output = _Output(gone_after=gone_after)
    await run_turn(telemetry, _turn(provider), output)
    assert provider.left.is_set()
    assert (output.errors, output.cancellations) == ([], [])
    _assert_recorded_once(memory, outcome="cancelled", error_type="cancelled")
    assert memory.value("message_count", role="assistant") == answers


async def test_a_cancelled_turn_gives_up_the_call_and_tells_so(
    telemetry: Telemetry, memory: Memory
) -> None:
    provider = Scripted("a", asyncio.Event(), END)
    output = _Output()
    task = asyncio.create_task(run_turn(telemetry, _turn(provider), output))
    await output.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert provider.left.is_set()
    assert [ending.finish_reason for ending in output.cancellations] == ["cancelled"]
    _assert_recorded_once(memory, outcome="cancelled", error_type="cancelled")
    assert memory.value("message_count", role="assistant") == 1


async def test_an_answer_in_one_piece_that_nobody_waited_for_is_no_message(
    telemetry: Telemetry, memory: Memory
) -> None:
    output = _Output()
    turn = _turn(Scripted("a", asyncio.Event()), stream=False)
    task = asyncio.create_task(run_turn(telemetry, turn, output))
    await output.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert memory.value("message_count", role="assistant") == 0


async def test_an_end_that_nobody_took_is_no_whole_answer(
    telemetry: Telemetry, memory: Memory
) -> None:
    await run_turn(telemetry, _turn(Scripted("a", END)), _Output(gone_after=1))
    _assert_recorded_once(memory, outcome="cancelled", error_type="cancelled")
    # The provider had told what it took.
    assert memory.value("llm_token_usage", type="completion") == 2


async def test_a_cancel_that_meets_the_end_on_its_way_out_is_told_in_its_place(
    telemetry: Telemetry, memory: Memory
) -> None:
    output = _Output()
    output.room.clear()
    task = asyncio.create_task(run_turn(telemetry, _turn(Scripted("a", END)), output))
    await output.ending.wait()
    task.cancel()
    await asyncio.wait({task})
    assert output.endings == []
    assert [ending.finish_reason for ending in output.cancellations] == ["cancelled"]
    _assert_recorded_once(memory, outcome="cancelled", error_type="cancelled")


async def test_a_cancel_after_the_end_was_told_changes_nothing(
    telemetry: Telemetry, memory: Memory
) -> None:
    closing = asyncio.Event()

    class Lingering(Scripted):
        async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
            try:
                yield END
            finally:
                closing.set()
                await asyncio.Event().wait()

    output = _Output()
    task = asyncio.create_task(run_turn(telemetry, _turn(Lingering()), output))
    await closing.wait()
    await output.ending.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert len(output.endings) == 1
    assert output.cancellations == []
    _assert_recorded_once(memory, outcome="completed", error_type=None)


async def test_a_server_that_stops_is_told_apart_from_a_client_that_cancels(
    telemetry: Telemetry, memory: Memory
) -> None:
    output = _Output()
    turn = _turn(Scripted("a", asyncio.Event()))
    task = asyncio.create_task(run_turn(telemetry, turn, output))
    await output.begun.wait()
    task.cancel(SHUTDOWN)
    await asyncio.wait({task})
    assert output.cancellations == []
    assert [http_status(error) for error, _ in output.errors] == [503]
    _assert_recorded_once(memory, outcome="cancelled", error_type="shutting_down")
