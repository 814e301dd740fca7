"""Completed responses, and whether all of their telemetry is in the backends."""

from chatscope import names
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import WAYS, Turn

_LOST = " + ".join(
    f'sum({metric.prometheus}{{error_type!=""}})'
    for metric in (names.SPANS_PROCESSED, names.LOGS_PROCESSED)
)


def turns(stack: Stack, rounds: int = 4) -> list[Turn]:
    """Send requests by each transport, equally often: by default for about 12 s, after which the
    SDK's own exporter would drop the data."""
    return [way(stack.facts) for _ in range(rounds) for way in WAYS.values()]


def all_found(stack: Stack, given: list[Turn]) -> None:
    """Wait until each response has its trace, and its log line exactly once."""
    for turn in given:
        query = f'{{service_name="chatscope"}} | trace_id="{turn.trace_id}" |= "answer completed"'
        poll_until(
            lambda: stack.backends.tempo_trace(turn.trace_id),  # noqa: B023
            f"trace {turn.trace_id} in Tempo",
            PATIENCE_SECONDS,
        )
        lines = poll_until(
            lambda: stack.backends.loki(query),  # noqa: B023
            f"the line of {turn.trace_id} in Loki",
            PATIENCE_SECONDS,
        )
        assert len(lines) == 1


def tokens(stack: Stack) -> float:
    """Return the count of all tokens."""
    return stack.counted(f'{names.LLM_TOKEN_USAGE.prometheus}{{service_name="chatscope"}}')


def risen(stack: Stack, before: float, given: list[Turn]) -> None:
    """Assert that the token count rose by exactly the tokens of the responses."""
    wanted = sum(turn.prompt_tokens + turn.completion_tokens for turn in given)

    def exactly() -> bool:
        assert tokens(stack) - before == wanted
        return True

    poll_until(exactly, "the tokens of all turns in Prometheus", PATIENCE_SECONDS)


def none_dropped(stack: Stack) -> None:
    """Assert that the service itself dropped nothing."""
    assert [sample.value for sample in stack.backends.prometheus(_LOST)] == [0.0]
