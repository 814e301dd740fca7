"""The running stack, as tests see it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from stack.backends import Backends
from stack.base import Stack as RunningStack

# Longer than anything takes on a machine that has much else to do.
PATIENCE_SECONDS = 60.0
# Metrics leave each second: what stood still for three has nothing of the past to come.
_STILL_SECONDS = 3.0

T = TypeVar("T")


@dataclass(frozen=True)
class Stack:
    """The facts of a running stack, clients of its stores, and the way in which it runs."""

    facts: dict[str, str]
    backends: Backends
    running: RunningStack

    def pid(self, part: str) -> int:
        """The part's process on this machine; 0 while it has none."""
        state = self.running.states().get(part)
        return state.pid if state and state.running else 0

    def counted(self, series: str) -> float:
        """The sum of a counter over all of its series, also of processes that have ended."""
        found = self.backends.prometheus(f"sum(max_over_time({series}[1h]))")
        return sum(sample.value for sample in found)


def tempo_otlp(facts: Mapping[str, str]) -> str:
    """Where Tempo gets spans, as `ledger.otlp` takes it."""
    return facts["TEMPO_OTLP_ENDPOINT"].replace("unix://", "unix:")


def settled(read: Callable[[], T]) -> T:
    """What `read` says when the traffic of earlier tests has arrived."""
    value, since = read(), time.monotonic()
    started = since
    while time.monotonic() - since < _STILL_SECONDS:
        time.sleep(0.1)
        latest = read()
        if latest != value:
            value, since = latest, time.monotonic()
        assert since - started < PATIENCE_SECONDS, "somebody else uses the service meanwhile"
    return value
