"""loguru's records as OTLP log records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context

from chatscope import names
from chatscope.logs.bridge import Bridge

if TYPE_CHECKING:
    from loguru import Record


def emit(bridge: Bridge, record: Record, context: Context | None = None) -> None:
    """Emit one record to `bridge`; in the current context unless another is given."""
    bridge.emit(
        record["name"] or "",
        level=record["level"].no,
        body=record["message"],
        attributes={
            names.CODE_FILE_PATH: record["file"].path,
            names.CODE_FUNCTION_NAME: f"{record['name']}.{record['function']}",
            names.CODE_LINE_NUMBER: record["line"],
            **record["extra"],
        },
        timestamp=int(record["time"].timestamp() * 1e6) * 1000,
        error=record["exception"].value if record["exception"] else None,
        context=context,
    )
