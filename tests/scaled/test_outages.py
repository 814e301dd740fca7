"""Components of the scaled stack are killed under load: no item is lost."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from ledger.backends import reconcile
from ledger.load import steady_load
from stack import supervisor
from stack.waiting import poll_until
from tests.chaos.outages import hanging
from tests.running import PATIENCE_SECONDS, Stack

_RATE = 50.0
# Longer than the first retries, whose intervals are milliseconds.
_AWAY_SECONDS = 5.0
_BEFORE_SECONDS = 2.0


# Longer than a request to a backend may take.
_HANGS_SECONDS = 40.0
# A counter is exported each second.
_LONGEST_GAP_SECONDS = 3.0


@pytest.mark.parametrize(
    "part", ["gateway-1", "kafka", "writer-1", "loki-write", "receive-1", "s3", "agent-2"]
)
def test_killed_component_loses_nothing(stack: Stack, part: str) -> None:
    def outage() -> None:
        os.kill(_pid(stack, part), signal.SIGKILL)
        _away(stack, part)

    _loses_nothing(stack, outage, of_agent=part == "agent-2")


@pytest.mark.parametrize("part", ["gateway-2", "writer-2"])
def test_stopped_component_loses_nothing(stack: Stack, part: str) -> None:
    _loses_nothing(stack, lambda: _away(stack, part))


@pytest.mark.parametrize("part", ["receive-1", "writer-1"])
def test_component_that_hangs_loses_nothing(stack: Stack, part: str) -> None:
    def outage() -> None:
        with hanging(stack, part):
            time.sleep(_HANGS_SECONDS)

    _loses_nothing(stack, outage)


def _away(stack: Stack, part: str) -> None:
    """Stop a component by SIGTERM, unless it is dead, and start it again."""
    supervisor.stop_part(stack.facts["STATE_DIR"], part)
    time.sleep(_AWAY_SECONDS)
    supervisor.start_part(stack.facts["STATE_DIR"], part)
    _pid(stack, part)


def _loses_nothing(stack: Stack, outage: Callable[[], None], *, of_agent: bool = False) -> None:
    facts = stack.facts
    with ExitStack() as loads:
        running = [
            loads.enter_context(steady_load({**facts, "OTLP_URL": facts[agent]}, rate=_RATE))
            for agent in ("OTLP_URL", "AGENT2_URL")
        ]
        time.sleep(_BEFORE_SECONDS)
        outage()
        time.sleep(_BEFORE_SECONDS)
    for load in running:
        accounts = reconcile(facts, load, PATIENCE_SECONDS)
        assert accounts.lost == accounts.corrupted == 0, accounts
        # A later sample of a counter would hide that others were lost. Without their agent,
        # processes export none.
        assert of_agent or accounts.gap is None or accounts.gap <= _LONGEST_GAP_SECONDS, accounts


def _pid(stack: Stack, part: str) -> int:
    return poll_until(lambda: stack.pid(part), f"{part} to have a process", PATIENCE_SECONDS)
