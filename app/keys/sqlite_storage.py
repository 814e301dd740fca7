"""The amounts of budgets in one SQLite file, which the workers of one machine share.

SQLite: worker processes share it without a server, and it survives a restart. Its readers never
wait for writers (write-ahead log).
"""

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from app.keys.ledger import Account

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


class SqliteStorage:
    """`Storage` in a file."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raise OSError or sqlite3.Error."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)
        self._reader = self._connect(timeout=0.0)

    async def load(self, accounts: Collection[Account], writer: str) -> None:
        """Do nothing: the file is read at once."""

    def used(self, account: Account, writer: str) -> tuple[int, int]:
        """Return an amount, and the number of the writer's last batch in it."""
        query = "SELECT amount FROM used WHERE (day, key, user, unit) = (?, ?, ?, ?)"
        rows, number = _read(self._reader, query, account, writer)
        return sum(amount for (amount,) in rows), number

    def keys(self, day: str, writer: str) -> tuple[Mapping[tuple[str, str], int], int]:
        """Return the amount of each key and unit, and the number of the writer's last batch."""
        query = "SELECT key, unit, amount FROM used WHERE day = ? AND user = ''"
        # A connection of its own: other threads call this.
        with closing(self._connect(timeout=0.0)) as connection:
            rows, number = _read(connection, query, (day,), writer)
        return {(key, unit): amount for key, unit, amount in rows}, number

    def users(self, day: str, key: str) -> set[str]:
        """Return the users of a key that have an account on this day."""
        query = "SELECT DISTINCT user FROM used WHERE day = ? AND key = ?"
        return {user for (user,) in self._reader.execute(query, (day, key))}

    def add(self, amounts: Mapping[Account, int], writer: str, number: int, first_day: str) -> None:
        """Write a batch, and drop what is before `first_day`."""
        rows = [(*account, amount) for account, amount in amounts.items()]
        with closing(self._connect()) as connection, _transaction(connection, "IMMEDIATE"):
            connection.executemany(_ADD, rows)
            connection.execute(_ADD_BATCH, (writer, number, first_day))
            connection.execute("DELETE FROM used WHERE day < ?", (first_day,))
            connection.execute("DELETE FROM batches WHERE day < ?", (first_day,))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _connect(self, timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
        # Closed in another thread than it is used in, at shutdown.
        connection = sqlite3.connect(
            self._path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        # A power failure may lose the last seconds; a killed process loses nothing it wrote.
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection


def _read(
    connection: sqlite3.Connection, query: str, parameters: tuple[str, ...], writer: str
) -> tuple[list[tuple[Any, ...]], int]:
    """Return rows, and the number of the writer's last batch in them."""
    with _transaction(connection, "DEFERRED"):
        rows = connection.execute(query, parameters).fetchall()
        last = "SELECT coalesce(max(number), 0) FROM batches WHERE writer = ?"
        [(number,)] = connection.execute(last, (writer,))
    return rows, number


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
