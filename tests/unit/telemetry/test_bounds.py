"""What clients and providers choose has a limit on spans, log records and metrics."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from chatscope import Telemetry, instrument, names
from chatscope.attributes import MAX_IDENTIFIER, MAX_PATH
from chatscope.genai.request import ModelRequest, Usage
from chatscope.providers import TelemetrySettings
from tests.memory import Memory

_MODEL = "simulated-1"
_LONG = "x" * 200_000
_RESPONSE_MODEL = names.GEN_AI_RESPONSE_MODEL
_DURATION = names.CLIENT_INFERENCE_DURATION.name


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def telemetry(memory: Memory) -> Iterator[Telemetry]:
    telemetry = Telemetry(TelemetrySettings(known_models=frozenset({_MODEL})), memory.providers)
    telemetry.start()
    yield telemetry
    telemetry.shutdown()


def _respond(telemetry: Telemetry, response_model: str, **request: Any) -> None:
    asked = {"provider": "p", "model": _MODEL, "stream": True, **request}
    answer = telemetry.start_answer(ModelRequest(**asked), started=0.0)
    answer.received("a")
    answer.completed(
        finish_reason=_LONG, usage=Usage(1, 1), response_id=_LONG, response_model=response_model
    )
    answer.close()


def _longest(found: Mapping[str, Any]) -> int:
    texts = [
        each
        for value in found.values()
        for each in (value if isinstance(value, tuple) else (value,))
    ]
    return max(len(text) for text in texts if isinstance(text, str))


def _labels(memory: Memory, label: str) -> set[str]:
    return {str(point.attributes[label]) for point in memory.points(_DURATION)}


def test_identifiers_are_short_on_spans_and_log_records(
    telemetry: Telemetry, memory: Memory
) -> None:
    long = dict.fromkeys(
        ("user_id", "session_id", "conversation_id", "prompt_name", "prompt_version"), _LONG
    )
    _respond(telemetry, _LONG, **long, reasoning_level=_LONG, previous_response_id=_LONG)
    [span] = memory.spans
    assert _longest(span.attributes or {}) == MAX_IDENTIFIER
    assert len((span.attributes or {})[names.USER_ID]) == MAX_IDENTIFIER  # type: ignore[arg-type]
    for record in memory.logs:
        assert _longest(record.log_record.attributes or {}) <= MAX_IDENTIFIER


def test_error_codes_and_names_are_short(telemetry: Telemetry, memory: Memory) -> None:
    answer = telemetry.start_answer(
        ModelRequest(provider=_LONG, model=_LONG, stream=False), started=0.0
    )
    answer.failed(_LONG, provider_code=_LONG)
    answer.close()
    [span] = memory.spans
    assert len(span.name) <= MAX_IDENTIFIER
    assert _longest(span.attributes or {}) == MAX_IDENTIFIER
    assert _labels(memory, names.ERROR_TYPE) == {names.OTHER}
    assert _labels(memory, names.GEN_AI_REQUEST_MODEL) == {names.OTHER}


def test_a_provider_with_a_new_name_in_each_response_makes_few_series(
    telemetry: Telemetry, memory: Memory
) -> None:
    for number in range(300):
        _respond(telemetry, f"gpt-{number}")
    _respond(telemetry, _MODEL)
    found = _labels(memory, _RESPONSE_MODEL)
    assert len(found) == 50 + 2
    assert {names.OTHER, _MODEL, "gpt-0"} <= found


@pytest.mark.parametrize("name", [_LONG, "x" * 101, "You asked: CNRY", "a\nb", "", "m\u202e", '"'])
def test_a_text_that_is_no_name_of_a_model_becomes_no_label(
    telemetry: Telemetry, memory: Memory, name: str
) -> None:
    _respond(telemetry, name)
    for point in memory.points(_DURATION):
        assert point.attributes.get(_RESPONSE_MODEL, names.OTHER) == names.OTHER


@pytest.mark.parametrize(
    "name", ["gpt-5-mini-2026-08-07", "meta-llama/Llama-3.3:free", "@cf/x", "models/gemini_2+a"]
)
def test_usual_names_of_models_are_labels(telemetry: Telemetry, memory: Memory, name: str) -> None:
    _respond(telemetry, name)
    assert _labels(memory, _RESPONSE_MODEL) == {name}


def test_types_of_errors_are_few_on_metrics(telemetry: Telemetry, memory: Memory) -> None:
    for number in range(150):
        answer = telemetry.start_answer(
            ModelRequest(provider="p", model=_MODEL, stream=False), started=0.0
        )
        answer.failed(f"error {number}")
        answer.close()
    assert len(_labels(memory, names.ERROR_TYPE)) == 100 + 1


def test_headers_and_paths_are_short_on_spans(memory: Memory) -> None:
    app = Starlette(routes=[Route("/{rest:path}", lambda _: PlainTextResponse("a"))])
    telemetry = Telemetry(TelemetrySettings(), memory.providers)
    instrument(app, telemetry)
    with TestClient(app, client=("9" * 1000, 1)) as client:
        client.get("/" + "p" * 5000, headers={"user-agent": "u" * 5000, "host": "h" * 5000})
    [span] = memory.spans
    found = dict(span.attributes or {})
    assert len(str(found[names.URL_PATH])) == MAX_PATH
    assert len(str(found[names.USER_AGENT])) == MAX_IDENTIFIER
    assert len(str(found[names.CLIENT_ADDRESS])) == MAX_IDENTIFIER
    assert names.SERVER_ADDRESS not in found or len(str(found[names.SERVER_ADDRESS])) <= 260
