"""Lists the batches that were set aside as undeliverable: python -m app.telemetry.dead_letters."""

import argparse
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Print one line for each batch; return 2 when the directory has no spool."""
    parser = argparse.ArgumentParser(prog="python -m app.telemetry.dead_letters")
    parser.add_argument("command", choices=["list"])
    parser.add_argument("directory", type=Path, help="the value of TELEMETRY_SPOOL_DIR")
    given = parser.parse_args(arguments)
    files = sorted(given.directory.glob("*.db"))
    if not files:
        sys.stderr.write(f"{given.directory} has no spool (*.db)\n")
        return 2
    for file in files:
        for line in _lines(file):
            sys.stdout.write(f"{line}\n")
    return 0


def _lines(file: Path) -> Iterator[str]:
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT number, set_aside_at, items, bytes, error FROM dead_letters ORDER BY number"
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield f"{file.stem} cannot be read: {error}"
        return
    for number, set_aside_at, items, size, reason in rows:
        at = datetime.fromtimestamp(set_aside_at, UTC)
        yield f"{file.stem} {number} {at:%Y-%m-%dT%H:%M:%SZ} {items} items {size} bytes {reason}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
