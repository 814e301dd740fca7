"""Components of the scaled stack are killed under load: no item is lost."""

import os
import signal
import time
from contextlib import ExitStack

import pytest

from ledger.backends import reconcile
from ledger.load import steady_load
from stack import supervisor
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack

_RATE = 50.0
# Longer than the first retries, whose intervals are milliseconds.
_AWAY_SECONDS = 5.0
_BEFORE_SECONDS = 2.0


@pytest.mark.parametrize(
    "part", ["gateway-1", "kafka", "writer-1", "loki-write", "receive-1", "s3", "agent-2"]
)
def test_killed_component_loses_nothing(stack: Stack, part: str) -> None:
    facts = stack.facts
    with ExitStack() as loads:
        running = [
            loads.enter_context(steady_load({**facts, "OTLP_URL": facts[agent]}, rate=_RATE))
            for agent in ("OTLP_URL", "AGENT2_URL")
        ]
        time.sleep(_BEFORE_SECONDS)
        os.kill(_pid(stack, part), signal.SIGKILL)
        supervisor.stop_part(facts["STATE_DIR"], part)
        time.sleep(_AWAY_SECONDS)
        supervisor.start_part(facts["STATE_DIR"], part)
        _pid(stack, part)
        time.sleep(_BEFORE_SECONDS)
    for load in running:
        accounts = reconcile(facts, load, PATIENCE_SECONDS)
        assert accounts.lost == accounts.corrupted == 0, accounts


def _pid(stack: Stack, part: str) -> int:
    return poll_until(lambda: stack.pid(part), f"{part} to have a process", PATIENCE_SECONDS)
