"""One answer, one record of it: spans, metrics and logs of `Answer`."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette

from app.telemetry import names
from app.telemetry.genai import Answer
from app.telemetry.instrument import Telemetry, instrument
from app.telemetry.model_request import ModelRequest, Usage
from app.telemetry.prices import PriceTable
from app.telemetry.setup import TelemetrySettings
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
    telemetry = instrument(Starlette(), settings, providers=memory.providers)
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
    assert [event.name for event in span.events] == [names.EVENT_FIRST_TOKEN]
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
    assert memory.value("gen_ai.client.operation.duration") == 1
    assert memory.value("gen_ai.client.token.usage") == 2
    assert memory.value("gen_ai.client.operation.time_to_first_chunk") == 1
    assert memory.value("gen_ai.client.operation.time_per_output_chunk") == 2
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
        "gen_ai.client.operation.duration",
        "gen_ai.server.time_to_first_token",
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
    assert memory.value("gen_ai.client.operation.duration", error__type="rate_limit") == 1
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


def test_longest_stall_is_the_longest_pause_between_two_pieces(
    telemetry: Telemetry, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _answer(telemetry)
    for moment in (10.0, 10.5, 14.5, 15.0):
        monkeypatch.setattr("app.telemetry.genai.time.perf_counter", lambda at=moment: at)
        answer.received("x")
        answer.sent()
    answer.close()
    [point] = memory.metrics()["chatscope.answer.longest_stall"].data.data_points
    assert point.sum == 4.0  # type: ignore[union-attr]
