"""The Collector's queue or its disk is full: the service keeps its telemetry."""

import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

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
# In the debug log of a Collector.
_DROPPED = "Failed to dispatch item"
_NOT_SENT = re.compile(f"{_DROPPED}|(?i:drop|no more retries|permanent)")


@dataclass(frozen=True)
class _Loaded:
    """A Collector with too little space, and its load."""

    facts: dict[str, str]
    load: Load

    def refuses(self) -> bool:
        """Return whether a record was rejected by the queue and its sender notified."""
        return of_collector(self.facts, LOGS_THROUGH.enqueue_failed.prometheus) > 0


@dataclass(frozen=True)
class _Result:
    """What was lost; what the Collector said of items that it dropped or failed to send, and the
    load's process of its delivery."""

    account: Accounts
    collector: str
    load: str

    @property
    def dropped(self) -> bool:
        """Whether the Collector said that it dropped an item of its queue."""
        return _DROPPED in self.collector


@pytest.fixture(scope="module")
def results(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Result | str]:
    """Return both results of the same outage of Loki, or the reason why one is not available."""
    found: dict[str, _Result | str] = {}
    loaded: dict[str, _Loaded] = {}
    disk = tmp_path_factory.mktemp("disk")
    (disk / "collector").mkdir()
    logs = {name: disk / name for name in ("queue", "disk")}
    inside = (*_ON_A_FULL_DISK, str(disk / "collector"))
    tried = subprocess.run([*inside, "true"], check=False, capture_output=True, text=True)
    with ExitStack() as collectors:
        queue = tmp_path_factory.mktemp("queue")
        made = {
            "queue": collectors.enter_context(collector(stack, queue, _BOUND, log=logs["queue"]))
        }
        if tried.returncode:
            found["disk"] = f"no mount of our own: {tried.stderr.strip()}"
        else:
            beside = collector(stack, disk, inside=inside, apart=APART_FROM_BOTH, log=logs["disk"])
            made["disk"] = collectors.enter_context(beside)
        # Two streams, and Loki is killed before the loads begin: it may lose records of a stream
        # with two senders when it is killed (docs/reliability.md).
        with ExitStack() as loads, away(stack, "loki"):
            for name, facts in made.items():
                load = loads.enter_context(steady_load(facts, rate=_RATE, environment=name))
                loaded[name] = _Loaded(facts, load)
            for name, each in loaded.items():
                poll_until(each.refuses, f"no room in the {name}", _FULL_SECONDS)
            http_turn(stack.facts)
        for name, each in loaded.items():
            account = reconcile(each.facts, each.load, _PATIENCE_SECONDS)
            found[name] = _Result(account, _of_lost_items(logs[name]), each.load.console)
    return found


@pytest.mark.parametrize("room", ["queue", "disk"])
def test_items_rejected_by_a_full_queue_or_disk_are_not_lost(
    results: dict[str, _Result | str], room: str
) -> None:
    result = results[room]
    if isinstance(result, str):
        pytest.skip(result)
    account = result.account
    assert account.corrupted == 0, repr(result)
    # A Collector on a full disk drops what it cannot mark as read (docs/reliability.md, "Not
    # guaranteed").
    assert account.lost == 0 or (room == "disk" and result.dropped), repr(result)


def _of_lost_items(log: Path) -> str:
    """Return the first and the last lines that name items which are not sent."""
    lines = [line for line in log.read_text().splitlines() if _NOT_SENT.search(line)]
    lines.sort(key=lambda line: _DROPPED not in line)
    return "\n".join(line[:400] for line in (*lines[:10], *lines[-10:]))
