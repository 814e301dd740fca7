"""What waits on disk: bounded, in order, whole after a kill, shared by processes."""

import os
import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.telemetry.spool import SPOOL_BROKEN, SPOOL_FULL, Spool, Waiting

_LARGE = 1024 * 1024
_PAGE = 4096


class _Spools:
    """Spools on one file, as several processes have them, and what they said was lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost: Counter[str] = Counter()
        self._opened: list[Spool] = []

    def open(self, max_bytes: int = _LARGE) -> Spool:
        spool = Spool(self.path, max_bytes, self._count)
        self._opened.append(spool)
        return spool

    def close(self) -> None:
        for spool in self._opened:
            spool.close()

    def _count(self, items: int, reason: str) -> None:
        self.lost[reason] += items


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[_Spools]:
    spools = _Spools(tmp_path / "new" / "spans.db")
    yield spools
    spools.close()


def _bodies(spool: Spool) -> list[bytes]:
    found = []
    while batch := spool.oldest():
        found.append(batch.body)
        assert spool.remove(batch.number) is True
    return found


def test_batches_come_out_as_they_went_in(spools: _Spools) -> None:
    spool = spools.open()
    for number in range(20):
        assert spool.append(b"%d" % number, items=3)
    assert spool.waiting() == Waiting(items=60, bytes=20 * _PAGE)
    assert _bodies(spool) == [b"%d" % number for number in range(20)]
    assert spool.is_empty()
    assert spool.waiting() == Waiting()


def test_what_one_process_wrote_another_reads(spools: _Spools) -> None:
    """Without an end of the first: as if it had been killed."""
    spools.open().append(b"first", items=1)
    second = spools.open()
    assert second.is_empty() is False
    second.append(b"second", items=1)
    assert _bodies(second) == [b"first", b"second"]


def test_at_the_bound_the_oldest_are_dropped_and_counted(spools: _Spools) -> None:
    spool = spools.open(max_bytes=5 * _PAGE)
    for number in range(8):
        spool.append(b"%d" % number, items=10)
    assert spools.lost == {SPOOL_FULL: 30}
    assert _bodies(spool) == [b"3", b"4", b"5", b"6", b"7"]


def test_batch_larger_than_the_bound_is_counted_and_drops_nothing_else(spools: _Spools) -> None:
    spool = spools.open(max_bytes=2 * _PAGE)
    spool.append(b"small", items=1)
    incompressible = os.urandom(4 * _PAGE)
    assert spool.append(incompressible, items=7) is not None
    assert spools.lost == {SPOOL_FULL: 7}
    assert _bodies(spool) == [b"small"]


def test_file_stays_within_its_bound_and_is_given_back(spools: _Spools) -> None:
    spool = spools.open(max_bytes=_LARGE)
    body = os.urandom(10_000)
    for _ in range(500):
        spool.append(body, items=1)
    # Whole pages, and those of the index.
    assert spools.path.stat().st_size < 1.2 * _LARGE
    assert spools.lost[SPOOL_FULL] > 300
    _bodies(spool)
    spool.shrink()
    assert spools.path.stat().st_size < 20 * _PAGE


def test_removed_twice_is_said(spools: _Spools) -> None:
    spool = spools.open()
    number = spool.append(b"x", items=1)
    assert number is not None
    assert spool.remove(number) is True
    assert spool.remove(number) is False


def test_one_process_leads_until_it_ends(spools: _Spools) -> None:
    first, second = spools.open(), spools.open()
    assert first.lead()
    assert not second.lead()
    assert first.lead()
    first.close()
    assert second.lead()


def test_process_that_shows_no_life_is_replaced(
    spools: _Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the wall clock does: suspended for longer than the lease, or dead."""
    first, second = spools.open(), spools.open()
    assert first.lead()
    assert not second.lead()
    seconds = [0.0]
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + seconds[0])
    monkeypatch.setattr(time, "time", lambda: 0.0)
    for later in (4.0, 8.0, 12.0):
        seconds[0] = later
        assert first.lead()
        assert not second.lead()
    seconds[0] = 16.0
    assert not second.lead()
    seconds[0] = 18.0
    # It has taken over, and gives the first time to remove what it has sent.
    assert not second.lead()
    assert not first.lead()
    seconds[0] = 19.5
    assert second.lead()
    assert not first.lead()


def test_forked_process_leaves_the_spool_alone(spools: _Spools) -> None:
    spool = spools.open()
    spool.append(b"before", items=1)
    if (child := os.fork()) == 0:
        os._exit(spool.is_empty() and spool.append(b"child", items=1) is None)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    spool.append(b"after", items=1)
    assert _bodies(spool) == [b"before", b"after"]


def test_batch_with_values_of_another_kind_is_counted_and_passed_over(spools: _Spools) -> None:
    spool = spools.open()
    for number in range(1, 5):
        spool.append(b"%d" % number, items=2)
    with sqlite3.connect(spools.path) as connection:
        connection.execute("UPDATE batches SET body = 'text' WHERE number = 1")
        connection.execute("UPDATE batches SET items = 'many' WHERE number = 2")
        connection.execute("UPDATE batches SET held_until = 'later' WHERE number = 3")
    connection.close()
    assert _bodies(spool) == [b"4"]
    assert spools.lost == {SPOOL_BROKEN: 2 + 1 + 2}


def test_dead_letters_are_bounded(spools: _Spools) -> None:
    spool = spools.open(max_bytes=16 * _PAGE)
    for _ in range(4):
        number = spool.append(b"refused", items=3)
        assert number is not None
        assert spool.set_aside(number, "UNAVAILABLE") == 3
        assert spool.set_aside(number, "UNAVAILABLE") == 0
    assert spool.is_empty()
    with sqlite3.connect(spools.path) as connection:
        kept = connection.execute("SELECT number FROM dead_letters").fetchall()
    connection.close()
    assert kept == [(3,), (4,)]


def test_held_batch_says_until_when(spools: _Spools) -> None:
    spool = spools.open()
    number = spool.append(b"x", items=1, hold_seconds=60)
    assert number is not None
    batch = spool.oldest()
    assert batch
    assert batch.held_until > 0
    spool.release(number)
    batch = spool.oldest()
    assert batch
    assert batch.held_until == 0


def test_broken_file_is_set_aside_and_counted(
    spools: _Spools, caplog: pytest.LogCaptureFixture
) -> None:
    spools.path.parent.mkdir()
    spools.path.write_bytes(b"no database at all" * 1000)
    spool = spools.open()
    assert spool.append(b"lost", items=1) is None
    assert spools.lost == {SPOOL_BROKEN: 1}
    assert "set aside" in caplog.text
    assert spool.append(b"kept", items=1)
    assert _bodies(spool) == [b"kept"]
    assert spools.path.with_name("spans.db.broken").exists()


def test_file_that_breaks_in_use_is_set_aside_once(spools: _Spools) -> None:
    first, second = spools.open(), spools.open()
    for spool in (first, second):
        spool.append(b"x" * 10, items=5)
    first.shrink()
    content = spools.path.read_bytes()
    with spools.path.open("r+b") as file:
        file.write(b"\xff" * len(content))
    for spool in (first, second):
        spool.append(b"y", items=1)
    assert first.append(b"first", items=1)
    assert second.append(b"second", items=1)
    assert set(spools.lost) == {SPOOL_BROKEN}
    assert _bodies(first)[-2:] == [b"first", b"second"]


def test_file_set_aside_by_another_process_meanwhile_is_left_alone(
    spools: _Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = spools.open(), spools.open()
    for spool in (first, second):
        spool.append(b"x", items=5)
    first.shrink()
    with spools.path.open("r+b") as file:
        file.write(b"\xff" * spools.path.stat().st_size)

    def faster() -> int:
        first.append(b"sets it aside", items=1)
        first.append(b"in the new one", items=1)
        return 10

    monkeypatch.setattr(second, "_items_of_broken", faster)
    second.append(b"meets the broken one", items=1)
    assert second.append(b"after it", items=1)
    assert _bodies(first) == [b"in the new one", b"after it"]


def test_broken_batch_is_counted_and_passed_over(spools: _Spools) -> None:
    spool = spools.open()
    spool.append(b"broken", items=4)
    spool.append(b"sound", items=1)
    with sqlite3.connect(spools.path) as connection:
        connection.execute("UPDATE batches SET body = x'00' WHERE number = 1")
    connection.close()
    assert _bodies(spool) == [b"sound"]
    assert spools.lost == {SPOOL_BROKEN: 4}


def test_directory_that_cannot_be_made_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    spools = _Spools(tmp_path / "file" / "spans.db")
    spool = spools.open()
    assert spool.append(b"x", items=1) is None
    assert spool.append(b"x", items=1) is None
    assert spool.oldest() is None
    assert spool.is_empty()
    assert not spool.lead()
    assert caplog.text.count("telemetry waits in memory") == 1
    assert not spools.lost


def test_full_disk_keeps_what_is_there(spools: _Spools) -> None:
    spool = spools.open()
    spool.append(b"before", items=1)
    body = os.urandom(100_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert spool.append(body, items=1) is None
        batch = spool.oldest()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert batch
    assert batch.body == b"before"
    assert spool.append(b"after", items=1)
    assert _bodies(spool) == [b"before", b"after"]
    assert not spools.lost


def test_deleted_directory_is_made_again(spools: _Spools) -> None:
    spool = spools.open()
    spool.append(b"x", items=1)
    for path in spools.path.parent.iterdir():
        path.unlink()
    spools.path.parent.rmdir()
    assert spool.append(b"y", items=1)
    assert _bodies(spool) == [b"y"]


def test_threads_and_processes_lose_and_double_nothing(spools: _Spools) -> None:
    def write(spool: Spool, name: str) -> None:
        for number in range(50):
            assert spool.append(f"{name} {number}".encode(), items=1)

    threads = [threading.Thread(target=write, args=(spools.open(), f"{name}")) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = _bodies(spools.open())
    assert len(found) == len(set(found)) == 200
    for name in range(4):
        own = [body for body in found if body.startswith(b"%d " % name)]
        assert own == [b"%d %d" % (name, number) for number in range(50)]


def test_nobody_else_may_look_into_it(spools: _Spools) -> None:
    spools.open().append(b"x", items=1)
    assert spools.path.parent.stat().st_mode & 0o077 == 0
