"""What a Collector that is away did not take, on disk: bounded, the oldest first.

One SQLite database a signal, which all processes of the service share: that is a queue that
survives SIGKILL, with locks between processes, for a table and two triggers. Libraries that make
queues of it (persist-queue, litequeue, diskcache) know no bound in bytes at which the oldest goes
and is counted. Its directory is on a local file system, and for one destination only.
"""

import fcntl
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

# Of another worker's write; this one's thread waits, no request does.
_BUSY_SECONDS: Final = 5.0
# What SQLite writes at least for a body.
_PAGE: Final = 4096
# Ten times smaller for 4 us a span, without the interpreter's lock; more takes longer.
_COMPRESSION: Final = 1
LONGEST_HOLD_SECONDS: Final = 300.0
SPOOL_FULL: Final = "spool_full"
SPOOL_BROKEN: Final = "spool_broken"

# A killed process loses nothing with any of these; NORMAL keeps the file sound when the machine
# dies, too, at one fsync for 1,000 pages, and may lose the last seconds then. The write-ahead log
# is cut to 4 MB when it starts anew.
_SCHEMA: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 4194304;
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL, held_until REAL NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS totals (items INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON batches BEGIN
    UPDATE totals SET items = items + new.items, bytes = bytes + new.bytes;
END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON batches BEGIN
    UPDATE totals SET items = items - old.items, bytes = bytes - old.bytes;
END;
"""
# By the SDK's logger name: shown on the console, never fed back into the exporters.
_log = logging.getLogger("opentelemetry.chatscope")

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """An encoded export request, and until when (wall clock) another process may be sending it."""

    number: int
    items: int
    held_until: float
    body: bytes


@dataclass(frozen=True)
class Waiting:
    """What is on disk now."""

    items: int = 0
    bytes: int = 0


class Spool:
    """One signal's batches on disk. No method raises: where the disk fails, each says that there
    is nothing, or that it could not; `lost` is told of items that are gone, and why."""

    def __init__(self, path: Path, max_bytes: int, lost: Callable[[int, str], None]) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lost = lost
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._lead: int | None = None
        self._told = False
        self._closed = False

    def append(self, body: bytes, items: int, hold_seconds: float = 0.0) -> int | None:
        """Keep a batch, dropping the oldest for it; its number, None where the disk fails.

        Nobody takes it out before `hold_seconds` have passed, LONGEST_HOLD_SECONDS at most, or
        `release`.
        """
        held_until = time.time() + min(hold_seconds, LONGEST_HOLD_SECONDS) if hold_seconds else 0.0
        packed = zlib.compress(body, _COMPRESSION)
        size = (len(packed) // _PAGE + 1) * _PAGE
        if size > self._max_bytes:
            self._lost(items, SPOOL_FULL)
            return 0

        def write(connection: sqlite3.Connection) -> tuple[int | None, int]:
            dropped = 0
            while _waiting(connection).bytes + size > self._max_bytes:
                dropped += _drop_oldest(connection)
            added = connection.execute(
                "INSERT INTO batches (items, bytes, held_until, body) VALUES (?, ?, ?, ?)",
                (items, size, held_until, packed),
            )
            return added.lastrowid, dropped

        failed: tuple[int | None, int] = (None, 0)
        number, dropped = self._write(write, failed)
        if dropped:
            self._lost(dropped, SPOOL_FULL)
        if number is not None:
            self._told = False
        return number

    def is_empty(self) -> bool:
        """Whether nothing waits, of any process."""
        query = "SELECT NOT EXISTS (SELECT 1 FROM batches)"
        return self._read(lambda connection: bool(connection.execute(query).fetchone()[0]), True)

    def oldest(self, after: int = 0) -> Batch | None:
        """The oldest batch, still kept; None when there is none behind number `after`."""
        row = self._read(lambda connection: _oldest(connection, after), None)
        if row is None:
            return None
        number, items, held_until, packed = row
        try:
            return Batch(number, items, held_until, zlib.decompress(packed))
        except zlib.error:
            if self.remove(number):
                self._lost(items, SPOOL_BROKEN)
            return self.oldest(number)

    def remove(self, number: int, *, all_before: bool = False) -> bool | None:
        """Forget a batch; False when it is not there any more, None where the disk fails."""
        which = "number <= ?" if all_before else "number = ?"

        def write(connection: sqlite3.Connection) -> bool:
            deleted = connection.execute(f"DELETE FROM batches WHERE {which}", (number,))  # noqa: S608
            return deleted.rowcount > 0

        return self._write(write, None)

    def release(self, number: int) -> None:
        """Whoever held a batch did not get it away."""
        release = "UPDATE batches SET held_until = 0 WHERE number = ?"
        self._write(lambda connection: connection.execute(release, (number,)).rowcount, 0)

    def waiting(self) -> Waiting:
        """How much there is, of all processes."""
        return self._read(_waiting, Waiting())

    def shrink(self) -> None:
        """Give the disk back what nothing uses."""

        # A script: `execute` takes one step, and this one page a step.
        script = "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);"
        self._read(lambda connection: connection.executescript(script), None)

    def lead(self) -> bool:
        """Whether it is this process that empties the spool: one of all, until it ends."""
        with self._lock:
            if self._lead is None and not self._closed:
                with suppress(OSError):
                    self._lead = self._take_lead()
            return self._lead is not None

    def close(self) -> None:
        """Let go of the files; what is on disk stays there."""
        with self._lock:
            self._closed = True
            self._disconnect()
            if self._lead is not None:
                os.close(self._lead)
                self._lead = None

    def _write(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        def transaction(connection: sqlite3.Connection) -> T:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)

        return self._read(transaction, otherwise)

    def _read(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        with self._lock:
            if self._closed:
                return otherwise
            try:
                return work(self._connected())
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                return otherwise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode == _inode(self._path):
            return self._connection
        # Another process may have set the file aside, or a person deleted it.
        self._disconnect()
        # Spans may carry what people wrote: nobody else's business.
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            self._connection = sqlite3.connect(
                self._path, _BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.executescript(_SCHEMA)
            self._inode = _inode(self._path)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _failed(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            with suppress(OSError):
                self._set_aside(error)
        elif not self._told:
            self._told = True
            _log.warning("%s cannot be used (%s): telemetry waits in memory", self._path, error)
        if code not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            self._disconnect()

    def _set_aside(self, error: Exception) -> None:
        """Begin a new file; one broken one is kept, for whoever wants to look."""
        items = self._items_of_broken()
        self._disconnect()
        with self._alone():
            if _inode(self._path) != self._inode and self._inode:
                return
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(f"{self._path}{suffix}", f"{self._path}.broken{suffix}")
        self._lost(items, SPOOL_BROKEN)
        _log.warning("%s is broken (%s) and set aside: %d lost", self._path, error, items)

    def _items_of_broken(self) -> int:
        """As far as it can be read; one at least, so that the loss is seen."""
        with suppress(sqlite3.Error):
            if self._connection is not None:
                return max(1, _waiting(self._connection).items)
        return 1

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process sets up, or sets aside, meanwhile."""
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _take_lead(self) -> int | None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The kernel lets go of it when the process ends, however it ends.
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock


def _waiting(connection: sqlite3.Connection) -> Waiting:
    return Waiting(*connection.execute("SELECT items, bytes FROM totals").fetchone())


def _oldest(connection: sqlite3.Connection, after: int) -> tuple[int, int, float, bytes] | None:
    row: tuple[int, int, float, bytes] | None = connection.execute(
        "SELECT number, items, held_until, body FROM batches WHERE number > ? ORDER BY number",
        (after,),
    ).fetchone()
    return row


def _drop_oldest(connection: sqlite3.Connection) -> int:
    oldest = "SELECT min(number) FROM batches"
    dropped = connection.execute(
        f"DELETE FROM batches WHERE number = ({oldest}) RETURNING items"  # noqa: S608
    ).fetchall()
    return sum(items for (items,) in dropped)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
