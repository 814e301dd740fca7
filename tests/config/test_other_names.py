"""Telemetry of other libraries: the Collector renames attributes to those of the conventions.

`recorded/` has the telemetry of each library for the same five calls of one endpoint: with a system
message, with a tool, streamed with the tool's result, for embeddings, and one that failed.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from chatscope import names
from chatscope.genai.content import as_json
from stack import facts as stack_facts
from stack.secrets import metrics_headers, telemetry_headers
from stack.waiting import poll_until
from tests.config.files import COLLECTOR
from tests.receiver import ReceivedSpan, Receiver
from tests.running import PATIENCE_SECONDS
from tests.stores import prepare

_OFFSET: Final = 7_600
# One Collector, on fixed ports, for all tests of this file.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("other names")]
_RECORDED: Final = Path(__file__).with_name("recorded")
_LIBRARIES: Final = {each.stem: json.loads(each.read_text()) for each in _RECORDED.glob("*.json")}
_OPENINFERENCE: Final = "openinference_openai_0_1_66"
_OPENLLMETRY: Final = "openllmetry_openai_0_62_4"
_OLDER_OPENLLMETRY: Final = "openllmetry_openai_0_43_1"
_OLDER_OTEL: Final = "openai_v2_2_4b0"
_OTEL: Final = "openai_v2_2_4b0_latest"

_MODEL: Final = "gpt-4o-mini"
_TOKENS: Final = {names.GEN_AI_USAGE_INPUT_TOKENS: 30, names.GEN_AI_USAGE_OUTPUT_TOKENS: 12}
_CACHED: Final = {names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 10}
_REASONING: Final = {names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 4}
_ASKED_BY: Final = {names.USER_ID: "user-1", names.SESSION_ID: "session-1"}
_TEXT: Final = {"type": "text", "content": "Sunny"}


@pytest.fixture(scope="module")
def sent(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], Receiver]]:
    """Send everything to a Collector with our configuration; return its output to Tempo."""
    directory = tmp_path_factory.mktemp("names")
    with Receiver() as receiver:
        ports = stack_facts.shifted(_OFFSET, {})
        facts = stack_facts.load({**ports, "STATE_DIR": str(directory)})
        prepare(facts)
        facts["TEMPO_OTLP_ENDPOINT"] = receiver.endpoint.removeprefix("http://")
        command: list[Any] = [binary("otelcol"), f"--config={COLLECTOR}"]
        process = subprocess.Popen(command, env=dict(facts), stderr=subprocess.DEVNULL)
        try:
            poll_until(lambda: _is_ready(facts), "the Collector to start", PATIENCE_SECONDS)
            for recorded in _LIBRARIES.values():
                _send(facts, "traces", recorded["spans"])
                if recorded["metrics"]:
                    _send(facts, "metrics", recorded["metrics"])
            expected = sum(len(_spans(recorded)) for recorded in _LIBRARIES.values())

            def arrived() -> bool:
                return len(receiver.spans) == expected

            poll_until(arrived, f"{expected} spans to arrive", PATIENCE_SECONDS)
            yield facts, receiver
        finally:
            process.kill()
            process.wait()


def _is_ready(facts: Mapping[str, str]) -> bool:
    return httpx2.get(facts["COLLECTOR_HEALTH_URL"], trust_env=False).is_success


def _send(facts: Mapping[str, str], signal: str, body: Any) -> None:
    url = f"{facts['OTLP_HTTP_URL']}/v1/{signal}"
    headers = telemetry_headers(facts)
    httpx2.post(url, json=body, headers=headers, trust_env=False).raise_for_status()


def _spans(recorded: Any) -> list[dict[str, Any]]:
    return [
        span
        for resource in recorded["spans"]["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _received(receiver: Receiver, library: str) -> list[ReceivedSpan]:
    """Return the spans of one library in the order of the calls, without their parents."""
    ids = {span["spanId"]: number for number, span in enumerate(_spans(_LIBRARIES[library]))}
    found = [span for span in receiver.spans if span.span.span_id.hex() in ids]
    found.sort(key=lambda span: span.span.start_time_unix_nano)
    return [span for span in found if not span.name.endswith(".workflow")]


@pytest.mark.parametrize("library", sorted(_LIBRARIES))
def test_calls_have_operation_provider_model_and_tokens(
    library: str, sent: tuple[dict[str, str], Receiver]
) -> None:
    system, tool, stream, vectors, failed = (
        span.attributes for span in _received(sent[1], library)
    )
    for call in (system, tool, stream):
        assert call[names.GEN_AI_OPERATION_NAME] == "chat"
        assert call[names.GEN_AI_REQUEST_MODEL] == _MODEL
        assert call[names.GEN_AI_RESPONSE_MODEL] == "gpt-4o-mini-2024-07-18"
        assert call.items() >= _TOKENS.items()
    assert failed[names.GEN_AI_OPERATION_NAME] == "chat"
    assert failed[names.GEN_AI_REQUEST_MODEL] == "missing"
    assert vectors[names.GEN_AI_OPERATION_NAME] == "embeddings"
    assert vectors[names.GEN_AI_REQUEST_MODEL] == "text-embedding-3-small"
    assert vectors[names.GEN_AI_USAGE_INPUT_TOKENS] == 5
    for span in (system, tool, stream, vectors, failed):
        assert span[names.GEN_AI_PROVIDER_NAME] == "openai"
    assert system[names.GEN_AI_REQUEST_TEMPERATURE] == 0.5
    assert system[names.GEN_AI_REQUEST_TOP_P] == 0.9
    assert system[names.GEN_AI_REQUEST_MAX_TOKENS] == 50
    assert tool[names.GEN_AI_REQUEST_FREQUENCY_PENALTY] == 0.1
    assert list(system[names.GEN_AI_RESPONSE_FINISH_REASONS]) == ["stop"]


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        (_OPENINFERENCE, {**_CACHED, **_REASONING, **_ASKED_BY}),
        (_OPENLLMETRY, {**_CACHED, **_REASONING, names.USER_ID: "user-1"}),
        (_OLDER_OPENLLMETRY, {**_CACHED, **_ASKED_BY}),
    ],
)
def test_calls_have_what_their_library_knows_beside(
    library: str, expected: dict[str, object], sent: tuple[dict[str, str], Receiver]
) -> None:
    system = _received(sent[1], library)[0].attributes
    assert system.items() >= expected.items()
    if names.SESSION_ID in expected:
        assert system[names.GEN_AI_CONVERSATION_ID] == "session-1"


@pytest.mark.parametrize("library", [_OPENINFERENCE, _OLDER_OPENLLMETRY])
def test_texts_become_the_messages_of_the_conventions(
    library: str, sent: tuple[dict[str, str], Receiver]
) -> None:
    system, tool, stream = (span.attributes for span in _received(sent[1], library)[:3])
    assert json.loads(system[names.GEN_AI_INPUT_MESSAGES]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
    ]
    assert json.loads(system[names.GEN_AI_OUTPUT_MESSAGES]) == [
        {"role": "assistant", "parts": [_TEXT], "finish_reason": "stop"}
    ]
    call = {
        "type": "tool_call",
        "id": "call_1",
        "name": "get_weather",
        "arguments": {"city": "Paris"},
    }
    assert json.loads(tool[names.GEN_AI_OUTPUT_MESSAGES]) == [
        {"role": "assistant", "parts": [call], "finish_reason": "tool_calls"}
    ]
    result = {"type": "tool_call_response", "id": "call_1", "response": "sunny"}
    assert json.loads(stream[names.GEN_AI_INPUT_MESSAGES]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [result]},
    ]


def test_workflow_is_an_agent_without_tokens(sent: tuple[dict[str, str], Receiver]) -> None:
    [workflow] = [span for span in sent[1].spans if span.name == "forecast.workflow"]
    assert workflow.attributes[names.GEN_AI_OPERATION_NAME] == "invoke_agent"
    assert workflow.attributes[names.GEN_AI_AGENT_NAME] == "forecast"
    assert not any(name.startswith("gen_ai.usage.") for name in workflow.attributes)


@pytest.mark.parametrize("library", sorted(_LIBRARIES))
def test_nothing_that_a_library_recorded_is_changed(
    library: str, sent: tuple[dict[str, str], Receiver]
) -> None:
    before = {span["spanId"]: _attributes(span) for span in _spans(_LIBRARIES[library])}
    for span in _received(sent[1], library):
        old = before[span.span.span_id.hex()]
        now = {name: as_json(span.attributes[name]) for name in old}
        assert now == old


def test_spans_by_the_present_names_pass_unchanged(
    sent: tuple[dict[str, str], Receiver],
) -> None:
    before = {span["spanId"]: _attributes(span) for span in _spans(_LIBRARIES[_OTEL])}
    for span in _received(sent[1], _OTEL):
        assert set(span.attributes) == set(before[span.span.span_id.hex()])


def _attributes(span: Mapping[str, Any]) -> dict[str, str]:
    return {each["key"]: as_json(_value(each["value"])) for each in span.get("attributes", ())}


def _value(found: Mapping[str, Any]) -> object:
    [(kind, value)] = found.items()
    if kind == "intValue":
        return int(value)
    return [_value(each) for each in value.get("values", ())] if kind == "arrayValue" else value


def test_older_metrics_have_one_name_provider_and_model(
    sent: tuple[dict[str, str], Receiver],
) -> None:
    facts, _ = sent

    def exported() -> bool:
        headers = metrics_headers(facts)
        text = httpx2.get(facts["APP_METRICS_URL"], headers=headers, trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith("gen_ai_client_token_usage")]
        services = {"traceloop", "openai_v2"}
        assert all(any(f'service_name="{each}"' in line for line in lines) for each in services)
        for line in lines:
            assert line.startswith(
                tuple(f"{names.OLDER_TOKENS.prometheus}_{part}" for part in ("b", "s", "c"))
            ), line
            assert 'gen_ai_provider_name="openai"' in line, line
            assert 'gen_ai_request_model="' in line, line
            assert "gen_ai_system=" not in line, line
        return True

    poll_until(exported, "the metrics of the libraries", PATIENCE_SECONDS)
