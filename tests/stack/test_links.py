"""Each link from one backend to another, followed with real data."""

import math
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from chatscope import names
from chatscope.cli.spans import Span
from stack.backends import LogLine, Sample
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack import links
from tests.stack.turns import MODEL, QUESTION, Turn, websocket_turn

_EXEMPLARS = (
    f"{names.LLM_RESPONSE_TIME.prometheus}_bucket",
    names.LLM_TOKEN_USAGE.prometheus,
    names.LLM_COST.prometheus,
    names.MESSAGE_COUNT.prometheus,
    f"{names.HTTP_REQUEST_DURATION.prometheus}_bucket",
    "traces_span_metrics_duration_seconds_bucket",
)
# Metrics of Grafana's service map.
_SERVICE_MAP = (
    "traces_service_graph_request_total",
    "traces_service_graph_request_server_seconds_sum",
    "traces_service_graph_request_server_seconds_bucket",
)
_METRIC_LINKS = [query["name"] for query in links.settings("tempo")["tracesToMetrics"]["queries"]]
_DERIVED = {field["name"]: field for field in links.settings("loki")["derivedFields"]}
_CHAT = f"chat {MODEL}"
_MESSAGE = "message /ws/chat"


@pytest.fixture(scope="module")
def turn(stack: Stack) -> Turn:
    """Return the second of two turns, so that every counter of the first has increased."""
    websocket_turn(stack.facts)
    for series in (
        f'traces_span_metrics_calls_total{{span_name="{_CHAT}"}}',
        f"{names.LLM_COST.prometheus}{{}}",
    ):
        poll_until(
            lambda: stack.backends.prometheus(series),  # noqa: B023
            f"{series} in Prometheus",
            PATIENCE_SECONDS,
        )
    return websocket_turn(stack.facts)


@pytest.fixture(scope="module")
def request_in_64_bits(stack: Stack) -> str:
    """Return the trace ID of a response to a client with 64-bit IDs, as some still use."""
    trace_id = "0" * 16 + "f" + secrets.token_hex(8)[1:]
    with local_client(stack.facts["APP_URL"], timeout=PATIENCE_SECONDS) as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
        headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
        answer = client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.raise_for_status().headers["x-trace-id"] == trace_id
    return trace_id


@pytest.fixture(scope="module")
def spans(stack: Stack, turn: Turn) -> dict[str, Span]:
    """Return the spans of the turn, by name."""
    return {span.name: span for span in _whole_trace(stack, turn.trace_id)}


@pytest.fixture(scope="module")
def lines(stack: Stack, turn: Turn) -> list[LogLine]:
    """Return all lines of the turn, whenever they were written."""
    return _all_lines(stack, turn.trace_id)


@pytest.fixture(scope="module")
def grafana(stack: Stack) -> Iterator[httpx2.Client]:
    """Return a client without a login."""
    if missing := stack.running.missing.get("grafana"):
        pytest.skip(f"no Grafana: {missing}")
    with local_client(stack.facts["GRAFANA_URL"], timeout=PATIENCE_SECONDS) as client:
        yield client


def _whole_trace(stack: Stack, trace_id: str) -> list[Span]:
    def found() -> list[Span]:
        spans = stack.backends.tempo_trace(trace_id) or []
        assert len(spans) >= 4, [span.name for span in spans]
        return spans

    return poll_until(found, f"the spans of {trace_id} in Tempo", PATIENCE_SECONDS)


def _all_lines(stack: Stack, trace_id: str) -> list[LogLine]:
    def found() -> list[LogLine]:
        lines = stack.backends.loki(f'{{service_name="chatscope"}} | trace_id="{trace_id}"')
        assert any("answer completed" in line.line for line in lines), lines
        return lines

    return poll_until(found, f"the lines of {trace_id} in Loki", PATIENCE_SECONDS)


def _asked_of_loki(stack: Stack, span: Span) -> list[LogLine]:
    asked = links.logs_of(span)
    return stack.backends.loki(asked.text, asked.start, asked.end)


def _asked_of_prometheus(stack: Stack, span: Span, name: str) -> list[Sample]:
    query = links.metrics_of(span, name).text.replace("$__rate_interval", links.rate_interval())
    found = stack.backends.prometheus(query)
    return [sample for sample in found if math.isfinite(sample.value) and sample.value > 0]


# -- metric to trace ------------------------------------------------------------


@pytest.mark.parametrize("series", _EXEMPLARS)
def test_exemplar_leads_to_its_trace(stack: Stack, turn: Turn, series: str) -> None:
    [link] = links.settings("prometheus")["exemplarTraceIdDestinations"]

    def newest() -> str:
        now = time.time()
        found = stack.backends.exemplars(series, now - 600, now + 60)
        return max(found, key=lambda exemplar: exemplar.timestamp).labels[link["name"]]

    trace_id = poll_until(newest, f"an exemplar of {series} in Prometheus", PATIENCE_SECONDS)
    found = poll_until(
        lambda: stack.backends.tempo_trace(trace_id), f"trace {trace_id}", PATIENCE_SECONDS
    )
    assert found
    assert {span.trace_id for span in found} == {trace_id}
    assert link["datasourceUid"] == "tempo"


def test_exemplars_of_all_metrics_spell_the_trace_alike(stack: Stack, turn: Turn) -> None:
    now = time.time()
    # Not of an earlier stack, whose exemplars do not count.
    found = stack.backends.exemplars('{__name__=~".+"}', now - 600, now + 60)
    assert {frozenset(exemplar.labels) for exemplar in found} == {
        frozenset({"trace_id", "span_id"})
    }


# -- trace to logs --------------------------------------------------------------


@pytest.mark.parametrize("name", [_MESSAGE, "validate", "history", _CHAT])
def test_span_leads_to_the_lines_of_its_turn_and_to_nothing_else(
    stack: Stack, spans: dict[str, Span], lines: list[LogLine], name: str
) -> None:
    assert _asked_of_loki(stack, spans[name]) == lines


def test_line_that_sums_up_an_answer_is_found_though_it_comes_after_the_spans_end(
    stack: Stack, request_in_64_bits: str
) -> None:
    lines = _all_lines(stack, request_in_64_bits)
    [root] = [span for span in _whole_trace(stack, request_in_64_bits) if span.kind == "SERVER"]
    [last] = [line for line in lines if line.line == "answer completed"]
    assert last.timestamp > root.end
    assert last in _asked_of_loki(stack, root)


def test_trace_of_a_64_bit_caller_leads_to_its_lines(stack: Stack, request_in_64_bits: str) -> None:
    lines = _all_lines(stack, request_in_64_bits)
    for span in _whole_trace(stack, request_in_64_bits):
        assert _asked_of_loki(stack, span) == lines


# -- log to trace ---------------------------------------------------------------


def test_log_links_look_at_structured_metadata_not_at_the_text(lines: list[LogLine]) -> None:
    assert {field["matcherType"] for field in _DERIVED.values()} == {"label"}
    [keys, *_] = [line.metadata for line in lines]
    for field in _DERIVED.values():
        matching = [key for key in keys if re.search(field["matcherRegex"], key)]
        assert len(matching) == 1, f"{field['name']}: {matching}"


def test_log_line_leads_to_its_trace(
    stack: Stack, lines: list[LogLine], spans: dict[str, Span]
) -> None:
    for line in lines:
        found = stack.backends.tempo_trace(_followed("Trace", line)) or []
        assert line.metadata["span_id"] in {span.span_id for span in found}


def test_log_line_leads_to_all_turns_of_its_connection(
    stack: Stack, turn: Turn, lines: list[LogLine]
) -> None:
    def handshake_and_message() -> bool:
        found = stack.backends.tempo_search(_followed("Conversation", lines[0]))
        assert {trace["rootTraceName"] for trace in found} == {_MESSAGE, "GET /ws/chat"}
        # Tempo's search leaves out leading zeros.
        return turn.trace_id.lstrip("0") in {trace["traceID"] for trace in found}

    poll_until(handshake_and_message, "the connection's turns in Tempo", PATIENCE_SECONDS)


def _followed(name: str, line: LogLine) -> str:
    field = _DERIVED[name]
    assert field["datasourceUid"] == "tempo"
    [key] = [key for key in line.metadata if re.search(field["matcherRegex"], key)]
    return str(field["url"]).replace("${__value.raw}", line.metadata[key])


# -- trace to metrics -----------------------------------------------------------


@pytest.mark.parametrize("span", [_CHAT, _MESSAGE])
@pytest.mark.parametrize("name", _METRIC_LINKS)
def test_span_leads_to_metrics(
    stack: Stack, turn: Turn, spans: dict[str, Span], span: str, name: str
) -> None:
    assert poll_until(
        lambda: _asked_of_prometheus(stack, spans[span], name), name, PATIENCE_SECONDS
    )


def test_metrics_of_a_models_span_are_that_models(spans: dict[str, Span]) -> None:
    label = f'{names.prometheus_label(names.GEN_AI_REQUEST_MODEL)}="{MODEL}"'
    for name in _METRIC_LINKS:
        assert label in links.metrics_of(spans[_CHAT], name).text
        assert label not in links.metrics_of(spans[_MESSAGE], name).text


@pytest.mark.parametrize("series", _SERVICE_MAP)
def test_service_map_has_its_metrics(stack: Stack, turn: Turn, series: str) -> None:
    found = poll_until(
        lambda: stack.backends.prometheus(f'{series}{{server="chatscope"}}'),
        f"{series} in Prometheus",
        PATIENCE_SECONDS,
    )
    assert all(sample.labels["client"] for sample in found)


# -- the same links, resolved by Grafana -------------------------------------------


def _through_grafana(grafana: httpx2.Client, uid: str, **query: Any) -> list[dict[str, Any]]:
    """Yield the frames of a response, with names and values of fields."""
    start, end = query.pop("start", time.time() - 600), query.pop("end", time.time() + 60)
    asked = {
        "from": str(int(start * 1000)),
        "to": str(int(end * 1000)),
        "queries": [{"refId": "A", "datasource": {"uid": uid, "type": uid}, **query}],
    }
    answer = grafana.post("/api/ds/query", json=asked)
    result = answer.raise_for_status().json()["results"]["A"]
    assert "error" not in result, result
    return [
        {
            field["name"]: values
            for field, values in zip(
                frame["schema"]["fields"], frame["data"]["values"], strict=True
            )
        }
        for frame in result["frames"]
    ]


@pytest.mark.parametrize("uid", ["prometheus", "loki", "tempo", "alertmanager"])
def test_grafana_reads_the_links_as_these_tests_do(grafana: httpx2.Client, uid: str) -> None:
    known = grafana.get("/api/frontend/settings").raise_for_status().json()["datasources"]
    [found] = [source["jsonData"] for source in known.values() if source.get("uid") == uid]
    # Added by Grafana's own code.
    assert links.settings(uid).items() <= found.items()


def test_grafana_finds_the_trace_of_an_exemplar(grafana: httpx2.Client, turn: Turn) -> None:
    def exemplars() -> list[str]:
        expr = f"{names.LLM_RESPONSE_TIME.prometheus}_bucket"
        frames = _through_grafana(grafana, "prometheus", expr=expr, range=True, exemplar=True)
        return [trace_id for frame in frames for trace_id in frame.get("trace_id", [])]

    [*_, trace_id] = poll_until(exemplars, "exemplars through Grafana", PATIENCE_SECONDS)
    [frame] = _through_grafana(grafana, "tempo", queryType="traceId", query=trace_id)
    assert set(frame["traceID"]) == {trace_id.removeprefix("0" * 16)}


def test_grafana_finds_the_lines_of_a_span(
    grafana: httpx2.Client, spans: dict[str, Span], lines: list[LogLine]
) -> None:
    asked = links.logs_of(spans[_MESSAGE])
    [frame] = _through_grafana(
        grafana, "loki", expr=asked.text, queryType="range", start=asked.start, end=asked.end
    )
    assert sorted(int(ns) for ns in frame["tsNs"]) == [line.timestamp for line in lines]
    # Read by its link back to the trace.
    assert {labels["trace_id"] for labels in frame["labels"]} == {spans[_MESSAGE].trace_id}


def test_grafana_cuts_the_id_of_a_64_bit_caller(
    grafana: httpx2.Client, stack: Stack, request_in_64_bits: str
) -> None:
    _whole_trace(stack, request_in_64_bits)
    [frame] = _through_grafana(grafana, "tempo", queryType="traceId", query=request_in_64_bits)
    assert set(frame["traceID"]) == {request_in_64_bits[16:]}


@pytest.mark.parametrize("name", _METRIC_LINKS)
def test_grafana_finds_the_metrics_of_a_span(
    grafana: httpx2.Client, spans: dict[str, Span], name: str
) -> None:
    asked = links.metrics_of(spans[_CHAT], name)

    def values() -> list[float]:
        frames = _through_grafana(
            grafana, "prometheus", expr=asked.text, range=True, start=asked.start, end=asked.end
        )
        # A panel shows neither gaps nor values that are no numbers.
        return [
            value
            for frame in frames
            for key, column in frame.items()
            if key != "Time"
            for value in column
            if value
        ]

    assert poll_until(values, f"{name} through Grafana", PATIENCE_SECONDS)
