"""The ledger on a real stack: each created item is found once and intact."""

import os
import subprocess
import sys
import time

import pytest

import alerts.ledger
from ledger import item
from ledger.account import Accounts
from ledger.backends import reconcile
from ledger.load import LoadError, steady_load
from stack.facts import ROOT
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack

_SECONDS = 3.0
_NARROW = 80
# Sums exclude items of the last half minute, and components are scraped every quarter of one.
_SUMS_SECONDS = 90.0


@pytest.fixture(scope="module")
def accounts(stack: Stack) -> Accounts:
    """The values of one run."""
    with steady_load(stack.facts) as load:
        time.sleep(_SECONDS)
    return reconcile(stack.facts, load, PATIENCE_SECONDS)


def test_each_item_is_found_once_and_as_it_was_made(accounts: Accounts) -> None:
    assert accounts.difference == 0
    for account in accounts.all.values():
        assert account.found == account.sent >= item.PER_TRACE


def test_items_of_a_killed_process_are_known_and_the_next_one_continues(
    stack: Stack,
) -> None:
    with steady_load(stack.facts) as load:
        time.sleep(_SECONDS)
        before = load.pid
        load.kill()
        assert load.pid == 0
        killed_after = max(load.created)
        load.start()
        assert load.pid not in (0, before)
        time.sleep(_SECONDS)
    # A lost item never arrives.
    accounts = reconcile(stack.facts, load, patience=10.0)
    assert min(load.created) == 0
    assert load.uncertain == {killed_after}
    assert set(load.created) == set(range(max(load.created) + 1))
    assert accounts.duplicates == accounts.corrupted == 0
    # Only items that had not left the process when it was killed, no earlier or later ones.
    for account in (accounts.spans, accounts.logs):
        assert all(killed_after - 100 < number <= killed_after for number in account.lost_numbers)


def test_items_that_were_never_sent_are_reported_missing(stack: Stack) -> None:
    with steady_load(stack.facts) as load:
        time.sleep(_SECONDS)
    never_made = max(load.created) + 1
    load.created[never_made] = time.time_ns()
    accounts = reconcile(stack.facts, load, patience=1.0)
    assert accounts.spans.lost_numbers == accounts.logs.lost_numbers == (never_made,)
    assert accounts.increments.lost == 1


def test_load_that_cannot_start_says_why(stack: Stack) -> None:
    with pytest.raises(LoadError, match="invalid float"), steady_load(stack.facts, rate="x"):  # type: ignore[arg-type]
        pass


def test_command_shows_the_account_on_a_usual_terminal(stack: Stack) -> None:
    wanted = {name: text for name, text in stack.facts.items() if name.isupper()}
    done = subprocess.run(
        [sys.executable, "-m", "ledger"],
        cwd=ROOT,
        env={**os.environ, **wanted, "LEDGER_SECONDS": "2", "COLUMNS": str(_NARROW)},
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("spans", "log lines", "increments"):
        assert name in done.stdout
    assert all(len(line) <= _NARROW for line in done.stdout.splitlines())


def test_rules_count_the_items_at_each_hop(stack: Stack, accounts: Accounts) -> None:
    """Return the last value, because these sums are delayed."""
    [rules] = alerts.ledger.groups(interval="1m")
    steps = [rule for rule in rules["rules"] if "hop" in rule.get("labels", {})]
    assert {rule["labels"]["hop"] for rule in steps} == {"service", "wire", "collector", "store"}

    def counted() -> bool:
        for rule in steps:
            [sample] = stack.backends.prometheus(rule["expr"])
            assert sample.value >= accounts.spans.sent, rule["labels"]
        return True

    poll_until(counted, "the items in the sums of each hop", _SUMS_SECONDS)
