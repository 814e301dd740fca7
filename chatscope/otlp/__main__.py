"""`python -m chatscope.otlp DIRECTORY`: show what a spool holds, retry its dead letters."""

import argparse
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from .spool import SCHEMA_VERSION

_RETRY = """
BEGIN IMMEDIATE;
INSERT INTO batches (items, size, created, body)
    SELECT items, size, created, body FROM dead_letters ORDER BY number;
DELETE FROM dead_letters;
COMMIT;
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 when the directory has no spool that can be read."""
    parser = argparse.ArgumentParser(
        prog="python -m chatscope.otlp",
        description="Show the backlog of a spool directory and its dead letters: batches that were"
        " refused again and again while others were accepted.",
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--retry", action="store_true", help="send the dead letters again with the next batches"
    )
    given = parser.parse_args(arguments)
    files = sorted(given.directory.glob("*.db"))
    if not files:
        print(f"{given.directory} has no spool", file=sys.stderr)  # noqa: T201
        return 1
    failed = False
    for path in files:
        try:
            for line in _show(path, retry=given.retry):
                print(line)  # noqa: T201
        except sqlite3.Error as error:
            print(f"{path.name}: cannot be read ({error})", file=sys.stderr)  # noqa: T201
            failed = True
    return int(failed)


def _show(path: Path, *, retry: bool) -> Iterator[str]:
    connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5.0)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version} is not {SCHEMA_VERSION}")
        waiting = "SELECT count(*), coalesce(sum(items), 0), coalesce(sum(size), 0) FROM batches"
        batches, items, size = connection.execute(waiting).fetchone()
        yield f"{path.stem}: {items} items in {batches} batches wait, {size} bytes"
        letters = "SELECT number, items, size, created, reason FROM dead_letters ORDER BY number"
        for number, items, size, created, reason in connection.execute(letters).fetchall():
            since = datetime.fromtimestamp(created).astimezone().isoformat(timespec="seconds")
            what = f"{path.stem}: dead letter {number} with {items} items"
            yield f"{what} ({size} bytes, since {since}): {reason}"
        if retry:
            connection.executescript(_RETRY)
            yield f"{path.stem}: all dead letters are sent again"
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
