"""The tree of a trace, for traces that no healthy service makes, too."""

import io
import re
from itertools import takewhile
from typing import Any

from rich.console import Console

from chatscope.cli import trace
from chatscope.cli.loki import Line
from chatscope.cli.spans import Span
from chatscope.cli.tempo import as_trace_id
from chatscope.cli.trace import Trace

_MS = 1_000_000
_START = 1_764_331_200 * 10**9


def _span(name: str, parent: str = "", at: tuple[int, int] = (0, 1), **values: Any) -> Span:
    attributes = values.pop("attributes", {})
    facts: dict[str, Any] = {
        "kind": "INTERNAL",
        "scope": "",
        "status": "UNSET",
        "status_message": "",
        "resource": {"service.name": "shop"},
        **values,
    }
    start, end = (_START + each * _MS for each in at)
    return Span(
        "ab" * 16, name, parent, f"span {name}", start=start, end=end, attributes=attributes,
        **facts,
    )  # fmt: skip


def _shown(*spans: Span, records: tuple[Line, ...] = (), width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    trace.show(console, Trace("ab" * 16, spans, records), None)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def _tree(*spans: Span) -> list[str]:
    """The lines of the spans, without their durations."""
    lines = takewhile(bool, _shown(*spans)[3:])
    return [re.sub(r" +[\d.]+ (us|ms|s)\b.*", "", line) for line in lines]


def test_children_are_below_their_parent_in_the_order_of_time() -> None:
    spans = [
        _span("root", at=(0, 100)),
        _span("b", "root", at=(10, 90)),
        _span("c", "b", at=(20, 30)),
        _span("d", "root", at=(95, 99)),
    ]
    assert _tree(*spans) == ["span root", "├─ span b", "│  └─ span c", "└─ span d"]


def test_spans_without_their_parent_and_in_a_circle_are_shown_once() -> None:
    spans = [_span("lost", "gone"), _span("x", "y"), _span("y", "x"), _span("self", "self")]
    assert sorted(line.split()[-1] for line in _tree(*spans)) == ["lost", "self", "x", "y"]


def test_deep_and_large_traces_are_shown_in_part() -> None:
    deep = [_span("0"), *(_span(str(n), str(n - 1)) for n in range(1, 5_000))]
    lines = _shown(*deep)
    assert max(map(len, lines)) <= 80
    assert "… 4800 more spans: --json shows all of them" in lines


def test_response_has_its_tokens_cost_first_token_and_failure() -> None:
    values = {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "chatscope.answer.cost": 0.00045,
        "chatscope.answer.outcome": "failed",
        "chatscope.answer.time_to_first_token": 0.25,
        "error.type": "rate_limit_exceeded",
        "error.message": "You exceeded your \x1b[31mquota",
    }
    spans = [_span("root", at=(0, 2_000)), _span("chat", "root", at=(1, 1_900), attributes=values)]
    shown = "\n".join(_shown(*spans))
    assert "gpt-4o · 100 + 20 tokens · $0.000450 · first token 250 ms" in shown
    assert r"rate_limit_exceeded · You exceeded your \x1b[31mquota" in shown
    assert "failed · 100 + 20 tokens · $0.000450 · 2 spans, 0 log records" in shown
    assert "1.90 s" in shown


def test_trace_is_not_longer_for_a_response_that_was_rated_later() -> None:
    rated = {"gen_ai.evaluation.name": "user_feedback", "gen_ai.evaluation.score.label": "bad"}
    spans = [
        _span("root", at=(0, 2_000)),
        _span("rating", "root", at=(600_000, 600_000), attributes=rated),
    ]
    lines = _shown(*spans)
    assert lines[1].endswith(", 2.00 s")
    [root, rating] = lines[3:5]
    assert root.count("━") == 20
    assert rating.endswith("  " + " " * 19 + "━")
    only = Trace("ab" * 16, spans[1:], ())
    assert only.seconds == 0


def test_records_are_shown_with_their_facts_and_without_control_characters() -> None:
    fields = {
        "severity_text": "INFO", "service_name": "shop", "gen_ai_request_model": "gpt-4o",
        "chatscope_answer_duration": "0.75", "gen_ai_usage_input_tokens": "5",
        "gen_ai_usage_output_tokens": "20", "chatscope_answer_cost": "0.00012",
    }  # fmt: skip
    record = Line(_START, "answer \x9bcompleted\n", fields)
    shown = "\n".join(_shown(_span("root"), records=(record,), width=200))
    text = r"INFO shop answer \x9bcompleted\n · gpt-4o · 750 ms · 5 + 20 tokens · $0.000120"
    assert text in shown


def test_span_of_two_services_is_named_with_its_own() -> None:
    other = _span("b", "a", resource={"service.name": "till"})
    assert "span b (till)" in "\n".join(_shown(_span("a"), other))


def test_trace_id_may_lack_zeros_and_be_in_capitals() -> None:
    assert as_trace_id("AB12") == "ab12".rjust(32, "0")
    assert as_trace_id("0" * 32) is None
    assert as_trace_id("chatcmpl-12") is None
    assert as_trace_id("a" * 33) is None
