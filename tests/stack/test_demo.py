"""The demo load on a real stack: the telemetry of each question is in each of the backends."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatscope import names
from chatscope.cli.spans import Span
from chatscope.names import Metric
from demo import story
from stack.backends import LogLine
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack, settled

_ROOT = Path(__file__).parents[2]
# Enough for all kinds of users, at this pace, and for failures and fallbacks.
_QUESTIONS = 250
_BOUNDS = {
    "DEMO_PACE": "50",
    "DEMO_SPAWN_RATE": "100",
    "DEMO_SECONDS": "120",
    "DEMO_QUESTIONS": str(_QUESTIONS),
}
_ROW = re.compile(r"^(HTTP|SSE|WebSocket)  +(\S.*?)  +(\d+)  +(\d+)  ", re.MULTILINE)
_VENDORS = {"northwind", "contoso", "fabrikam"}
# Errors of the demo's providers.
_CODES = {"rate_limit_exceeded", "server_error", "unavailable", "timeout", "stalled"}
# Requests with an expected error: the model rejects a bad temperature, the service the others.
_REFUSED = {"unknown model", "no messages", "unknown type"}
_MISTAKES = {*_REFUSED, "bad temperature"}
_TOLD = re.compile(r"^failed: .*?: (\w+)(?:, trace \w+)?$", re.MULTILINE)
_ABORTED = {"disconnect", "cancel"}


@dataclass(frozen=True)
class Run:
    """A run of the demo: its figures, start time, and the counters before it."""

    rows: dict[tuple[str, str], int]
    output: str
    code: int
    started: float
    before: dict[str, float]

    def answers(self, way: str) -> int:
        """Chats by one transport that reached a model."""
        left_out = {*_REFUSED, "connection", "search"}
        return sum(n for (by, what), n in self.rows.items() if by == way and what not in left_out)

    def requests(self) -> int:
        """All questions over HTTP, including invalid ones."""
        return sum(
            n for (way, what), n in self.rows.items() if way != "WebSocket" and what != "search"
        )


def _counts(stack: Stack) -> dict[str, float]:
    def count(metric: Metric, labels: str = "") -> float:
        return stack.counted(f'{metric.prometheus}_count{{service_name="chatscope"{labels}}}')

    route = f', {names.prometheus_label(names.HTTP_ROUTE)}="/v1/chat/completions"'
    return {
        "requests": count(names.HTTP_REQUEST_DURATION, route),
        "answers": count(names.LLM_RESPONSE_TIME),
        "sockets": count(names.WEBSOCKET_DURATION),
    }


@pytest.fixture(scope="module")
def run(stack: Stack) -> Run:
    before, started = settled(lambda: _counts(stack)), time.time()
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=_ROOT,
        env={
            **os.environ,
            **_BOUNDS,
            "CHATSCOPE_URL": stack.facts["APP_URL"],
            **telemetry_variables(stack.facts, "OTLP_HTTP_URL"),
        },
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    rows = {(way, what): int(count) for way, what, count, _ in _ROW.findall(done.stdout)}
    return Run(rows, done.stdout, done.returncode, started, before)


@pytest.fixture(scope="module")
def ends(stack: Stack, run: Run) -> list[LogLine]:
    """Return the final log line of each response."""
    wanted = sum(run.answers(way) for way in ("HTTP", "SSE", "WebSocket"))
    query = '{service_name="chatscope"} |~ "^answer (completed|failed|cancelled)"'

    def found() -> list[LogLine]:
        lines = stack.backends.loki(query, start=run.started)
        assert len(lines) == wanted
        return lines

    return poll_until(found, f"{wanted} answers in Loki", PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def traces(stack: Stack, ends: list[LogLine]) -> list[list[Span]]:
    """Return the trace of each response, once its model call has arrived."""

    def trace(line: LogLine) -> list[Span] | None:
        spans = stack.backends.tempo_trace(line.metadata["trace_id"]) or []
        names_found = {span.name for span in spans}
        complete = any(name.startswith("chat ") for name in names_found) and _servers(spans)
        return spans if complete else None

    return [
        poll_until(lambda: trace(line), "the answer's trace in Tempo", PATIENCE_SECONDS)  # noqa: B023
        for line in ends
    ]


def _servers(trace: list[Span]) -> list[Span]:
    """Return the service's spans with a model call as child."""
    parents = {span.parent for span in trace if span.name.startswith("chat ")}
    return [span for span in trace if span.span_id in parents]


def test_each_user_counts_for_the_team_of_the_key(ends: list[LogLine]) -> None:
    user, key, team = map(names.prometheus_label, (names.USER_ID, names.KEY_NAME, names.KEY_TEAM))
    found = {tuple(line.metadata.get(each, "") for each in (user, key, team)) for line in ends}
    known = {(each.id, f"{each.team}-assistant", each.team) for each in story.USERS}
    assert found <= known
    assert {found_team for _, _, found_team in found} == {each.team for each in story.USERS}


def test_users_of_all_kinds_were_served(run: Run) -> None:
    assert run.code == 0, run.output
    assert set(_TOLD.findall(run.output)) <= _CODES, run.output
    assert sum(n for (_, what), n in run.rows.items() if what != "connection") == _QUESTIONS
    assert {what for _, what in run.rows} >= _MISTAKES | _ABORTED
    assert {what for _, what in run.rows} >= {"question with tools", "ticket as JSON", "search"}


def test_counters_rise_by_exactly_what_was_asked(stack: Stack, run: Run) -> None:
    expected = {
        "requests": run.requests(),
        "answers": sum(run.answers(way) for way in ("HTTP", "SSE", "WebSocket")),
        "sockets": run.rows["WebSocket", "connection"],
    }

    def risen() -> bool:
        after = _counts(stack)
        assert {what: after[what] - run.before[what] for what in expected} == expected
        return True

    poll_until(risen, "each counter to rise by the demo's questions", PATIENCE_SECONDS)


def test_each_answer_is_in_loki_and_tempo_by_the_way_it_was_asked(
    run: Run, traces: list[list[Span]], ends: list[LogLine]
) -> None:
    found: Counter[str] = Counter()
    for trace, line in zip(traces, ends, strict=True):
        [call] = [span for span in trace if span.span_id == line.metadata["span_id"]]
        [server] = [span for span in trace if span.span_id == call.parent]
        if server.name == "message /ws/chat":
            found["WebSocket"] += 1
        else:
            found["SSE" if call.attributes[names.GEN_AI_REQUEST_STREAM] else "HTTP"] += 1
    assert found == {way: run.answers(way) for way in ("HTTP", "SSE", "WebSocket")}


def test_traces_over_http_begin_in_the_demo(traces: list[list[Span]]) -> None:
    over_http = 0
    for trace in traces:
        by_id = {span.span_id: span for span in trace}
        for server in _servers(trace):
            if server.name == "message /ws/chat":
                continue
            over_http += 1
            request = by_id[server.parent]
            assert (request.kind, request.resource["service.name"]) == ("CLIENT", "shop-assistant")
            assert server.resource["service.name"] == "chatscope"
    assert over_http


def test_backends_have_all_telemetry_of_the_demo(stack: Stack, run: Run) -> None:
    def total(metric: Metric, suffix: str, by: str, service: str) -> dict[str, float]:
        series = f'{metric.prometheus}{suffix}{{service_name="{service}"}}'
        label = names.prometheus_label(by)
        samples = stack.backends.prometheus(f"sum by ({label}) (max_over_time({series}[10m]))")
        return {sample.labels.get(label, ""): sample.value for sample in samples}

    def told() -> bool:
        provider, model = names.GEN_AI_PROVIDER_NAME, names.GEN_AI_REQUEST_MODEL
        calls = total(names.CLIENT_INFERENCE_DURATION, "_count", provider, "chatscope")
        assert set(calls) >= _VENDORS
        errors = total(names.CLIENT_INFERENCE_DURATION, "_count", names.ERROR_TYPE, "chatscope")
        assert set(errors) & _CODES
        cost = total(names.LLM_COST, "", model, "chatscope")
        assert all(cost[f"{vendor}-large"] > 0 for vendor in _VENDORS)
        searches = total(names.EMBEDDINGS_DURATION, "_count", model, "chatscope")
        assert sum(searches.values()) >= run.rows["HTTP", "search"]
        tools = total(
            names.EXECUTE_TOOL_DURATION, "_count", names.GEN_AI_TOOL_NAME, "shop-assistant"
        )
        assert set(tools) == {"find_order", "get_weather"}
        agents = total(
            names.INVOKE_AGENT_DURATION, "_count", names.GEN_AI_AGENT_NAME, "shop-assistant"
        )
        assert set(agents) <= {f"{team} agent" for team in ("support", "sales", "engineering")}
        assert agents
        return True

    poll_until(told, "providers, failures, cost, embeddings, tools and agents", PATIENCE_SECONDS)
    failed = stack.backends.loki(
        '{service_name="chatscope"} |= "attempt failed"', start=run.started
    )
    assert {line.metadata["gen_ai_request_model"] for line in failed} >= {"contoso-large"}


def test_answers_are_those_of_named_users_in_conversations(ends: list[LogLine]) -> None:
    keys = (names.USER_ID, names.SESSION_ID, names.GEN_AI_CONVERSATION_ID)
    found = [tuple(line.metadata.get(key.replace(".", "_"), "") for key in keys) for line in ends]
    users = {user.id for user in story.USERS}
    assert all(user in users and session and talk for user, session, talk in found)
    assert len({user.partition("@")[2] for user, _, _ in found}) == 3
    turns = Counter(talk for _, _, talk in found)
    assert max(turns.values()) >= 3


def test_client_that_disconnects_is_recorded_as_cancelled(ends: list[LogLine]) -> None:
    # A response may have ended already: some of them were cancelled, not all.
    assert any(line.line == "answer cancelled" for line in ends)
