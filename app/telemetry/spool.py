"""What the Collector did not accept, on disk: bounded, the oldest first.

One SQLite database a signal, which all processes of the service share: that is a queue that
survives SIGKILL, with locks between processes, for a table and an index. Libraries that make
queues of it (persist-queue, litequeue, diskcache) know no bound in bytes at which the oldest goes
and is counted. Its directory is on a local file system, and for one destination only.
"""

import os
import sqlite3
import threading
import time
import uuid
import weakref
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from . import spool_file
from .guard import Warnings
from .spool_file import LockedError, SchemaError

# Of another worker's write; this one's thread waits, no request does.
_BUSY_SECONDS: Final = 5.0
# What SQLite writes at least for a body.
_PAGE: Final = 4096
# Ten times smaller for 4 us a span, without the interpreter's lock; more takes longer.
_COMPRESSION: Final = 1
LONGEST_HOLD_SECONDS: Final = 300.0
# How often the process that empties the spool shows that it is alive, and for how long the others
# wait for that before one takes over.
_BEAT_SECONDS: Final = 1.0
_LEASE_SECONDS: Final = 5.0
# After that, one that only could not write has time to remove what it has sent.
_GRACE_SECONDS: Final = 1.0
# Dead letters may take an eighth of what the batches may.
_DEAD_LETTERS_SHARE: Final = 8
SPOOL_FULL: Final = "spool_full"
SPOOL_BROKEN: Final = "spool_broken"
_NOBODY: Final = ""
_NEVER: Final = float("-inf")

_inherited: list[sqlite3.Connection] = []

T = TypeVar("T")
_Lease = tuple[str, int]
_Row = tuple[int, object, object, object]  # nobody knows what is in a file


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
    """One signal's batches on disk. No method raises: where the disk fails, each returns that
    there is nothing, or that it could not; `lost` is called with items that are gone, and why."""

    def __init__(self, path: Path, max_bytes: int, lost: Callable[[int, str], None]) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lost = lost
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._busy_seconds = _BUSY_SECONDS
        self._owner = uuid.uuid4().hex
        self._beaten = _NEVER
        self._seen: _Lease = (_NOBODY, 0)
        self._seen_at = _NEVER
        self._leads_from = _NEVER
        self._warnings = Warnings()
        self._closed = False
        _leave_to_parent_at_fork(weakref.WeakMethod(self._leave_to_parent))

    def append(self, body: bytes, items: int, hold_seconds: float = 0.0) -> int | None:
        """Keep a batch, dropping the oldest for it; return its number, None where the disk fails.

        Nobody takes it out before `hold_seconds` have passed, LONGEST_HOLD_SECONDS at most, or
        `release`.
        """
        held_until = time.time() + min(hold_seconds, LONGEST_HOLD_SECONDS) if hold_seconds else 0.0
        packed, size = _packed(body)
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
        return number

    def is_empty(self) -> bool:
        """Return whether nothing waits, of any process."""
        query = "SELECT NOT EXISTS (SELECT 1 FROM batches)"
        return self._read(lambda connection: bool(connection.execute(query).fetchone()[0]), True)

    def oldest(self, after: int = 0, but: Collection[int] = ()) -> Batch | None:
        """Return the oldest batch behind number `after` that is not in `but`, still kept."""
        excluded = ", ".join(map(str, but))
        query = (
            "SELECT number, items, held_until, body FROM batches"  # noqa: S608
            f" WHERE number > ? AND number NOT IN ({excluded}) ORDER BY number"
        )
        while row := self._row(query, after):
            if batch := self._batch(row):
                return batch
            after = row[0]
        return None

    def get(self, number: int) -> Batch | None:
        """Return a batch, still kept; None when it is not there any more."""
        query = "SELECT number, items, held_until, body FROM batches WHERE number = ?"
        row = self._row(query, number)
        return self._batch(row) if row else None

    def remove(self, number: int) -> bool | None:
        """Delete a batch; False when it is not there any more, None where the disk fails."""
        return self._write(lambda connection: _delete(connection, [number]) > 0, None)

    def remove_all(self, numbers: Collection[int]) -> bool:
        """Delete batches; False where the disk fails."""
        return self._write(lambda connection: _delete(connection, numbers) >= 0, False)

    def replace(self, number: int, body: bytes, items: int) -> bool | None:
        """Put a part of a batch in its place; return as `remove` does."""
        packed, size = _packed(body)
        replace = "UPDATE batches SET items = ?, bytes = ?, body = ? WHERE number = ?"
        values = (items, size, packed, number)
        return self._write(
            lambda connection: connection.execute(replace, values).rowcount > 0, None
        )

    def set_aside(self, number: int, error: str) -> int | None:
        """Move a batch to the dead letters, dropping the oldest of those for it.

        Return its number of items, 0 when it is not there any more, None where the disk fails.
        """

        def write(connection: sqlite3.Connection) -> int:
            found = connection.execute(
                "INSERT INTO dead_letters (items, bytes, error, set_aside_at, body)"
                " SELECT items, bytes, ?, ?, body FROM batches WHERE number = ?"
                " RETURNING items",
                (error, time.time(), number),
            ).fetchall()
            _delete(connection, [number])
            connection.execute(
                "DELETE FROM dead_letters WHERE number IN (SELECT number FROM (SELECT number,"
                " sum(bytes) OVER (ORDER BY number DESC) AS newer FROM dead_letters)"
                " WHERE newer > ?)",
                (self._max_bytes // _DEAD_LETTERS_SHARE,),
            )
            return sum(items for (items,) in found)

        failed: int | None = None
        return self._write(write, failed)

    def release(self, number: int) -> None:
        """Let other processes send a batch that was held."""
        release = "UPDATE batches SET held_until = 0 WHERE number = ?"
        self._write(lambda connection: connection.execute(release, (number,)).rowcount, 0)

    def waiting(self) -> Waiting:
        """Return how much there is, of all processes."""
        return self._read(_waiting, Waiting())

    def shrink(self) -> None:
        """Return unused disk space to the file system."""

        # A script: `execute` takes one step, and this one page a step.
        script = "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);"
        self._read(lambda connection: connection.executescript(script), None)

    def lead(self) -> bool:
        """Return whether it is this process that empties the spool: one of all.

        It shows that it is alive by a counter in the file. Another takes over when it has seen no
        change of that for a while by its own clock, so no clocks are compared.
        """
        now = time.monotonic()
        if now - self._beaten < _BEAT_SECONDS:
            return now >= self._leads_from
        lease = self._read(_lease, None)
        if lease is not None and lease != self._seen:
            self._seen, self._seen_at = lease, now
        owner, beat = self._seen
        free = owner in (_NOBODY, self._owner) or now - self._seen_at > _LEASE_SECONDS
        if not free or lease is None:
            self._beaten = _NEVER
            return False
        mine = (self._owner, beat + 1)
        taken = self._write(lambda connection: _take(connection, (owner, beat), mine), None)
        if taken:
            self._seen, self._seen_at = mine, now
            if owner not in (_NOBODY, self._owner):
                self._leads_from = now + _GRACE_SECONDS
        # Where the disk cannot be written nobody else takes over either.
        self._beaten = now if taken or (taken is None and owner == self._owner) else _NEVER
        return self._beaten == now and now >= self._leads_from

    def stop_leading(self) -> None:
        """Let another process empty the spool at once."""
        if self._beaten != _NEVER:
            self._beaten = _NEVER
            before, after = self._seen, (_NOBODY, self._seen[1] + 1)
            self._write(lambda connection: _take(connection, before, after), False)

    def close(self) -> None:
        """Close the files; what is on disk stays there."""
        with self._lock:
            if self._connection is not None:
                self._wait_when_busy(self._connection, 0.0)
        self.stop_leading()
        with self._lock:
            self._closed = True
            self._disconnect()

    def _leave_to_parent(self) -> None:
        """Be closed in a forked process: SQLite's locks do not survive fork, nor do threads."""
        self._lock = threading.Lock()
        self._closed = True
        if self._connection is not None:
            # To close it would be as bad.
            _inherited.append(self._connection)
            self._connection = None

    def _row(self, query: str, number: int) -> _Row | None:
        def read(connection: sqlite3.Connection) -> _Row | None:
            row: _Row | None = connection.execute(query, (number,)).fetchone()
            return row

        return self._read(read, None)

    def _batch(self, row: _Row) -> Batch | None:
        """Return the batch of a row; one that cannot be read is removed and counted."""
        number, items, held_until, packed = row
        with suppress(zlib.error, TypeError, ValueError):
            if isinstance(items, int) and isinstance(packed, bytes):
                body = zlib.decompress(packed)
                return Batch(number, items, float(str(held_until)), body)
        if self.remove(number):
            self._lost(items if isinstance(items, int) else 1, SPOOL_BROKEN)
        return None

    def _write(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        def transaction(connection: sqlite3.Connection) -> T:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                done = work(connection)
            # A process that was suspended in the middle of a write may be going on.
            self._wait_when_busy(connection, _BUSY_SECONDS)
            return done

        return self._read(transaction, otherwise)

    def _read(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        with self._lock:
            if self._closed:
                return otherwise
            try:
                return work(self._connected())
            except Exception as error:
                self._failed(error)
                return otherwise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode == spool_file.inode(self.path):
            return self._connection
        # Another process may have set the file aside, or a person deleted it.
        self._disconnect()
        self._connection = spool_file.open_spool(self.path, self._busy_seconds)
        self._inode = spool_file.inode(self.path)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _wait_when_busy(self, connection: sqlite3.Connection, seconds: float) -> None:
        if seconds != self._busy_seconds:
            self._busy_seconds = seconds
            connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def _failed(self, error: Exception) -> None:
        # The lowest byte is the kind, the others are details.
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(
            error, SchemaError
        ):
            with suppress(OSError):
                self._set_aside(error)
            return
        self._warnings.log(
            "unusable", "%s cannot be used (%s): telemetry waits in memory", self.path, error
        )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or isinstance(error, LockedError):
            # Somebody may be suspended in the middle of a write; later writes do not wait for it.
            self._busy_seconds = 0.0
            if self._connection is not None:
                self._connection.execute("PRAGMA busy_timeout = 0")
        elif code != sqlite3.SQLITE_FULL:
            self._disconnect()

    def _set_aside(self, error: Exception) -> None:
        """Begin a new file; one broken one is kept, for a person to look at."""
        items = self._items_of_broken()
        inode, self._inode = self._inode or spool_file.inode(self.path), 0
        self._disconnect()
        with spool_file.exclusive(self.path.parent, self._busy_seconds):
            if spool_file.inode(self.path) != inode:
                return
            spool_file.set_aside(self.path)
        self._lost(items, SPOOL_BROKEN)
        message = "%s cannot be read (%s) and is set aside as *.broken: %d items lost"
        self._warnings.log("set aside", message, self.path, error, items)

    def _items_of_broken(self) -> int:
        """Return them as far as they can be read; one at least, so that the loss is seen."""
        return max(1, spool_file.count_items(self.path))


def _leave_to_parent_at_fork(leave: weakref.WeakMethod[Callable[[], None]]) -> None:
    def leave_if_used() -> None:
        if method := leave():
            method()

    os.register_at_fork(after_in_child=leave_if_used)


def _packed(body: bytes) -> tuple[bytes, int]:
    """Return a body compressed, and the disk that it takes."""
    packed = zlib.compress(body, _COMPRESSION)
    return packed, (len(packed) // _PAGE + 1) * _PAGE


def _waiting(connection: sqlite3.Connection) -> Waiting:
    items, size = connection.execute("SELECT total(items), total(bytes) FROM batches").fetchone()
    return Waiting(int(items), int(size))


def _delete(connection: sqlite3.Connection, numbers: Collection[int]) -> int:
    which = ", ".join(map(str, numbers))
    deleted = connection.execute(f"DELETE FROM batches WHERE number IN ({which})")  # noqa: S608
    return deleted.rowcount


def _drop_oldest(connection: sqlite3.Connection) -> int:
    oldest = "SELECT min(number) FROM batches"
    dropped = connection.execute(
        f"DELETE FROM batches WHERE number = ({oldest}) RETURNING CAST(items AS INTEGER)"  # noqa: S608
    ).fetchall()
    return sum(items for (items,) in dropped)


def _lease(connection: sqlite3.Connection) -> _Lease:
    row: _Lease | None = connection.execute("SELECT owner, beat FROM lease").fetchone()
    return row or (_NOBODY, 0)


def _take(connection: sqlite3.Connection, before: _Lease, after: _Lease) -> bool:
    """Exchange the lease, unless another process did meanwhile."""
    if _lease(connection) != before:
        return False
    connection.execute("INSERT OR REPLACE INTO lease (id, owner, beat) VALUES (1, ?, ?)", after)
    return True
