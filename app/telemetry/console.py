"""The same log lines for a person: one line each, values behind, the trace at the end."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Final

from .encodable import described
from .tracing import current_trace_id

if TYPE_CHECKING:
    from loguru import Message, Record

_COLOURS: Final = ((40, "31"), (30, "33"), (25, "32"), (20, "36"))
_DIM: Final = "2"
_SHORT_TRACE: Final = 8


def write(message: Message) -> None:
    """Print one record on standard error, in colour where that is a terminal."""
    sys.stderr.write(render(message.record, colour=sys.stderr.isatty()))


def render(record: Record, *, colour: bool) -> str:
    """One record as text, with its traceback below it."""
    level = record["level"]
    code = next((code for least, code in _COLOURS if level.no >= least), _DIM)
    parts = [
        _paint(f"{record['time']:%H:%M:%S.%f}"[:-3], _DIM, colour),
        _paint(f"{level.name:<8}", code, colour),
        record["message"],
        _paint(_details(record), _DIM, colour),
    ]
    line = " ".join(part for part in parts if part)
    return f"{line}\n{_traceback(record)}"


def _details(record: Record) -> str:
    pairs = [
        f"{key}={_short(value)}" for key, value in record["extra"].items() if value is not None
    ]
    if trace_id := current_trace_id():
        pairs.append(f"trace={trace_id[:_SHORT_TRACE]}")
    return " ".join([*pairs, f"({record['name']})"])


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else described(value)


def _traceback(record: Record) -> str:
    exception = record["exception"]
    if exception is None or exception.value is None:
        return ""
    return "".join(traceback.format_exception(exception.value))


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text
