"""The terminal chat's words, and what it keeps from the terminal."""

from chatscope.cli import chat

_DONE = {
    "usage": {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25},
    "cost": 0.00012,
    "finish_reason": "stop",
    "trace_id": "ab" * 16,
}


def test_summary_has_tokens_cost_seconds_and_trace() -> None:
    assert chat.summary(_DONE, 1.25) == f"25 tokens · $0.000120 · 1.2 s · trace {'ab' * 16}"


def test_summary_says_when_no_price_is_known_and_why_an_answer_ended() -> None:
    summary = chat.summary({**_DONE, "cost": None, "finish_reason": "cancelled"}, 1.0)
    assert summary.startswith("cancelled · 25 tokens · no price known · ")


def test_cancelled_answer_without_usage_has_a_summary() -> None:
    assert "0 tokens" in chat.summary({**_DONE, "usage": None}, 1.0)


def test_failure_has_its_message_and_its_trace() -> None:
    event = {"error": {"message": "no such model"}, "trace_id": "cd" * 16}
    assert chat.failure(event) == f"error: no such model · trace {'cd' * 16}"
