"""The amounts that keys and users have used in each UTC day, shared by all workers in one file.

SQLite: worker processes share it without a server, and it survives a restart. Its readers never
wait for writers (write-ahead log); writes are made by one thread. Libraries for rate limits count
whole requests, not money, and share counts through servers only.
"""

import sqlite3
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from loguru import logger

# Day, key, user (empty: the key itself), unit.
Account = tuple[str, str, str, str]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (
    day TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, unit TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (day, key, user, unit)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    writer TEXT PRIMARY KEY, number INTEGER NOT NULL, day TEXT NOT NULL
) WITHOUT ROWID;
"""
_ADD: Final = """
INSERT INTO used VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET amount = amount + excluded.amount
"""
# One row for each process: the number of its last batch that is in the file.
_ADD_BATCH: Final = """
INSERT INTO batches VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET number = excluded.number, day = excluded.day
"""
_BUSY_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 1.0
# Part of the five seconds in which a process ends.
CLOSING_SECONDS: Final = 1.0
# Amounts of this time are written together.
_BATCH_SECONDS: Final = 0.02


class Ledger:
    """Amounts by account, as whole numbers. Without a file they are kept in memory."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the file. Raise OSError or sqlite3.Error."""
        self._path = path
        # Amounts that no batch has yet; all of them without a file.
        self._pending: defaultdict[Account, int] = defaultdict(int)
        # The batch that is being written, and its number in the file.
        self._batch: dict[Account, int] = {}
        self._number = 0
        self._writer_id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._first_day = ""  # earlier ones are dropped
        self._closing = threading.Event()
        self._reader: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
            self._reader = self._connect(timeout=0.0)

    def used(self, account: Account) -> int:
        """Return the amount of one account; what could not be written yet is included."""
        query = "SELECT amount FROM used WHERE (day, key, user, unit) = (?, ?, ?, ?)"
        with self._lock:
            stored, in_file = _read(self._reader, query, account, self._writer_id)
            used: int = sum(amount for (amount,) in stored)
            return used + sum(amounts.get(account, 0) for amounts in self._unwritten(in_file))

    def keys(self, day: str) -> dict[tuple[str, str], int]:
        """Return the amount of each key, without its users, and unit on this day.

        For any thread, and slow where there are many users: an amount that is written meanwhile
        may be missing.
        """
        found: defaultdict[tuple[str, str], int] = defaultdict(int)
        query = "SELECT key, unit, amount FROM used WHERE day = ? AND user = ''"
        # A connection of its own, because `used` must not wait for this.
        with self._connection() as connection:
            stored, in_file = _read(connection, query, (day,), self._writer_id)
        for key, unit, amount in stored:
            found[key, unit] = amount
        with self._lock:
            for amounts in self._unwritten(in_file):
                for (unwritten_day, key, user, unit), amount in amounts.items():
                    if unwritten_day == day and not user:
                        found[key, unit] += amount
        return found

    def users(self, day: str, key: str) -> set[str]:
        """Return the users of a key that have an account on this day."""
        query = "SELECT DISTINCT user FROM used WHERE day = ? AND key = ?"
        with self._lock:
            stored, in_file = _read(self._reader, query, (day, key), self._writer_id)
            found = {user for (user,) in stored}
            for amounts in self._unwritten(in_file):
                found.update(user for d, k, user, _ in amounts if (d, k) == (day, key))
        return found - {""}

    def add(self, amounts: dict[Account, int]) -> None:
        """Add amounts; returns at once. They are written to the file by another thread."""
        with self._lock:
            for account, amount in amounts.items():
                self._pending[account] += amount
        if self._path is not None:
            self._start_writer()
            self._changed.set()

    def forget_before(self, day: str) -> None:
        """Drop the accounts of earlier days."""
        with self._lock:
            for account in [account for account in self._pending if account[0] < day]:
                del self._pending[account]
        if self._path is not None:
            self._first_day = day
            self._start_writer()
            self._changed.set()

    def close(self) -> None:
        """Write what is pending; wait at most CLOSING_SECONDS for it."""
        self._closing.set()
        self._changed.set()
        if self._writer:
            self._writer.join(CLOSING_SECONDS)
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _unwritten(self, in_file: int | None) -> list[dict[Account, int]]:
        """Return the amounts that the file lacks; `in_file` is the number that `_read` returned.

        The caller has the lock, which the writer never holds for long. The number of the last batch
        is read together with the amounts: only the file shows when a batch is committed.
        """
        return [self._pending] if in_file == self._number else [self._pending, self._batch]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection for reading; None without a file, or if it cannot be opened."""
        if self._path is None:
            yield None
            return
        try:
            connection = self._connect(timeout=0.0)
        except sqlite3.Error as error:
            _report("read", error)
            yield None
            return
        with closing(connection):
            yield connection

    def _connect(self, timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
        assert self._path is not None  # noqa: S101
        # Closed in another thread than it is used in, at shutdown.
        connection = sqlite3.connect(
            self._path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        # A power failure may lose the last seconds; a killed process loses nothing it wrote.
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _start_writer(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_all, name="budgets", daemon=True)
            self._writer.start()

    def _write_all(self) -> None:
        while not (self._closing.is_set() and self._written()):
            self._changed.wait()
            self._closing.wait(_BATCH_SECONDS)
            self._changed.clear()
            try:
                self._write()
            except (sqlite3.Error, OSError) as error:
                _report("written", error)
                if self._closing.is_set():
                    return
                self._closing.wait(_RETRY_SECONDS)
                self._changed.set()

    def _written(self) -> bool:
        with self._lock:
            return not (any(self._pending.values()) or self._batch)

    def _write(self) -> None:
        with self._lock:
            if not self._batch:  # else: it could not be written
                self._batch = {
                    account: amount for account, amount in self._pending.items() if amount
                }
                self._number += 1
                self._pending.clear()
            batch, number, day = self._batch, self._number, self._first_day
        with closing(self._connect()) as connection:
            with _transaction(connection, "IMMEDIATE"):
                connection.executemany(
                    _ADD, [(*account, amount) for account, amount in batch.items()]
                )
                connection.execute(_ADD_BATCH, (self._writer_id, number, day))
                connection.execute("DELETE FROM used WHERE day < ?", (day,))
                connection.execute("DELETE FROM batches WHERE day < ?", (day,))
            with self._lock:
                self._batch = {}


def _read(
    connection: sqlite3.Connection | None, query: str, parameters: tuple[str, ...], writer: str
) -> tuple[list[tuple[Any, ...]], int | None]:
    """Return rows of the file, and the number of the writer's last batch in it; no rows and None
    without a file, or if it cannot be read."""
    if connection is None:
        return [], None
    try:
        with _transaction(connection, "DEFERRED"):
            rows = connection.execute(query, parameters).fetchall()
            last = "SELECT coalesce(max(number), 0) FROM batches WHERE writer = ?"
            [(in_file,)] = connection.execute(last, (writer,))
    except sqlite3.Error as error:
        _report("read", error)
        return [], None
    return rows, in_file


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _report(verb: str, error: Exception) -> None:
    logger.error(f"budgets could not be {verb}", error=str(error))
