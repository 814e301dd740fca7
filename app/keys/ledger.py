"""The amounts that keys and users have used in each UTC day, shared by all workers in one file.

SQLite: worker processes share it without a server, and it survives a restart. Its readers never
wait for writers (write-ahead log); writes are made by one thread. Libraries for rate limits count
whole requests, not money, and share counts through servers only.
"""

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from loguru import logger

# Day, key, user (empty: the key itself), unit.
Account = tuple[str, str, str, str]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (
    day TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, unit TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (day, key, user, unit)
) WITHOUT ROWID
"""
_ADD: Final = """
INSERT INTO used VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET amount = amount + excluded.amount
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
        # Amounts that are not in the file yet; all of them without a file.
        self._pending: defaultdict[Account, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._forget: str | None = None  # a day; earlier ones are dropped
        self._closing = threading.Event()
        self._reader: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(_SCHEMA)
            self._reader = self._connect(timeout=0.0)

    def used(self, account: Account) -> int:
        """Return the amount of one account; what could not be written yet is included."""
        stored = 0
        if self._reader is not None:
            try:
                found = self._reader.execute(
                    "SELECT amount FROM used WHERE (day, key, user, unit) = (?, ?, ?, ?)", account
                ).fetchone()
                stored = found[0] if found else 0
            except sqlite3.Error as error:
                _report("read", error)
        # After the file: an amount that is written meanwhile is missed once, never counted twice.
        with self._lock:
            return stored + self._pending.get(account, 0)

    def keys(self, day: str) -> dict[tuple[str, str], int]:
        """Return the amount of each key, without its users, and unit on this day."""
        found: defaultdict[tuple[str, str], int] = defaultdict(int)
        if self._reader is not None:
            try:
                query = "SELECT key, unit, amount FROM used WHERE day = ? AND user = ''"
                for key, unit, amount in self._reader.execute(query, (day,)):
                    found[key, unit] = amount
            except sqlite3.Error as error:
                _report("read", error)
        with self._lock:
            for (pending_day, key, user, unit), amount in self._pending.items():
                if pending_day == day and not user:
                    found[key, unit] += amount
        return found

    def users(self, day: str, key: str) -> set[str]:
        """Return the users of a key that have an account on this day."""
        with self._lock:
            found = {user for d, k, user, _ in self._pending if (d, k) == (day, key)}
        if self._reader is not None:
            try:
                rows = self._reader.execute(
                    "SELECT DISTINCT user FROM used WHERE day = ? AND key = ?", (day, key)
                )
                found.update(user for (user,) in rows)
            except sqlite3.Error as error:
                _report("read", error)
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
            self._forget = day
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
            return not any(self._pending.values())

    def _write(self) -> None:
        with self._lock:
            taken, forget = dict(self._pending), self._forget
        with closing(self._connect()) as connection, _transaction(connection):
            rows = [(*account, amount) for account, amount in taken.items() if amount]
            connection.executemany(_ADD, rows)
            if forget:
                connection.execute("DELETE FROM used WHERE day < ?", (forget,))
        with self._lock:
            for account, amount in taken.items():
                self._pending[account] -= amount
                if not self._pending[account]:
                    del self._pending[account]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _report(verb: str, error: Exception) -> None:
    logger.error(f"budgets could not be {verb}", error=str(error))
