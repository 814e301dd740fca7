"""Stores and the Collector die or hang under a steady load: each item is found afterwards."""

from collections.abc import Callable

import pytest

from ledger.account import Accounts
from ledger.load import steady_load
from ledger.stores import reconcile
from tests.chaos.outages import away, hanging, killed, stopped
from tests.running import Stack
from tests.stack.turns import WAYS, http_turn

_STORES = ("tempo", "loki", "prometheus")
# Longer than a request to a store may take, and than the first retries.
_TURNS = 16
# Of two minutes in all.
_ROUNDS_OF_MINUTES = 4
_RATE = 100.0
# After minutes away the Collector works off what waits, which may take as long.
_PATIENCE_SECONDS = 240.0


def _account(stack: Stack, outage: Callable[[], object]) -> Accounts:
    """Of what was made before, during and after it."""
    with steady_load(stack.facts, rate=_RATE) as load:
        http_turn(stack.facts)
        outage()
        http_turn(stack.facts)
    return reconcile(stack.facts, load, _PATIENCE_SECONDS)


def _answers_go_on(stack: Stack) -> None:
    for _ in range(_TURNS // len(WAYS)):
        for way in WAYS.values():
            way(stack.facts)


@pytest.mark.parametrize("store", _STORES)
def test_store_that_is_killed_and_away_loses_nothing(stack: Stack, store: str) -> None:
    def outage() -> None:
        with away(stack, store):
            _answers_go_on(stack)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account


def test_parts_that_are_stopped_and_started_lose_nothing(stack: Stack) -> None:
    def outage() -> None:
        for part in (*_STORES, "collector"):
            with stopped(stack, part):
                http_turn(stack.facts)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account


def test_stores_that_hang_lose_nothing(stack: Stack) -> None:
    def outage() -> None:
        with hanging(stack, *_STORES):
            _answers_go_on(stack)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account


def test_collector_that_is_killed_while_all_stores_are_away_loses_nothing(stack: Stack) -> None:
    """For minutes; what waits for them is on disk."""

    def outage() -> None:
        with away(stack, *_STORES):
            for _ in range(_ROUNDS_OF_MINUTES):
                _answers_go_on(stack)
            killed(stack, "collector")
            for _ in range(_ROUNDS_OF_MINUTES):
                _answers_go_on(stack)

    account = _account(stack, outage)
    assert account.lost == account.corrupted == 0, account
