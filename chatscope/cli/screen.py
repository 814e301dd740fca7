"""The console of the commands, and the spelling of values on it."""

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import IO, Any, Final, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatscope.cli.times import SECOND
from chatscope.escaping import escape_controls

# Without a terminal no line is broken or cut, so that `grep` and `cut` see whole ones.
_UNLIMITED: Final = 10_000
_PRECISE: Final = ((1e-3, "us", 1e6), (1.0, "ms", 1e3))
_MINUTE: Final = 60
_BLANKS: Final = re.compile(" +(?=\n)")


def open_console(environ: Mapping[str, str] | None = None) -> Console:
    """Return the console for standard output: plain if that is no terminal, or with NO_COLOR."""
    environ = os.environ if environ is None else environ
    _replace_unencodable()
    is_terminal = sys.stdout.isatty()
    return Console(
        file=None if is_terminal else cast(IO[str], _Trimmed(sys.stdout)),
        width=None if is_terminal or environ.get("COLUMNS") else _UNLIMITED,
        color_system="auto" if is_terminal and not environ.get("NO_COLOR") else None,
        highlight=False,
        emoji=False,
    )


class _Trimmed:
    """A stream without the blanks with which a table fills its last column."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_BLANKS.sub("", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _replace_unencodable() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def emit(value: Any) -> None:
    """Print a value as one line of JSON, in ASCII only: it is safe for a terminal, too."""
    print(json.dumps(value), flush=True)


def line(console: Console, text: object, style: str = "") -> None:
    """Print one line, which is never broken: to be copied, however narrow the terminal is."""
    console.print(Text(escape_controls(str(text)), style), soft_wrap=True)


def safe(text: object, style: str = "") -> Text:
    """Return a text for a part of a line, without control characters and without markup."""
    return Text(escape_controls(str(text)), style)


def joined(parts: Iterable[Text | str | None], separator: str = " · ") -> Text:
    """Return the parts that are not empty, in one line."""
    texts = [each if isinstance(each, Text) else safe(each) for each in parts if each]
    return Text(separator).join(texts)


def grid(*columns: Mapping[str, Any]) -> Table:
    """Return a table with a header, whose cells are two blanks apart."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(**column)
    return table


def seconds(value: float) -> str:
    """Return a duration with three digits: `0.53 ms`, `1.94 s`, `3 min 7 s`."""
    for limit, unit, factor in _PRECISE:
        if value < limit:
            return f"{value * factor:.3g} {unit}"
    if value < _MINUTE:
        return f"{value:.2f} s"
    return f"{int(value) // _MINUTE} min {int(value) % _MINUTE} s"


def money(usd: float) -> str:
    """Return US dollars; a small amount with six places."""
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.6f}"


def clock(nanoseconds: int, *, with_date: bool = False) -> str:
    """Return a time of day in the time zone of this machine, to the millisecond."""
    moment = datetime.fromtimestamp(nanoseconds // SECOND).astimezone()
    text = f"{moment:%H:%M:%S}.{nanoseconds % SECOND // 1_000_000:03}"
    return f"{moment:%Y-%m-%d} {text}" if with_date else text
