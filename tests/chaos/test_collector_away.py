"""The Collector hangs or dies under the service: answers go on, and nothing is lost."""

import time

from app.telemetry import names
from stack.waiting import poll_until
from tests.chaos.outages import away, hanging, killed
from tests.running import PATIENCE_SECONDS, Stack, settled
from tests.stack.turns import WAYS, Turn

# What of the service's telemetry a SIGKILL takes along: what it has not yet put on disk, which is
# a flush's interval and, once, the time in which it finds the Collector away. With much air.
_ON_DISK_SECONDS = 3.0
_LOST = f"sum({names.SPANS_DROPPED.prometheus}) + sum({names.LOGS_DROPPED.prometheus})"


def _turns(stack: Stack) -> list[Turn]:
    """Enough of them that an exporter of the SDK alone would give up: some 12 s."""
    return [way(stack.facts) for _ in range(4) for way in WAYS.values()]


def _all_found(stack: Stack, turns: list[Turn]) -> None:
    for turn in turns:
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


def _tokens(stack: Stack) -> float:
    return stack.counted(f'{names.LLM_TOKEN_USAGE.prometheus}{{service_name="chatscope"}}')


def _risen(stack: Stack, before: float, turns: list[Turn]) -> None:
    wanted = sum(turn.prompt_tokens + turn.completion_tokens for turn in turns)

    def exactly() -> bool:
        assert _tokens(stack) - before == wanted
        return True

    poll_until(exactly, "the tokens of all turns in Prometheus", PATIENCE_SECONDS)


def test_answers_go_on_while_the_collector_hangs_and_nothing_is_lost(stack: Stack) -> None:
    before = settled(lambda: _tokens(stack))
    with hanging(stack, "collector"):
        turns = _turns(stack)
    _all_found(stack, turns)
    _risen(stack, before, turns)
    assert [sample.value for sample in stack.backends.prometheus(_LOST)] == [0.0]


def test_answers_go_on_while_the_collector_is_dead(stack: Stack) -> None:
    """What it had taken waits on its disk, and what it could not take in the service."""
    with away(stack, "collector"):
        turns = _turns(stack)
    _all_found(stack, turns)
    assert [sample.value for sample in stack.backends.prometheus(_LOST)] == [0.0]


def test_service_killed_while_the_collector_hangs_loses_nothing(stack: Stack) -> None:
    """All that its clients saw of it is on disk; whoever is started in its place sends it, the
    last sums of its metrics too."""
    before = settled(lambda: _tokens(stack))
    with hanging(stack, "collector"):
        turns = _turns(stack)
        time.sleep(_ON_DISK_SECONDS)
        killed(stack, "app")
    _all_found(stack, turns)
    _risen(stack, before, turns)
