"""The spool keeps batches on disk: private, bounded, shared by processes, whatever the file is."""

import os
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatscope.otlp.spool import (
    DEAD_LETTERS_FULL,
    SPOOL_BROKEN,
    SPOOL_FULL,
    Backlog,
    Spool,
)


class _Lost(Counter[str]):
    def count(self, items: int, reason: str) -> None:
        self[reason] += items


@pytest.fixture
def lost() -> _Lost:
    return _Lost()


@pytest.fixture
def spool(tmp_path: Path, lost: _Lost) -> Iterator[Spool]:
    spool = _open(tmp_path / "spool" / "spans.db", lost)
    yield spool
    spool.close()


def _open(path: Path | None, lost: _Lost, max_bytes: int = 1_000_000) -> Spool:
    return Spool(path, max_bytes, lost.count, lambda kind, message: None)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_batches_are_claimed_oldest_first_and_once(spool: Spool) -> None:
    for body in (b"one", b"two"):
        spool.append(body, 3)

    first, second = spool.claim(10), spool.claim(10)

    assert first
    assert second
    assert (first.body, first.items, second.body) == (b"one", 3, b"two")
    assert spool.claim(10) is None
    assert spool.remove(first.number) is True
    assert spool.remove(first.number) is False
    assert spool.backlog() == Backlog(3, 4096, 0)


def test_a_claim_ends_by_itself_so_a_dead_process_blocks_nobody(
    spool: Spool, tmp_path: Path, lost: _Lost
) -> None:
    spool.append(b"one", 1)
    assert spool.claim(0.2)
    other = _open(tmp_path / "spool" / "spans.db", lost)

    assert other.claim(10) is None
    time.sleep(0.25)

    assert other.claim(10)
    other.close()


def test_closing_releases_what_was_claimed(spool: Spool, tmp_path: Path, lost: _Lost) -> None:
    spool.append(b"one", 1, claim_seconds=100)
    other = _open(tmp_path / "spool" / "spans.db", lost)
    assert other.claim(10) is None

    spool.close()

    assert other.claim(10)
    other.close()


def test_a_claim_far_in_the_future_counts_as_ended_after_the_clock_was_set_back(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(b"one", 1, claim_seconds=100)
    now = time.time()
    monkeypatch.setattr("chatscope.otlp.spool.time.time", lambda: now - 3600)

    assert spool.claim(10)


def test_a_released_batch_is_due_after_its_delay(spool: Spool) -> None:
    spool.append(b"one", 1)
    batch = spool.claim(10)
    assert batch

    spool.release(batch.number, delay=0.2, attempts=1)

    assert spool.claim(10) is None
    time.sleep(0.25)
    again = spool.claim(10)
    assert again
    assert again.attempts == 1


def test_the_oldest_batches_are_dropped_and_counted_when_the_spool_is_full(
    tmp_path: Path, lost: _Lost
) -> None:
    spool = _open(tmp_path / "spans.db", lost, max_bytes=3 * 4096)
    for number in range(5):
        spool.append(bytes([number]), 2)

    claimed = spool.claim(10)

    assert claimed
    assert claimed.body == b"\2"
    assert lost == {SPOOL_FULL: 4}
    spool.close()


def test_a_batch_larger_than_the_spool_is_lost_alone(spool: Spool, lost: _Lost) -> None:
    spool.append(b"one", 1)

    assert spool.append(os.urandom(2_000_000), 7) == 0

    assert lost == {SPOOL_FULL: 7}
    assert spool.claim(10)


def test_dead_letters_are_listed_bounded_and_counted(tmp_path: Path, lost: _Lost) -> None:
    spool = _open(tmp_path / "spans.db", lost, max_bytes=20 * 4096)
    for number in range(3):
        batch_number = spool.append(bytes([number]), 2)
        assert batch_number
        assert spool.set_aside(batch_number, "INVALID_ARGUMENT: no")

    backlog = spool.backlog()

    assert backlog == Backlog(0, 0, 4)
    assert lost == {DEAD_LETTERS_FULL: 2}
    assert spool.set_aside(1, "gone already") is False
    spool.close()


def test_files_are_private_under_any_umask_and_in_a_directory_that_others_may_read(
    tmp_path: Path, lost: _Lost
) -> None:
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    path = directory / "spans.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    before = os.umask(0)
    try:
        spool = _open(path, lost)
        spool.append(b"one", 1)
        modes = {each.name: _mode(each) for each in directory.iterdir()}
        spool.close()
    finally:
        os.umask(before)

    assert set(modes) >= {"spans.db", "spans.db-wal"}
    assert set(modes.values()) == {0o600}


def test_a_directory_that_is_made_is_private(spool: Spool, tmp_path: Path) -> None:
    spool.append(b"one", 1)

    assert _mode(tmp_path / "spool") == 0o700


@pytest.mark.parametrize(
    "content",
    [b"this is not a database", b"", b"SQLite format 3\0" + b"\xff" * 4096],
    ids=["text", "empty", "broken"],
)
def test_a_file_that_cannot_be_read_is_set_aside_and_the_spool_goes_on(
    tmp_path: Path, lost: _Lost, content: bytes
) -> None:
    path = tmp_path / "spans.db"
    path.write_bytes(content)
    spool = _open(path, lost)
    spool.append(b"lost or kept", 1)

    assert spool.append(b"kept", 1)

    assert spool.claim(10)
    if content:
        assert path.with_name("spans.db.broken").read_bytes() == content
        assert lost[SPOOL_BROKEN] == 1
    spool.close()


@pytest.mark.parametrize("version", [0, 1, 99])
def test_a_database_of_something_else_is_set_aside(
    tmp_path: Path, lost: _Lost, version: int
) -> None:
    path = tmp_path / "spans.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            f"CREATE TABLE batches (something TEXT); PRAGMA user_version = {version};"
        )
    connection.close()
    spool = _open(path, lost)
    spool.append(b"one", 1)

    assert spool.append(b"two", 1)

    assert path.with_name("spans.db.broken").exists()
    assert lost == {SPOOL_BROKEN: 1}
    spool.close()


def test_a_file_of_the_first_release_is_migrated(tmp_path: Path, lost: _Lost) -> None:
    path = tmp_path / "spans.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE batches (number INTEGER PRIMARY KEY AUTOINCREMENT, items INTEGER NOT NULL,
                bytes INTEGER NOT NULL, held_until REAL NOT NULL, body BLOB NOT NULL);
            CREATE TABLE totals (items INTEGER NOT NULL, bytes INTEGER NOT NULL);
            CREATE TRIGGER added AFTER INSERT ON batches BEGIN
                UPDATE totals SET items = items + new.items; END;
            """
        )
        # Its table of totals is empty: nothing must depend on it.
        import zlib  # noqa: PLC0415

        for body in (b"one", b"two"):
            row = (5, 4096, 0.0, zlib.compress(body))
            connection.execute(
                "INSERT INTO batches (items, bytes, held_until, body) VALUES (?, ?, ?, ?)", row
            )
    connection.close()
    spool = _open(path, lost)

    assert spool.backlog() == Backlog(10, 8192, 0)
    claimed = spool.claim(10)

    assert claimed
    assert claimed.body == b"one"
    assert not lost
    spool.close()


def test_a_file_that_was_deleted_is_made_anew(spool: Spool, tmp_path: Path) -> None:
    spool.append(b"one", 1)
    for path in (tmp_path / "spool").iterdir():
        path.unlink()

    assert spool.append(b"two", 1)

    claimed = spool.claim(10)
    assert claimed
    assert claimed.body == b"two"


def test_a_directory_in_the_place_of_the_file_is_no_exception(tmp_path: Path, lost: _Lost) -> None:
    (tmp_path / "spans.db").mkdir()
    spool = _open(tmp_path / "spans.db", lost)

    assert spool.append(b"one", 1) is None
    assert spool.claim(10) is None
    assert spool.backlog() is None
    spool.close()


def test_a_batch_that_cannot_be_unpacked_is_counted_and_skipped(
    spool: Spool, tmp_path: Path, lost: _Lost
) -> None:
    spool.append(b"one", 4)
    spool.append(b"two", 1)
    with sqlite3.connect(tmp_path / "spool" / "spans.db") as connection:
        connection.execute("UPDATE batches SET body = x'00ff' WHERE number = 1")
    connection.close()

    claimed = spool.claim(10)

    assert claimed
    assert claimed.body == b"two"
    assert lost == {SPOOL_BROKEN: 4}


def test_one_process_reports_the_backlog_and_another_when_it_has_stopped(
    spool: Spool, tmp_path: Path, lost: _Lost
) -> None:
    other = _open(tmp_path / "spool" / "spans.db", lost)

    assert spool.report(0.2)
    assert not other.report(0.2)
    assert spool.report(0.2)
    time.sleep(0.25)

    assert other.report(0.2)
    other.close()


def test_the_memory_spool_keeps_the_same_promises(lost: _Lost) -> None:
    spool = _open(None, lost, max_bytes=2 * 4096)
    for number in range(3):
        spool.append(bytes([number]), 1)

    claimed = spool.claim(10)

    assert claimed
    assert claimed.body == b"\1"
    assert lost == {SPOOL_FULL: 1}
    assert spool.report(1)
    spool.close()
