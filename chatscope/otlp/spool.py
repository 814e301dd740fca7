"""Batches that the receiver has not accepted yet: on disk, bounded, the oldest dropped first.

One SQLite database a signal, shared by all processes that write to the same directory: a queue
that survives SIGKILL, with locks between processes. Any process sends any batch; it claims the
batch for a limited time first, so a process that dies or is suspended does not block others.
Libraries that implement queues in SQLite (persist-queue, litequeue, diskcache) have neither a bound
in bytes nor claims. The directory is on a local file system and belongs to one receiver.
"""

import fcntl
import logging
import os
import sqlite3
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

SPOOL_FULL: Final = "spool_full"
SPOOL_BROKEN: Final = "spool_broken"
DEAD_LETTERS_FULL: Final = "dead_letters_full"
# Longer than any claim or backoff; a time further ahead means that the clock was set back.
LONGEST_CLAIM: Final = 300.0  # s

SCHEMA_VERSION: Final = 2
# The oldest with which the tests pass; older ones lack what the schema needs.
_OLDEST_SQLITE: Final = (3, 31, 0)
# A write takes milliseconds; only a suspended process holds the lock for longer.
_BUSY_SECONDS: Final = 2.0
# Ten times smaller for 4 us a span, without the interpreter's lock; more takes longer.
_COMPRESSION: Final = 1
# Share of the bytes that dead letters may take.
_DEAD_SHARE: Final = 0.1
# A batch is not split into pages smaller than this.
_PAGE: Final = 4096

# A killed process loses nothing with any of these; NORMAL keeps the file sound when the machine
# dies, too, at one fsync for 1,000 pages, and may lose the last seconds then.
_PRAGMAS: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 4194304;
"""
_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    items INTEGER NOT NULL,
    size INTEGER NOT NULL,
    created REAL NOT NULL,
    due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    claimed_until REAL NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS sizes ON batches (size, items);
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    items INTEGER NOT NULL,
    size INTEGER NOT NULL,
    created REAL NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS reporter (owner TEXT NOT NULL, until REAL NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
# The schema without a version number had a table of totals and no dead letters.
_MIGRATION: Final = """
BEGIN IMMEDIATE;
DROP TRIGGER IF EXISTS added;
DROP TRIGGER IF EXISTS removed;
DROP TABLE IF EXISTS totals;
ALTER TABLE batches RENAME TO unversioned;
COMMIT;
"""
_MOVE_UNVERSIONED: Final = """
INSERT INTO batches (items, size, created, body)
    SELECT items, bytes, 0, body FROM unversioned ORDER BY number;
DROP TABLE unversioned;
"""

_log = logging.getLogger("opentelemetry.chatscope")

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """An encoded export request that this process has claimed."""

    number: int
    items: int
    attempts: int
    body: bytes


@dataclass(frozen=True)
class Backlog:
    """What a spool holds."""

    items: int = 0
    bytes: int = 0
    dead_items: int = 0


class SpoolUnusableError(RuntimeError):
    """This machine's SQLite is too old."""


class Spool:
    """One signal's batches, in a file or (`path` None) in memory.

    No method raises for a disk that fails; each then returns None. `lost` is called with a number
    of items that are gone, and why.
    """

    def __init__(
        self,
        path: Path | None,
        max_bytes: int,
        lost: Callable[[int, str], None],
        warn: Callable[[str, str], None],
    ) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            needed = ".".join(map(str, _OLDEST_SQLITE))
            raise SpoolUnusableError(
                f"SQLite {needed} or newer is needed (found {sqlite3.sqlite_version})"
            )
        self.path = path
        self.owner = uuid.uuid4().hex
        self.max_bytes = max_bytes
        self._lost = lost
        self._warn = warn
        # Held during each use of SQLite, whose own locks do not survive a fork.
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._closed = False

    def append(self, body: bytes, items: int, claim_seconds: float = 0.0) -> int | None:
        """Keep a batch, dropping the oldest ones for it; its number, None where the disk fails.

        With `claim_seconds` it is claimed by this process, which is still sending it. A batch that
        is larger than the whole spool is lost, and has the number 0.
        """
        packed = zlib.compress(body, _COMPRESSION)
        size = (len(packed) // _PAGE + 1) * _PAGE
        if size > self.max_bytes:
            self._lost(items, SPOOL_FULL)
            return 0
        now = time.time()
        until = now + min(claim_seconds, LONGEST_CLAIM) if claim_seconds else 0.0

        def write(connection: sqlite3.Connection) -> tuple[int, int]:
            dropped = 0
            while _used(connection) + size > self.max_bytes:
                dropped += _drop_oldest(connection, "batches")
            added = connection.execute(
                "INSERT INTO batches (items, size, created, owner, claimed_until, body)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (items, size, now, self.owner if until else "", until, packed),
            )
            return added.lastrowid or 0, dropped

        found = self._write(write)
        if found is None:
            return None
        number, dropped = found
        if dropped:
            self._lost(dropped, SPOOL_FULL)
        return number

    def claim(self, seconds: float) -> Batch | None:
        """Claim the oldest batch that is due and not claimed by another process; None without one.

        After `seconds` another process may claim it.
        """
        while (row := self._write(lambda connection: self._claim(connection, seconds))) is not None:
            number, items, attempts, packed = row
            try:
                return Batch(number, items, attempts, zlib.decompress(packed))
            except zlib.error:
                if self.remove(number):
                    self._lost(items, SPOOL_BROKEN)
        return None

    def extend(self, number: int, seconds: float) -> None:
        """Claim a batch of this process for `seconds` from now."""
        self._update(number, "claimed_until = ?", time.time() + min(seconds, LONGEST_CLAIM))

    def release(self, number: int, *, delay: float = 0.0, attempts: int = 0) -> None:
        """Give a batch back: it was not accepted, and is due again after `delay` seconds."""
        due = time.time() + min(delay, LONGEST_CLAIM) if delay else 0.0
        self._update(
            number,
            "claimed_until = 0, owner = '', due = ?, attempts = attempts + ?",
            due,
            attempts,
        )

    def remove(self, number: int) -> bool | None:
        """Forget a batch; False when it is gone already, None where the disk fails."""

        def write(connection: sqlite3.Connection) -> bool:
            deleted = connection.execute("DELETE FROM batches WHERE number = ?", (number,))
            return deleted.rowcount > 0

        return self._write(write)

    def replace(self, number: int, body: bytes, items: int) -> bool | None:
        """Keep `body` instead of a batch; False when that is gone, None where it fails."""
        packed = zlib.compress(body, _COMPRESSION)
        size = (len(packed) // _PAGE + 1) * _PAGE

        def write(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE batches SET body = ?, items = ?, size = ? WHERE number = ?",
                (packed, items, size, number),
            )
            return changed.rowcount > 0

        return self._write(write)

    def set_aside(self, number: int, reason: str) -> bool | None:
        """Move a batch to the dead letters, dropping the oldest of those for it."""

        def write(connection: sqlite3.Connection) -> tuple[bool, int]:
            moved = connection.execute(
                "INSERT INTO dead_letters (items, size, created, reason, body)"
                " SELECT items, size, created, ?, body FROM batches WHERE number = ?",
                (reason, number),
            ).rowcount
            connection.execute("DELETE FROM batches WHERE number = ?", (number,))
            return moved > 0, self._trim_dead_letters(connection)

        found = self._write(write)
        if found is None:
            return None
        moved, dropped = found
        if dropped:
            self._lost(dropped, DEAD_LETTERS_FULL)
        return moved

    def bury(self, body: bytes, items: int, reason: str) -> bool:
        """Put a batch straight among the dead letters; whether it is there."""
        number = self.append(body, items, claim_seconds=LONGEST_CLAIM)
        return bool(number and self.set_aside(number, reason))

    def is_empty(self) -> bool | None:
        """Return whether the spool of all processes is empty; None if the disk fails."""
        query = "SELECT NOT EXISTS (SELECT 1 FROM batches)"
        return self._read(lambda connection: bool(connection.execute(query).fetchone()[0]))

    def backlog(self) -> Backlog | None:
        """Return the backlog of all processes; None if the disk fails."""

        def read(connection: sqlite3.Connection) -> Backlog:
            waiting = "SELECT coalesce(sum(items), 0), coalesce(sum(size), 0) FROM batches"
            dead = "SELECT coalesce(sum(items), 0) FROM dead_letters"
            items, size = connection.execute(waiting).fetchone()
            return Backlog(items, size, connection.execute(dead).fetchone()[0])

        return self._read(read)

    def report(self, seconds: float) -> bool:
        """Whether this process reports the backlog: one of all, for `seconds` from now on."""

        def write(connection: sqlite3.Connection) -> bool:
            now = time.time()
            row = connection.execute("SELECT owner, until FROM reporter").fetchone()
            if row and row[0] != self.owner and now < row[1] <= now + LONGEST_CLAIM:
                return False
            connection.execute("DELETE FROM reporter")
            connection.execute("INSERT INTO reporter VALUES (?, ?)", (self.owner, now + seconds))
            return True

        return self.path is None or bool(self._write(write))

    def shrink(self) -> None:
        """Return unused pages to the file system."""
        # A script: `execute` takes one step, and one page is one step.
        script = "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);"
        self._read(lambda connection: connection.executescript(script))

    def close(self) -> None:
        """Close the files and release the batches that this process claimed."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE batches SET claimed_until = 0, owner = '' WHERE owner = ?", (self.owner,)
            )
            connection.execute("DELETE FROM reporter WHERE owner = ?", (self.owner,))

        with self.lock:
            if self._connection is not None:
                self._write(write)
            self._closed = True
            self._disconnect()

    def abandon(self) -> None:
        """Forget the connection without touching the file: it belongs to the parent process."""
        self.lock = threading.RLock()
        # Closing it would release the parent's locks; it must stay open and unused.
        _inherited.append(self._connection)
        self._connection = None
        self._closed = False
        self.owner = uuid.uuid4().hex

    def _claim(
        self, connection: sqlite3.Connection, seconds: float
    ) -> tuple[int, int, int, bytes] | None:
        now = time.time()
        row: tuple[int, int, int, bytes] | None = connection.execute(
            "SELECT number, items, attempts, body FROM batches"
            " WHERE (due <= :now OR due > :now + :longest)"
            " AND (claimed_until <= :now OR claimed_until > :now + :longest)"
            " ORDER BY number LIMIT 1",
            {"now": now, "longest": LONGEST_CLAIM},
        ).fetchone()
        if row is not None:
            connection.execute(
                "UPDATE batches SET owner = ?, claimed_until = ? WHERE number = ?",
                (self.owner, now + min(seconds, LONGEST_CLAIM), row[0]),
            )
        return row

    def _trim_dead_letters(self, connection: sqlite3.Connection) -> int:
        dropped = 0
        query = "SELECT coalesce(sum(size), 0) FROM dead_letters"
        while connection.execute(query).fetchone()[0] > self.max_bytes * _DEAD_SHARE:
            dropped += _drop_oldest(connection, "dead_letters")
        return dropped

    def _update(self, number: int, changes: str, *values: float) -> None:
        statement = f"UPDATE batches SET {changes} WHERE number = ?"  # noqa: S608 - our own words
        self._write(lambda connection: connection.execute(statement, (*values, number)))

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        def transaction(connection: sqlite3.Connection) -> T:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)

        return self._read(transaction)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        with self.lock:
            if self._closed:
                return None
            try:
                return work(self._connected())
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                return None

    def _connected(self) -> sqlite3.Connection:
        if self.path is None:
            if self._connection is None:
                self._connection = self._open(":memory:")
            return self._connection
        if self._connection is not None and self._inode == _inode(self.path):
            return self._connection
        # Another process may have set the file aside, or it was deleted.
        self._disconnect()
        _make_directory(self.path.parent)
        with self._alone(self.path):
            _make_private(self.path)
            self._connection = self._open(str(self.path))
            self._inode = _inode(self.path)
        return self._connection

    def _open(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            name, _BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.executescript(_PRAGMAS)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            unversioned = version == 0 and {"batches", "totals"} <= names
            if unversioned:
                connection.executescript(_MIGRATION)
            elif version not in (0, SCHEMA_VERSION) or (version == 0 and names):
                raise _ForeignFileError(version, _count_items(connection))
            connection.executescript(_TABLES)
            if unversioned:
                connection.executescript(_MOVE_UNVERSIONED)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _failed(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        unreadable = isinstance(error, _ForeignFileError) or code in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        )
        if unreadable and self.path is not None:
            with suppress(OSError):
                self._replace(self.path, error)
        else:
            self._warn("spool", f"{self.path} cannot be used ({error}): telemetry stays in memory")
        if code not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            self._disconnect()

    def _replace(self, path: Path, error: Exception) -> None:
        """Begin a new file; the last unreadable one is kept for inspection."""
        if isinstance(error, _ForeignFileError):
            items = error.items
        else:
            items = _count_items(self._connection) if self._connection is not None else 1
        self._disconnect()
        with self._alone(path):
            if self._inode and _inode(path) != self._inode:
                return
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(f"{path}{suffix}", f"{path}.broken{suffix}")
            self._inode = 0
        self._lost(items, SPOOL_BROKEN)
        self._warn("spool-broken", f"{path} cannot be read ({error}) and is set aside as .broken")

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Keep other processes from opening, or setting aside, meanwhile."""
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            _lock(directory)
            yield
        finally:
            os.close(directory)


def _lock(directory: int) -> None:
    """Lock a directory; raises OSError where a process that is suspended holds the lock."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


class _ForeignFileError(sqlite3.Error):
    """A database that this version does not know, and the items in it."""

    def __init__(self, version: int, items: int) -> None:
        super().__init__(f"schema version {version} is not {SCHEMA_VERSION}")
        self.items = items


def _count_items(connection: sqlite3.Connection) -> int:
    """As many as can be counted; one at least, so that the loss is seen."""
    with suppress(sqlite3.Error, TypeError):
        return max(1, int(connection.execute("SELECT sum(items) FROM batches").fetchone()[0]))
    return 1


# Connections that a forked process inherited: never used, never closed.
_inherited: list[sqlite3.Connection | None] = []


def _make_directory(path: Path) -> None:
    """Make a directory and its parents, for the owner only, independent of the umask."""
    if not path.exists():
        _make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
            path.chmod(0o700)


def _make_private(path: Path) -> None:
    """Only the owner may read telemetry; SQLite gives its other files the same rights."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.chmod(f"{path}{suffix}", 0o600)


def _used(connection: sqlite3.Connection) -> int:
    """Bytes that all batches and dead letters take."""
    query = (
        "SELECT (SELECT coalesce(sum(size), 0) FROM batches)"
        " + (SELECT coalesce(sum(size), 0) FROM dead_letters)"
    )
    return int(connection.execute(query).fetchone()[0])


def _drop_oldest(connection: sqlite3.Connection, table: str) -> int:
    """Delete the oldest row; return the number of its items, 0 without one."""
    row = connection.execute(
        f"SELECT number, items FROM {table} ORDER BY number LIMIT 1"  # noqa: S608 - our own word
    ).fetchone()
    if row is None:
        raise sqlite3.OperationalError("there is no room for one batch")
    connection.execute(f"DELETE FROM {table} WHERE number = ?", (row[0],))  # noqa: S608
    return int(row[1])


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
