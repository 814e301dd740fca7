"""What cannot wait in the Collector waits in the service: its queue is full, or the disk is."""

import subprocess
from pathlib import Path

import pytest

from dashboards.others import LOGS_THROUGH
from ledger.load import steady_load
from ledger.stores import reconcile
from stack.waiting import poll_until
from tests.chaos.outages import away
from tests.chaos.watching import of_collector
from tests.running import Stack
from tests.stack.collectors import collector
from tests.stack.turns import http_turn

# Full after a second or two of the load.
_QUEUE_BYTES = 500_000
_RATE = 200.0
_FULL_SECONDS = 60.0
_PATIENCE_SECONDS = 90.0
# Of 32 MB somebody else has taken 28.
_ON_A_FULL_DISK = (
    "unshare", "--mount", "--map-root-user", "sh", "-c",
    'mount -t tmpfs -o size=32m none "$0" && head -c 28M /dev/zero > "$0/others" && exec "$@"',
)  # fmt: skip


def _turned_away(facts: dict[str, str]) -> bool:
    """Whether a record did not come into the queue; who sent it was told."""
    return of_collector(facts, LOGS_THROUGH.enqueue_failed.prometheus) > 0


def _nothing_is_lost(stack: Stack, facts: dict[str, str]) -> None:
    with steady_load(facts, rate=_RATE) as load, away(stack, "loki"):
        poll_until(lambda: _turned_away(facts), "a full queue", _FULL_SECONDS)
        http_turn(stack.facts)
    account = reconcile(facts, load, _PATIENCE_SECONDS)
    assert account.lost == account.corrupted == 0, account


def test_what_a_full_queue_refuses_is_not_lost(stack: Stack, tmp_path: Path) -> None:
    bound = {"COLLECTOR_QUEUE_BYTES": str(_QUEUE_BYTES)}
    with collector(stack, tmp_path, bound) as beside:
        _nothing_is_lost(stack, beside)


def test_what_a_full_disk_refuses_is_not_lost(stack: Stack, tmp_path: Path) -> None:
    place = tmp_path / "collector"
    place.mkdir()
    inside = (*_ON_A_FULL_DISK, str(place))
    tried = subprocess.run([*inside, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mount of our own: {tried.stderr.strip()}")
    with collector(stack, tmp_path, inside=inside) as beside:
        _nothing_is_lost(stack, beside)
