"""One answer, one record of it: spans, metrics and logs of `Answer`."""

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from chatscope import Telemetry, names
from chatscope.genai.answer import Answer
from chatscope.genai.pricing import PriceTable
from chatscope.genai.request import ModelRequest, Usage
from chatscope.providers import TelemetrySettings
from chatscope.tracing import current_trace_id
from chatscope.withholding import WITHHELD
from tests.memory import Memory

MODEL = "simulated-1"
SECRET = "the capital of nowhere"


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def telemetry(memory: Memory) -> Iterator[Telemetry]:
    yield from _started(memory, TelemetrySettings(known_models=frozenset({MODEL})))


def _started(memory: Memory, settings: TelemetrySettings) -> Iterator[Telemetry]:
    telemetry = Telemetry(settings, memory.providers)
    telemetry.start()
    yield telemetry
    telemetry.shutdown()


def _answer(telemetry: Telemetry, *, model: str = MODEL, stream: bool = True) -> Answer:
    request = ModelRequest(
        provider="simulated",
        model=model,
        stream=stream,
        temperature=0.5,
        messages=[{"role": "user", "content": SECRET}],
    )
    return telemetry.start_answer(request, started=0.0)


def _complete(answer: Answer) -> None:
    for word in ("one", "two", "three"):
        answer.received(word)
        answer.sent()
    answer.completed(
        finish_reason="stop", usage=Usage(5, 3), response_id="r-1", response_model=MODEL
    )
    answer.close()


def _attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_completed_answer_has_the_conventions_span(telemetry: Telemetry, memory: Memory) -> None:
    _complete(_answer(telemetry))
    span = memory.span(f"chat {MODEL}")
    found = _attributes(span)
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert found[names.GEN_AI_OPERATION_NAME] == "chat"
    assert found[names.GEN_AI_REQUEST_TEMPERATURE] == 0.5
    assert found[names.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)
    assert (found[names.GEN_AI_USAGE_INPUT_TOKENS], found[names.GEN_AI_USAGE_OUTPUT_TOKENS]) == (
        5,
        3,
    )
    assert names.ERROR_TYPE not in found
    assert names.USAGE_PARTIAL not in found


def test_in_process_model_is_no_client_call(telemetry: Telemetry, memory: Memory) -> None:
    request = ModelRequest(provider="simulated", model=MODEL, in_process=True)
    telemetry.start_answer(request, started=0.0).close()
    assert memory.span(f"chat {MODEL}").kind is SpanKind.INTERNAL


def test_completed_answer_counts_tokens_cost_and_times_once(
    telemetry: Telemetry, memory: Memory
) -> None:
    answer = _answer(telemetry)
    _complete(answer)
    answer.close()
    assert memory.value("llm_token_usage", type="prompt", gen_ai__request__model=MODEL) == 5
    assert memory.value("llm_token_usage", type="completion") == 3
    assert memory.value("llm_cost") == PriceTable.load().cost(MODEL, 5, 3)
    assert memory.value("llm_response_time") == 1
    assert memory.value("gen_ai.client.inference.duration") == 1
    assert memory.value("gen_ai.client.inference.operation.input_tokens") == 1
    assert memory.value("gen_ai.client.inference.operation.output_tokens") == 1
    assert memory.value("gen_ai.client.inference.usage.input_tokens") == 5
    assert memory.value("gen_ai.client.inference.usage.output_tokens") == 3
    assert memory.value("gen_ai.client.inference.time_to_first_chunk") == 1
    assert memory.value("gen_ai.client.inference.time_per_output_chunk") == 2
    assert memory.value("gen_ai.server.request.duration") == 1
    assert memory.value("gen_ai.server.time_to_first_token") == 1
    assert memory.value("gen_ai.server.time_per_output_token") == 1


def test_every_point_of_an_answer_leads_to_its_trace(telemetry: Telemetry, memory: Memory) -> None:
    answer = _answer(telemetry)
    _complete(answer)
    exemplars = memory.exemplars()
    for name in (
        "llm_response_time",
        "llm_token_usage",
        "llm_cost",
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.inference.time_per_output_chunk",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "chatscope.answer.longest_stall",
    ):
        assert exemplars[name] == {answer.trace_id}, name


def test_answer_in_one_piece_has_no_first_token(telemetry: Telemetry, memory: Memory) -> None:
    _complete(_answer(telemetry, stream=False))
    assert memory.points("gen_ai.server.time_to_first_token") == []
    assert memory.value("llm_response_time") == 1


def test_failed_answer_is_an_error_everywhere(telemetry: Telemetry, memory: Memory) -> None:
    answer = _answer(telemetry)
    answer.failed("rate_limit", RuntimeError("slow down"))
    answer.close()
    span = memory.span(f"chat {MODEL}")
    assert span.status.status_code is StatusCode.ERROR
    assert _attributes(span)[names.ERROR_TYPE] == "rate_limit"
    assert memory.value("llm_response_time", error__type="rate_limit") == 1
    assert memory.value("gen_ai.client.inference.duration", error__type="rate_limit") == 1
    assert memory.points("llm_token_usage") == []
    assert memory.points("llm_cost") == []
    assert memory.log("answer failed").log_record.severity_text == "ERROR"


def test_failure_whose_text_raises_is_recorded_all_the_same(
    telemetry: Telemetry, memory: Memory
) -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    answer = _answer(telemetry)
    answer.failed("server_error", Wordless())
    answer.close()
    assert _attributes(memory.span(f"chat {MODEL}"))[names.ERROR_TYPE] == "server_error"


def test_answer_that_nobody_ended_was_cancelled_with_its_partial_tokens(
    telemetry: Telemetry, memory: Memory
) -> None:
    answer = _answer(telemetry)
    answer.received("one")
    answer.received("two")
    answer.close()
    found = _attributes(memory.span(f"chat {MODEL}"))
    assert found[names.ANSWER_OUTCOME] == "cancelled"
    assert found[names.USAGE_PARTIAL] is True
    assert memory.value("llm_token_usage", type="completion") == 2
    assert memory.value("llm_token_usage", type="prompt") == -(-len(SECRET) // 4)
    assert memory.value("llm_response_time", error__type="cancelled") == 1


def test_tokens_of_long_chunks_are_estimated_by_their_characters(
    telemetry: Telemetry, memory: Memory
) -> None:
    answer = _answer(telemetry)
    for _ in range(3):
        answer.received("x" * 400)
    answer.close()
    assert answer.usage == Usage(-(-len(SECRET) // 4), 300, partial=True)
    assert memory.value("llm_token_usage", type="completion") == 300


def test_output_without_a_text_is_estimated_by_its_size(telemetry: Telemetry) -> None:
    answer = _answer(telemetry)
    answer.received("", size=400)
    answer.close()
    assert answer.usage == Usage(-(-len(SECRET) // 4), 100, partial=True)


def test_usage_so_far_is_kept_when_the_client_leaves(telemetry: Telemetry, memory: Memory) -> None:
    answer = _answer(telemetry)
    for completion in (150, 300):
        answer.received("two words")
        answer.describe(usage=Usage(900, completion))
    answer.cancelled()
    answer.close()
    assert answer.usage == Usage(900, 300)
    assert memory.value("llm_token_usage", type="prompt") == 900
    assert names.USAGE_PARTIAL not in _attributes(memory.span(f"chat {MODEL}"))


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (Usage(11, 0, partial=True), Usage(11, 3, partial=True)),
        (Usage(0, 9, partial=True), Usage(-(-len(SECRET) // 4), 9, partial=True)),
        (Usage(11, 9), Usage(11, 9)),
    ],
)
def test_counts_that_the_provider_left_out_are_estimated(
    telemetry: Telemetry, reported: Usage, expected: Usage
) -> None:
    answer = _answer(telemetry)
    for word in ("one", "two", "three"):
        answer.received(word)
    answer.completed(finish_reason="stop", usage=reported)
    answer.close()
    assert answer.usage == expected


def _paid(telemetry: Telemetry, model: str, host: str, usage: Usage, **facts: str) -> Answer:
    request = ModelRequest(provider="openai", model=model, server_address=host)
    answer = telemetry.start_answer(request, started=0.0)
    answer.came_whole("x")
    answer.completed(finish_reason="stop", usage=usage, **facts)
    answer.close()
    return answer


def test_model_of_another_name_has_the_price_of_the_providers_own(telemetry: Telemetry) -> None:
    request = ModelRequest(provider="openai", model="fast", upstream_model="gpt-4o-mini")
    answer = telemetry.start_answer(request, started=0.0)
    answer.completed(usage=Usage(1_000_000, 0))
    answer.close()
    assert answer.cost == pytest.approx(0.15)


def test_cached_prompt_has_the_price_of_a_cached_prompt(
    telemetry: Telemetry, memory: Memory
) -> None:
    usage = Usage(10_000, 100, cache_read_tokens=9_600)
    answer = _paid(telemetry, "gpt-4o-mini", "api.openai.com", usage)
    assert answer.cost == pytest.approx(0.00084, abs=1e-9)
    assert memory.value("llm_cost") == answer.cost
    found = _attributes(memory.span("chat gpt-4o-mini"))
    assert found[names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] == 9_600


def test_deployment_has_the_price_of_the_model_behind_it(telemetry: Telemetry) -> None:
    host, usage = "team.openai.azure.com", Usage(1_000_000, 1_000_000)
    answer = _paid(telemetry, "our-chat", host, usage, response_model="gpt-4o-2024-08-06")
    assert answer.cost == 12.5
    assert _paid(telemetry, "our-chat", host, usage).cost is None


def test_unknown_model_is_other_on_metrics_and_itself_on_the_span(
    telemetry: Telemetry, memory: Memory
) -> None:
    _complete(_answer(telemetry, model="surprise"))
    assert _attributes(memory.span("chat surprise"))[names.GEN_AI_REQUEST_MODEL] == "surprise"
    labels = {p.attributes[names.GEN_AI_REQUEST_MODEL] for p in memory.points("llm_token_usage")}
    assert labels == {names.OTHER}
    assert memory.points("llm_cost") == []


def test_log_line_carries_the_answers_trace_and_values(
    telemetry: Telemetry, memory: Memory
) -> None:
    answer = _answer(telemetry)
    _complete(answer)
    record = memory.log("answer completed").log_record
    span = memory.span(f"chat {MODEL}")
    assert span.context is not None
    assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
    found = dict(record.attributes or {})
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 3
    assert found[names.ANSWER_COST] == answer.cost


def test_texts_are_recorded_nowhere_by_default(telemetry: Telemetry, memory: Memory) -> None:
    _complete(_answer(telemetry))
    everything = [span.to_json() for span in memory.spans]
    everything += [record.to_json() for record in memory.logs]
    assert len(everything) == len(memory.spans) + len(memory.logs) > 1
    assert not any(SECRET in text or "two" in text for text in everything)


def test_texts_are_on_the_span_when_asked_for(memory: Memory) -> None:
    settings = TelemetrySettings(known_models=frozenset({MODEL}), capture_content=True)
    for telemetry in _started(memory, settings):
        _complete(_answer(telemetry))
        found = _attributes(memory.span(f"chat {MODEL}"))
        assert SECRET in str(found[names.GEN_AI_INPUT_MESSAGES])
        assert "onetwothree" in str(found[names.GEN_AI_OUTPUT_MESSAGES])
        assert SECRET not in memory.logs[-1].to_json()


def test_answers_on_their_way_are_counted(telemetry: Telemetry, memory: Memory) -> None:
    answer = _answer(telemetry)
    assert memory.value("chatscope.answers.active") == 1
    answer.close()
    assert memory.value("chatscope.answers.active") == 0


class _Clock:
    """The seconds that the code under test reads."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    for module in ("answer", "operation"):
        monkeypatch.setattr(f"chatscope.genai.{module}.time", clock)
    return clock


_SENT = ModelRequest(
    provider="openai",
    model=MODEL,
    stream=True,
    server_address="api.example",
    server_port=8443,
    temperature=0.5,
    top_p=0.9,
    frequency_penalty=0.1,
    presence_penalty=0.2,
    max_tokens=50,
    seed=7,
    stop=("x", "y"),
    conversation_id="c-1",
    messages=[{"role": "system", "content": "sei kürzer"}, {"role": "user", "content": SECRET}],
)


def _at(clock: _Clock, **moments: float) -> float:
    """Set the clock to a named moment."""
    [clock.now] = moments.values()
    return clock.now


def _stream(telemetry: Telemetry, clock: _Clock) -> None:
    """An answer of two chunks, three tokens, and a last event."""
    started = _at(clock, arrived=10.0)
    _at(clock, called=11.0)
    answer = telemetry.start_answer(_SENT, started=started)
    for received, sent, text in ((13.0, 13.5, "one"), (14.0, 16.0, "two")):
        _at(clock, received=received)
        answer.received(text)
        _at(clock, sent=sent)
        answer.sent()
    _at(clock, completed=17.0)
    answer.completed(
        finish_reason="stop", usage=Usage(5, 3), response_id="r-1", response_model="m-2026"
    )
    _at(clock, sent=17.5)
    answer.sent()
    _at(clock, closed=20.0)
    answer.close()


def test_span_holds_the_request_the_response_and_its_times(
    telemetry: Telemetry, memory: Memory, clock: _Clock
) -> None:
    _stream(telemetry, clock)
    span = memory.span(f"chat {MODEL}")
    assert span.end_time == 17_000_000_000
    assert _attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "server.address": "api.example",
        "server.port": 8443,
        "gen_ai.conversation.id": "c-1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.seed": 7,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        names.ANSWER_OUTCOME: "completed",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 2.0,
        names.TIME_TO_FIRST_TOKEN: 3.5,
        names.ANSWER_COST: PriceTable.load().cost(MODEL, 5, 3),
    }


def test_log_record_holds_the_request_the_response_and_its_times(
    telemetry: Telemetry, memory: Memory, clock: _Clock
) -> None:
    _stream(telemetry, clock)
    record = memory.log("answer completed").log_record
    assert record.severity_text == "INFO"
    found = dict(record.attributes or {})
    assert {name: value for name, value in found.items() if not name.startswith("code.")} == {
        "gen_ai.request.model": MODEL,
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": "c-1",
        names.ANSWER_SECONDS: 7.5,
        names.ANSWER_OUTCOME: "completed",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 2.0,
        names.TIME_TO_FIRST_TOKEN: 3.5,
        names.ANSWER_COST: PriceTable.load().cost(MODEL, 5, 3),
    }


_BY_MODEL = {"gen_ai.request.model": MODEL}
_BY_CALL = {
    **_BY_MODEL,
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "m-2026",
}
_BY_ENDPOINT = {**_BY_CALL, "server.address": "api.example", "server.port": 8443}


@pytest.mark.parametrize(
    ("metric", "attributes", "total"),
    [
        (names.LLM_RESPONSE_TIME, _BY_MODEL, 7.5),
        (names.CLIENT_INFERENCE_DURATION, _BY_ENDPOINT, 6.0),
        (names.CLIENT_TIME_TO_FIRST_CHUNK, _BY_ENDPOINT, 2.0),
        (names.CLIENT_TIME_PER_OUTPUT_CHUNK, _BY_ENDPOINT, 1.0),
        (names.CLIENT_INPUT_TOKENS, _BY_ENDPOINT, 5),
        (names.CLIENT_OUTPUT_TOKENS, _BY_ENDPOINT, 3),
        (names.SERVER_REQUEST_DURATION, _BY_CALL, 7.5),
        (names.SERVER_TIME_TO_FIRST_TOKEN, _BY_CALL, 3.5),
        (names.SERVER_TIME_PER_OUTPUT_TOKEN, _BY_CALL, 2.0),
        (names.ANSWER_STALL, _BY_MODEL, 2.5),
    ],
)
def test_metric_of_a_stream_has_its_value_and_attributes(
    metric: names.Metric,
    attributes: dict[str, object],
    total: float,
    telemetry: Telemetry,
    memory: Memory,
    clock: _Clock,
) -> None:
    _stream(telemetry, clock)
    points = memory.metrics()[metric.name].data.data_points
    assert [p.sum for p in points if p.attributes == attributes] == [total]  # type: ignore[union-attr]


def test_captured_texts_have_the_shape_of_the_conventions(memory: Memory, clock: _Clock) -> None:
    settings = TelemetrySettings(known_models=frozenset({MODEL}), capture_content=True)
    for telemetry in _started(memory, settings):
        _stream(telemetry, clock)
        telemetry.start_answer(_SENT, started=0.0).close()
    completed, cancelled = (_attributes(span) for span in memory.spans)
    for found in (completed, cancelled):
        assert "kürzer" in str(found["gen_ai.input.messages"])
        assert json.loads(str(found["gen_ai.input.messages"])) == [
            {"role": "system", "parts": [{"type": "text", "content": "sei kürzer"}]},
            {"role": "user", "parts": [{"type": "text", "content": SECRET}]},
        ]
    part = {"type": "text", "content": "onetwo"}
    assert json.loads(str(completed["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [part], "finish_reason": "stop"}
    ]
    part = {"type": "text", "content": ""}
    assert json.loads(str(cancelled["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [part], "finish_reason": "error"}
    ]


@pytest.mark.parametrize(
    ("spans", "events"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_failure_is_recorded_with_the_providers_status_and_code(
    spans: bool, events: bool, memory: Memory
) -> None:
    settings = TelemetrySettings(
        known_models=frozenset({MODEL}), capture_content=spans, capture_events=events
    )
    for telemetry in _started(memory, settings):
        answer = _answer(telemetry)
        error = RuntimeError(SECRET)
        answer.failed("rate_limit", error, provider_status=429, provider_code="quota")
        answer.close()
    span = memory.span(f"chat {MODEL}")
    assert span.status.description == "rate_limit"
    found = _attributes(span)
    assert found[names.ANSWER_OUTCOME] == "failed"
    assert found[names.HTTP_RESPONSE_STATUS_CODE] == 429
    assert found[names.PROVIDER_ERROR_CODE] == "quota"
    assert not span.events
    event = memory.log(names.EVENT_INFERENCE_EXCEPTION).log_record
    assert span.context is not None
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    assert event.event_name == names.EVENT_INFERENCE_EXCEPTION
    assert event.severity_text == "WARN"
    attributes = event.attributes or {}
    assert attributes["exception.type"] == "RuntimeError"
    assert attributes["exception.message"] == (SECRET if events else WITHHELD)
    assert ("test_genai.py" in str(attributes["exception.stacktrace"])) is False


def test_cancelled_answer_names_its_reason_and_is_no_error(
    telemetry: Telemetry, memory: Memory
) -> None:
    answer = _answer(telemetry)
    answer.cancelled("shutting_down")
    answer.close()
    span = memory.span(f"chat {MODEL}")
    assert span.status.status_code is StatusCode.UNSET
    found = _attributes(span)
    assert (found[names.ANSWER_OUTCOME], found[names.ERROR_TYPE]) == ("cancelled", "shutting_down")
    assert memory.log("answer cancelled").log_record.severity_text == "INFO"


def test_empty_answer_is_a_warning_with_the_prompts_tokens(
    telemetry: Telemetry, memory: Memory
) -> None:
    answer = _answer(telemetry)
    answer.completed(finish_reason="stop")
    answer.close()
    assert _attributes(memory.span(f"chat {MODEL}"))[names.ANSWER_EMPTY] is True
    assert answer.usage == Usage(-(-len(SECRET) // 4), 0, partial=True)
    assert memory.log("answer completed").log_record.severity_text == "WARN"
    assert memory.points("gen_ai.server.time_per_output_token") == []


def test_span_is_current_while_it_is_asked_to_be(telemetry: Telemetry, memory: Memory) -> None:
    answer = _answer(telemetry)

    def fail() -> None:
        with answer.current():
            assert current_trace_id() == answer.trace_id
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert current_trace_id() == ""
    answer.close()
    assert memory.span(f"chat {MODEL}").events == ()
