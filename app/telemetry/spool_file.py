"""Opens the SQLite file of a spool: its directory, permissions and schema."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_VERSION: Final = 1
_SUFFIXES: Final = ("", "-wal", "-shm")
_BATCHES: Final = frozenset({"number", "items", "bytes", "held_until", "body"})
# By version, as `PRAGMA user_version` has it: the tables and their columns.
_TABLES: Final = {
    0: {"batches": _BATCHES, "totals": frozenset({"items", "bytes"})},
    1: {
        "batches": _BATCHES,
        "lease": frozenset({"id", "owner", "beat"}),
        "dead_letters": frozenset({"number", "items", "bytes", "error", "set_aside_at", "body"}),
    },
}
# The index makes a sum over all batches cheap: 2 ms for 32,000.
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL, held_until REAL NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS sizes ON batches (items, bytes);
CREATE TABLE IF NOT EXISTS lease (
    id INTEGER PRIMARY KEY CHECK (id = 1), owner TEXT NOT NULL, beat INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL,
    error TEXT NOT NULL, set_aside_at REAL NOT NULL, body BLOB NOT NULL
);
DROP TRIGGER IF EXISTS added;
DROP TRIGGER IF EXISTS removed;
DROP TABLE IF EXISTS totals;
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class SchemaError(Exception):
    """A file with tables that this version does not know."""


class LockedError(OSError):
    """Another process has not finished in time."""


def open_spool(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open or create a spool, with the schema of this version, for its owner alone.

    Raises SchemaError, LockedError, another OSError or sqlite3.Error.
    """
    # Spans may carry personal texts. A directory that exists keeps its permissions.
    _make_directory(path.parent)
    with exclusive(path.parent, busy_seconds):
        _make_private(path)
        connection = sqlite3.connect(
            path, busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def set_aside(path: Path) -> None:
    """Rename the file, so that a new one can begin; an earlier one set aside is replaced."""
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{path}.broken{suffix}")


def count_items(path: Path) -> int:
    """Return how many items a broken or foreign file has, as far as it can be read."""
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", 0, uri=True)
        try:
            query = "SELECT CAST(total(items) AS INTEGER) FROM batches"
            items: int = connection.execute(query).fetchone()[0]
            return max(0, items)
        finally:
            connection.close()
    return 0


def inode(path: Path) -> int:
    """Return the number of the file, 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


@contextmanager
def exclusive(directory: Path, seconds: float) -> Iterator[None]:
    """Let no other process set up or set aside meanwhile; raise LockedError after `seconds`.

    The kernel releases the lock when a process ends; one that is suspended keeps it.
    """
    deadline = time.monotonic() + seconds
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockedError(f"{directory} is locked by another process") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    if path.parent != path:
        _make_directory(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        # Whatever the umask.
        path.chmod(0o700)


def _make_private(path: Path) -> None:
    """Create the file before SQLite does, which would let others read it. SQLite gives its
    further files the same permissions."""
    with suppress(PermissionError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for suffix in _SUFFIXES:
        file = Path(f"{path}{suffix}")
        with suppress(FileNotFoundError, PermissionError):
            if file.stat().st_mode & 0o777 != 0o600:
                file.chmod(0o600)


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the schema, or bring an older one up to date; a current one is only read."""
    # A killed process loses nothing with any of these; NORMAL keeps the file sound when the
    # machine dies, too, at one fsync for 1,000 pages, and may lose the last seconds then. The
    # write-ahead log is cut to 4 MB when it starts anew.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 4194304")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = _tables(connection)
    if version not in _TABLES or not _fits(tables, version):
        raise SchemaError(f"schema version {version} with tables {', '.join(sorted(tables))}")
    if version != _VERSION:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)


def _fits(tables: dict[str, frozenset[str]], version: int) -> bool:
    known = _TABLES[version]
    # A new file has none; one of version 0 without totals is as good.
    complete = version == 0 or tables.keys() == known.keys()
    return complete and all(known.get(name) == columns for name, columns in tables.items())


def _tables(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    rows = connection.execute(
        "SELECT t.name, group_concat(c.name) FROM sqlite_master AS t"
        " JOIN pragma_table_info(t.name) AS c"
        " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' GROUP BY t.name"
    )
    return {name: frozenset(columns.split(",")) for name, columns in rows}
