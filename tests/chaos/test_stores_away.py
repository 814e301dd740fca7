"""Backends and the Collector die or hang under a steady load: each item is found afterwards."""

import time
from collections.abc import Callable

from ledger.account import Accounts
from ledger.backends import reconcile
from ledger.load import steady_load
from tests.chaos.outages import away, hanging, killed, stopped
from tests.running import Stack
from tests.stack.turns import WAYS, http_turn

_STORES = ("tempo", "loki", "prometheus")
# Times of the Collector (otel-collector-config.yaml): after 15 s of retries their interval is 5 s,
# and one request to a backend may take 30 s. The duration of an outage affects nothing else but the
# size of the backlog on disk, which test_queue_full.py and bench.soak check.
_RETRIES_SECONDS = 16.0
_LONGEST_REQUEST_SECONDS = 33.0
_RATE = 50.0
# Afterwards the Collector delivers its backlog.
_PATIENCE_SECONDS = 120.0


def _account(stack: Stack, outage: Callable[[], object]) -> Accounts:
    """Check items created before, during and after the outage."""
    with steady_load(stack.facts, rate=_RATE) as load:
        http_turn(stack.facts)
        outage()
        http_turn(stack.facts)
    return reconcile(stack.facts, load, _PATIENCE_SECONDS)


def _answers_go_on(stack: Stack, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for way in WAYS.values():
            way(stack.facts)


def test_each_backend_that_is_killed_loses_nothing(stack: Stack) -> None:
    """One after another, so that the others continue; their first retries are seconds apart."""

    def outage() -> None:
        for store in _STORES:
            with away(stack, store):
                _answers_go_on(stack, seconds=4.0)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account


def test_parts_that_are_stopped_and_started_lose_nothing(stack: Stack) -> None:
    def outage() -> None:
        for part in (*_STORES, "collector"):
            with stopped(stack, part):
                http_turn(stack.facts)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account


def test_backends_that_hang_lose_nothing(stack: Stack) -> None:
    def outage() -> None:
        with hanging(stack, *_STORES):
            _answers_go_on(stack, _LONGEST_REQUEST_SECONDS)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account


def test_collector_killed_while_all_backends_are_down_loses_nothing(stack: Stack) -> None:
    """The backlog is on disk: the new Collector retries until the backends are back."""

    def outage() -> None:
        with away(stack, *_STORES):
            _answers_go_on(stack, _RETRIES_SECONDS)
            killed(stack, "collector")
            _answers_go_on(stack, _RETRIES_SECONDS)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account
