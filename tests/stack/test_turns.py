"""One turn by each transport: one trace, its log lines, its counts, and the links between."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from chatscope import names
from chatscope.cli.spans import Span
from chatscope.genai.pricing import PriceTable
from chatscope.names import Metric
from dashboards.others import SERVICE_NAME
from stack.backends import LogLine
from stack.waiting import poll_until
from tests.chaos.service import service
from tests.running import PATIENCE_SECONDS, Stack, settled
from tests.stack.turns import MODEL, QUESTION, WAYS, Turn

_ROOTS = {
    "http": "POST /v1/chat/completions",
    "sse": "POST /v1/chat/completions",
    "websocket": "message /ws/chat",
}
_BY_MODEL = {names.GEN_AI_REQUEST_MODEL: MODEL}
_WITH_EXEMPLARS = (
    f"{names.LLM_RESPONSE_TIME.prometheus}_bucket",
    f"{names.CLIENT_INFERENCE_DURATION.prometheus}_bucket",
    names.LLM_COST.prometheus,
    names.LLM_TOKEN_USAGE.prometheus,
)


@dataclass(frozen=True)
class Observed:
    """A turn, and the counters before it."""

    way: str
    turn: Turn
    before: Mapping[str, float]
    started: float


def _counts(stack: Stack, way: str) -> dict[str, float]:
    route = _ROOTS[way].split()[1]
    watched = {
        "user": (names.MESSAGE_COUNT, {names.ROLE: "user"}),
        "assistant": (names.MESSAGE_COUNT, {names.ROLE: "assistant"}),
        "prompt": (names.LLM_TOKEN_USAGE, {names.TOKEN_TYPE: "prompt", **_BY_MODEL}),
        "completion": (names.LLM_TOKEN_USAGE, {names.TOKEN_TYPE: "completion", **_BY_MODEL}),
        "cost": (names.LLM_COST, _BY_MODEL),
        "answers": (names.LLM_RESPONSE_TIME, _BY_MODEL),
        "calls": (names.CLIENT_INFERENCE_DURATION, _BY_MODEL),
        "first tokens": (names.SERVER_TIME_TO_FIRST_TOKEN, _BY_MODEL),
        "requests": (names.HTTP_REQUEST_DURATION, {names.HTTP_ROUTE: route}),
        "sockets closed": (names.WEBSOCKET_DURATION, {}),
    }
    return {what: _value(stack, metric, labels) for what, (metric, labels) in watched.items()}


def _value(stack: Stack, metric: Metric, attributes: Mapping[str, str]) -> float:
    series = f"{metric.prometheus}_count" if metric.buckets else metric.prometheus
    # Other senders of this stack are not counted.
    wanted = {SERVICE_NAME: "chatscope", **attributes}
    labels = ",".join(f'{names.prometheus_label(k)}="{v}"' for k, v in wanted.items())
    return stack.counted(f"{series}{{{labels}}}")


@pytest.fixture(scope="module", params=WAYS)
def observed(request: pytest.FixtureRequest, stack: Stack) -> Observed:
    way: str = request.param
    before, started = settled(lambda: _counts(stack, way)), time.time()
    return Observed(way, WAYS[way](stack.facts), before, started)


@pytest.fixture(scope="module")
def spans(stack: Stack, observed: Observed) -> list[Span]:
    def whole_trace() -> list[Span]:
        found = stack.backends.tempo_trace(observed.turn.trace_id) or []
        # The Collector sends several batches concurrently: the root may arrive before the call.
        there = any(not span.parent for span in found) and any(
            span.name == f"chat {MODEL}" for span in found
        )
        return found if there else []

    what = "the turn's trace with its root and the model call in Tempo"
    return poll_until(whole_trace, what, PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def lines(stack: Stack, observed: Observed) -> list[LogLine]:
    query = f'{{service_name="chatscope"}} | trace_id="{observed.turn.trace_id}"'

    def found() -> list[LogLine]:
        lines = stack.backends.loki(query)
        return lines if any(line.line.startswith("answer ") for line in lines) else []

    return poll_until(found, "the turn's lines in Loki", PATIENCE_SECONDS)


def _named(spans: list[Span], name: str) -> Span:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, f"{name} among {[span.name for span in spans]}"
    return found[0]


def test_answer_came_with_its_trace_id(observed: Observed) -> None:
    assert observed.turn.text
    assert len(observed.turn.trace_id) == 32


def test_turn_is_one_trace_with_the_right_parents(observed: Observed, spans: list[Span]) -> None:
    root = _named(spans, _ROOTS[observed.way])
    assert (root.parent, root.kind) == ("", "SERVER")
    assert root.attributes["http.route"] == _ROOTS[observed.way].split()[1]
    for step in ("validate", "history", f"chat {MODEL}"):
        assert _named(spans, step).parent == root.span_id
    assert len(spans) == 4


def test_model_call_carries_the_conventions_attributes(
    observed: Observed, spans: list[Span]
) -> None:
    chat = _named(spans, f"chat {MODEL}")
    found = chat.attributes
    assert found[names.GEN_AI_OPERATION_NAME] == "chat"
    assert found[names.GEN_AI_PROVIDER_NAME] == "simulated"
    assert found[names.GEN_AI_REQUEST_MODEL] == MODEL
    assert found[names.GEN_AI_REQUEST_STREAM] == (observed.way != "http")
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == observed.turn.prompt_tokens
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == observed.turn.completion_tokens
    assert found[names.GEN_AI_RESPONSE_FINISH_REASONS] == ["stop"]
    assert chat.events == []
    assert chat.status == "UNSET"
    assert chat.resource["service.name"] == "chatscope"


def test_websocket_turn_links_to_its_handshake(
    stack: Stack, observed: Observed, spans: list[Span]
) -> None:
    if observed.way != "websocket":
        assert all(not span.links for span in spans)
        return
    root = _named(spans, _ROOTS["websocket"])
    [link] = root.links
    handshake = poll_until(
        lambda: stack.backends.tempo_trace(link.trace_id),
        "the handshake's trace in Tempo",
        PATIENCE_SECONDS,
    )
    [span] = handshake
    assert (span.name, span.span_id) == ("GET /ws/chat", link.span_id)
    assert span.attributes["http.response.status_code"] == 101
    assert span.attributes[names.CONNECTION_ID] == root.attributes[names.CONNECTION_ID]


def test_log_lines_are_found_by_trace_id_as_structured_records(
    observed: Observed, spans: list[Span], lines: list[LogLine]
) -> None:
    [answer] = [line for line in lines if line.line == "answer completed"]
    assert answer.stream == {
        "service_name": "chatscope",
        "deployment_environment_name": "local",
    }
    found = answer.metadata
    assert found["trace_id"] == observed.turn.trace_id
    assert found["span_id"] == _named(spans, f"chat {MODEL}").span_id
    assert found["severity_text"] == "INFO"
    assert found["gen_ai_usage_output_tokens"] == str(observed.turn.completion_tokens)
    assert found["code_function_name"].startswith(("app.", "chatscope."))
    assert found["code_line_number"].isdigit()


def test_no_line_is_recorded_twice(lines: list[LogLine]) -> None:
    seen = [(line.timestamp, line.line) for line in lines]
    assert len(seen) == len(set(seen))


def test_counts_rise_by_exactly_this_turn(stack: Stack, observed: Observed) -> None:
    turn, over_http = observed.turn, observed.way != "websocket"
    cost = PriceTable.load().cost(MODEL, turn.prompt_tokens, turn.completion_tokens)
    expected = {
        "user": 1,
        "assistant": 1,
        "prompt": turn.prompt_tokens,
        "completion": turn.completion_tokens,
        "cost": cost,
        "answers": 1,
        "calls": 1,
        "first tokens": 0 if observed.way == "http" else 1,
        "requests": 1 if over_http else 0,
        "sockets closed": 0 if over_http else 1,
    }

    def risen() -> bool:
        after = _counts(stack, observed.way)
        rise = {what: after[what] - observed.before[what] for what in expected}
        assert rise == pytest.approx(expected)
        return True

    poll_until(risen, "each counter to rise by this turn", PATIENCE_SECONDS)


def test_every_exemplar_leads_back_to_the_trace(stack: Stack, observed: Observed) -> None:
    def all_lead_there() -> bool:
        missing = []
        for series in _WITH_EXEMPLARS:
            found = stack.backends.exemplars(series, observed.started - 60, time.time() + 60)
            if observed.turn.trace_id not in {each.labels.get("trace_id") for each in found}:
                missing.append(series)
        assert not missing
        return True

    poll_until(all_lead_there, "an exemplar of each series with this trace", PATIENCE_SECONDS)


def test_texts_reach_no_backend(
    stack: Stack, observed: Observed, spans: list[Span], lines: list[LogLine]
) -> None:
    texts = (QUESTION, observed.turn.text)
    assert all(texts)
    assert not [text for text in texts if _is_stored(text, spans, lines)]


def test_texts_are_found_where_they_are_captured(stack: Stack, tmp_path: Path) -> None:
    """Otherwise not finding them would prove nothing."""
    capture = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}
    with service(stack, tmp_path, **capture) as one:
        turn = WAYS["http"](one.facts)

        def stored() -> bool:
            spans = stack.backends.tempo_trace(turn.trace_id) or []
            return all(_is_stored(text, spans, []) for text in (QUESTION, turn.text))

        poll_until(stored, "question and answer in the spans", PATIENCE_SECONDS)


def _is_stored(text: str, spans: list[Span], lines: list[LogLine]) -> bool:
    """Return whether the text is anywhere in them, as it is or encoded as JSON."""
    spelled = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    records = [*map(asdict, spans), *map(asdict, lines)]
    return any(each in value for record in records for value in _texts(record) for each in spelled)


def _texts(value: object) -> Iterator[str]:
    """Yield all strings in a record, including keys."""
    match value:
        case str():
            yield value
        case dict():
            for pair in value.items():
                yield from _texts(pair)
        case list() | tuple():
            for each in value:
                yield from _texts(each)
