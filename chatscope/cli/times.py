"""Points in time on the command line, in nanoseconds since 1970."""

import argparse
import re
import time
from datetime import UTC, datetime
from typing import Final

SECOND: Final = 1_000_000_000
DAY: Final = 86_400 * SECOND
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,9})([smhdw])")
_FRACTION: Final = re.compile(r"\.(\d{1,9})")


def point_in_time(text: str) -> int:
    """Return the time of `2026-11-28T12:00:00Z`, or of a duration before now such as `24h`.

    A time without a zone is UTC. Raise ArgumentTypeError.
    """
    if ago := _AGO.fullmatch(text):
        return time.time_ns() - int(ago[1]) * _UNITS[ago[2]] * SECOND
    # datetime has microseconds only.
    fraction = _FRACTION.search(text)
    try:
        found = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a time such as 2026-11-28T12:00:00Z, or a duration before now such as 24h "
            f"or 7d (got {text!r})"
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    nanoseconds = int(fraction[1].ljust(9, "0")) if fraction else 0
    return int(found.timestamp()) * SECOND + nanoseconds


def as_text(nanoseconds: int) -> str:
    """Return a time in UTC with all its nanoseconds."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
