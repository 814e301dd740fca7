"""Checks of single values, as the OpenTelemetry SDK parses them.

A check raises ValueError, with the reason where there is more to say than what is accepted. None
imports OpenTelemetry.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from app.problems import is_utf8, shown

Check = Callable[[str], None]


@dataclass(frozen=True)
class Variable:
    """How one variable is checked; `check` raises ValueError with the reason, if there is more to
    say than what is accepted."""

    check: Check
    accepts: str


def one_of(*values: str, any_case: bool = False) -> Variable:
    """Accept one of these values, in lower case unless `any_case`."""
    accepted = ", ".join(values[:-1]) + f" or {values[-1]}" if len(values) > 1 else values[0]

    def check(value: str) -> None:
        if (value.lower() if any_case else value) not in values:
            raise ValueError

    return Variable(check, accepted)


def number(accepts: str, *, whole: bool, least: float, most: float) -> Variable:
    """Accept a number from `least` to `most`."""

    def check(text: str) -> None:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ValueError from None
        if not least <= value <= most:
            raise ValueError

    return Variable(check, accepts)


def pairs(value: str) -> None:
    """Accept key=value, separated by commas, with percent-encoded values."""
    for item in filter(None, (item.strip() for item in value.split(","))):
        name, separator, text = item.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"{shown(item)!r} is no key=value")
        if not is_utf8(unquote(text, errors="surrogateescape")):
            raise ValueError(f"{shown(item)!r} does not decode to UTF-8")


def regular_expressions(value: str) -> None:
    """Accept regular expressions, separated by commas."""
    for pattern in value.split(","):
        try:
            re.compile(pattern.strip())
        except re.error as error:
            raise ValueError(f"{shown(pattern)!r}: {error}") from error


def entry_points(group: str, *built_in: str) -> Check:
    """Check a comma-separated list of names that installed packages register."""

    def check(value: str) -> None:
        # Reading the metadata of every installed package takes a while.
        from importlib.metadata import entry_points  # noqa: PLC0415

        names = [name.strip() for name in value.split(",")]
        unknown = [name for name in names if name not in built_in]
        installed = {point.name for point in entry_points(group=group)} if unknown else set()
        if missing := [name for name in unknown if name not in installed]:
            raise ValueError(f"{shown(missing[0])!r} is not installed")

    return check


def no_value(reason: str) -> Check:
    """Accept no value at all."""

    def check(value: str) -> None:
        raise ValueError(reason)

    return check
