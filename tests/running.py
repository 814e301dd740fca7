"""The running stack, for tests."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from stack.backends import Backends
from stack.base import Stack as RunningStack

# Longer than any step takes on a busy machine.
PATIENCE_SECONDS = 120.0
# Metrics are exported every second: a value that is constant for three seconds is final.
_STILL_SECONDS = 3.0

T = TypeVar("T")


@dataclass(frozen=True)
class Stack:
    """The facts of a running stack, clients of its backends, and the way it runs."""

    facts: dict[str, str]
    backends: Backends
    running: RunningStack

    def pid(self, part: str) -> int:
        """Return the component's process ID on this machine; 0 while it has none."""
        state = self.running.states().get(part)
        return state.pid if state and state.running else 0

    def counted(self, series: str) -> float:
        """Return the sum of a counter over all of its series, including ended processes."""
        found = self.backends.prometheus(f"sum(max_over_time({series}[1h]))")
        return sum(sample.value for sample in found)


def tempo_otlp(facts: Mapping[str, str]) -> str:
    """Return Tempo's address for spans, in the form of `ledger.otlp`."""
    return facts["TEMPO_OTLP_ENDPOINT"].replace("unix://", "unix:")


def settled(read: Callable[[], T]) -> T:
    """Return the value of `read` once the traffic of earlier tests has arrived."""
    value, since = read(), time.monotonic()
    started = since
    while time.monotonic() - since < _STILL_SECONDS:
        time.sleep(0.1)
        latest = read()
        if latest != value:
            value, since = latest, time.monotonic()
        assert since - started < PATIENCE_SECONDS, "somebody else uses the service meanwhile"
    return value
