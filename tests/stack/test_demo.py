"""The demo load on a real stack: each of its questions is in each of the stores."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatscope import names
from chatscope.names import Metric
from stack.backends import LogLine, Span
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack, settled

_ROOT = Path(__file__).parents[2]
# Enough for people of every kind, at this pace, and for failures and fallbacks.
_QUESTIONS = 250
_BOUNDS = {
    "DEMO_PACE": "50",
    "DEMO_SPAWN_RATE": "100",
    "DEMO_SECONDS": "120",
    "DEMO_QUESTIONS": str(_QUESTIONS),
}
_ROW = re.compile(r"^(HTTP|SSE|WebSocket)  +(\S.*?)  +(\d+)  +(\d+)  ", re.MULTILINE)
_VENDORS = {"northwind", "contoso", "fabrikam"}
# What they fail with, now and then.
_CODES = {"rate_limit_exceeded", "server_error", "unavailable", "timeout", "stalled"}
# No answer of a model was asked for. A bad temperature is refused by the model.
_MISTAKES = {"wrong model", "bad temperature", "no question", "unknown type"}
_GIVEN_UP = {"hang up halfway", "call off halfway"}


@dataclass(frozen=True)
class Run:
    """A run of the demo: its figures, when it began, and what the counters said before."""

    rows: dict[tuple[str, str], int]
    output: str
    code: int
    started: float
    before: dict[str, float]

    def answers(self, way: str) -> int:
        """Questions by one way that led to a model's text."""
        left_out = {*_MISTAKES, "connection", "search"}
        return sum(n for (by, what), n in self.rows.items() if by == way and what not in left_out)

    def requests(self) -> int:
        """All questions over HTTP, mistakes and all."""
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
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.facts["OTLP_HTTP_URL"],
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
    """The line that each answer ends with."""
    wanted = sum(run.answers(way) for way in ("HTTP", "SSE", "WebSocket"))
    query = '{service_name="chatscope"} |~ "^answer (completed|failed|cancelled)"'

    def found() -> list[LogLine]:
        lines = stack.backends.loki(query, start=run.started)
        assert len(lines) == wanted
        return lines

    return poll_until(found, f"{wanted} answers in Loki", PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def roots(stack: Stack, ends: list[LogLine]) -> list[tuple[Span, Span]]:
    """The root of each answer's trace, and its model call."""

    def trace(line: LogLine) -> tuple[Span, Span] | None:
        spans = stack.backends.tempo_trace(line.metadata["trace_id"]) or []
        root = [span for span in spans if not span.parent]
        call = [span for span in spans if span.name.startswith("chat ")]
        return (root[0], call[0]) if root and call else None

    return [
        poll_until(lambda: trace(line), "the answer's trace in Tempo", PATIENCE_SECONDS)  # noqa: B023
        for line in ends
    ]


def test_people_of_all_kinds_were_served(run: Run) -> None:
    assert run.code == 0, run.output
    assert "failed:" not in run.output
    assert sum(n for (_, what), n in run.rows.items() if what != "connection") == _QUESTIONS
    assert {what for _, what in run.rows} >= _MISTAKES | _GIVEN_UP


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
    run: Run, roots: list[tuple[Span, Span]]
) -> None:
    def way(root: Span, call: Span) -> str:
        if root.name == "message /ws/chat":
            return "WebSocket"
        return "SSE" if call.attributes[names.GEN_AI_REQUEST_STREAM] else "HTTP"

    found = [way(root, call) for root, call in roots]
    for by in ("HTTP", "SSE", "WebSocket"):
        assert found.count(by) == run.answers(by)


def test_who_leaves_halfway_is_recorded_as_that(ends: list[LogLine]) -> None:
    # The answer may have been at its end already: some of them, not each.
    assert any(line.line == "answer cancelled" for line in ends)
