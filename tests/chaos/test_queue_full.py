"""The Collector's queue or its disk is full: the service keeps its telemetry."""

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from dashboards.others import LOGS_THROUGH
from ledger.account import Accounts
from ledger.backends import reconcile
from ledger.load import Load, steady_load
from stack.waiting import poll_until
from tests.chaos.outages import away
from tests.chaos.watching import of_collector
from tests.running import Stack
from tests.stack.collectors import BESIDE, collector
from tests.stack.turns import http_turn

# Full after a second or two of the load.
_BOUND = {"COLLECTOR_QUEUE_BYTES": "500000"}
_RATE = 200.0
_PATIENCE_SECONDS = 240.0
# On an overloaded machine the load creates its items much more slowly.
_FULL_SECONDS = 240.0
# 28 of 32 MB are used by another file.
_ON_A_FULL_DISK = (
    "unshare", "--mount", "--map-root-user", "sh", "-c",
    'mount -t tmpfs -o size=32m none "$0" && head -c 28M /dev/zero > "$0/others" && exec "$@"',
)  # fmt: skip
APART_FROM_BOTH = 2 * BESIDE


@dataclass(frozen=True)
class _Loaded:
    """A Collector with too little space, and its load."""

    facts: dict[str, str]
    load: Load

    def refuses(self) -> bool:
        """Return whether a record was rejected by the queue and its sender notified."""
        return of_collector(self.facts, LOGS_THROUGH.enqueue_failed.prometheus) > 0


@pytest.fixture(scope="module")
def accounts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Accounts | str]:
    """Return both results of the same outage of Loki, or the reason why one is not available."""
    found: dict[str, Accounts | str] = {}
    loaded: dict[str, _Loaded] = {}
    disk = tmp_path_factory.mktemp("disk")
    (disk / "collector").mkdir()
    inside = (*_ON_A_FULL_DISK, str(disk / "collector"))
    tried = subprocess.run([*inside, "true"], check=False, capture_output=True, text=True)
    with ExitStack() as collectors:
        queue = tmp_path_factory.mktemp("queue")
        made = {"queue": collectors.enter_context(collector(stack, queue, _BOUND))}
        if tried.returncode:
            found["disk"] = f"no mount of our own: {tried.stderr.strip()}"
        else:
            beside = collector(stack, disk, inside=inside, apart=APART_FROM_BOTH)
            made["disk"] = collectors.enter_context(beside)
        with ExitStack() as outage:
            for name, facts in made.items():
                load = outage.enter_context(steady_load(facts, rate=_RATE))
                loaded[name] = _Loaded(facts, load)
            outage.enter_context(away(stack, "loki"))
            for name, each in loaded.items():
                poll_until(each.refuses, f"no room in the {name}", _FULL_SECONDS)
            http_turn(stack.facts)
        for name, each in loaded.items():
            found[name] = reconcile(each.facts, each.load, _PATIENCE_SECONDS)
    return found


@pytest.mark.parametrize("room", ["queue", "disk"])
def test_items_rejected_by_a_full_queue_or_disk_are_not_lost(
    accounts: dict[str, Accounts | str], room: str
) -> None:
    account = accounts[room]
    if isinstance(account, str):
        pytest.skip(account)
    assert account.lost == account.corrupted == 0, account
