"""The clock of one service steps forward and back, also during responses."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatscope import names
from stack.waiting import poll_until
from tests.chaos.service import Service, service, value
from tests.chaos.watching import lines_discarded, lines_of, points_given_up
from tests.clocks import LIBRARY, RIGHT, SteppedClock
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import WAYS, Turn, sse_turn

_STEPS = ("+2h", "-2h", RIGHT)
# During a response of the simulated model, which takes about 0.75 s.
_MIDDLE_SECONDS = 0.4
# Longer than all responses here together, shorter than any step.
_HOUR = 3600.0


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
def test_telemetry_of_a_service_whose_clock_steps_is_kept_or_counted(
    stack: Stack, tmp_path: Path
) -> None:
    clock = SteppedClock(tmp_path)
    lines_before, points_before = _lines_ahead(stack), points_given_up(stack.facts)
    given: list[Turn] = []
    with service(stack, tmp_path, **clock.environ) as one, ThreadPoolExecutor() as pool:
        for step in _STEPS:
            given += [way(one.facts) for way in WAYS.values()]
            under_way = pool.submit(sse_turn, one.facts)
            time.sleep(_MIDDLE_SECONDS)
            clock.step(step)
            given.append(under_way.result())
        given += [way(one.facts) for way in WAYS.values()]

        def told() -> bool:
            refused = _lines_ahead(stack) - lines_before
            created = value(stack, names.LOG_METRICS.created.prometheus, one)
            assert lines_of(stack, one.name) + refused == created
            wanted = sum(turn.prompt_tokens + turn.completion_tokens for turn in given)
            assert value(stack, names.LLM_TOKEN_USAGE.prometheus, one) == wanted
            return True

        poll_until(told, "lines and tokens of all answers", PATIENCE_SECONDS)
        # An export whose metrics arrive one after the other may be in progress.
        poll_until(lambda: _durations_of_seconds(stack, one), "the durations", PATIENCE_SECONDS)
    assert points_given_up(stack.facts) > points_before
    for turn in given:
        poll_until(
            lambda: stack.backends.tempo_trace(turn.trace_id),  # noqa: B023
            f"trace {turn.trace_id}",
            PATIENCE_SECONDS,
        )


def _durations_of_seconds(stack: Stack, one: Service) -> bool:
    """Return the time of another clock, which does not step."""
    for metric in (names.CLIENT_INFERENCE_DURATION, names.HTTP_REQUEST_DURATION):
        seconds = value(stack, f"{metric.prometheus}_sum", one)
        assert 0 < seconds < _HOUR, f"{metric.name}: {seconds} s"
    return True


def _lines_ahead(stack: Stack) -> float:
    return lines_discarded(stack.facts, "too_far_in_future")
