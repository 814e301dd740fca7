"""loguru's records as OTLP log records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context

from chatscope.logs.bridge import Bridge, place_of

if TYPE_CHECKING:
    from loguru import Record


def emit(bridge: Bridge, record: Record, context: Context | None = None) -> None:
    """Emit one record to `bridge`; in the current context unless another is given."""
    name, exception = record["name"] or "", record["exception"]
    bridge.emit(
        name,
        level=record["level"].no,
        body=record["message"],
        attributes=record["extra"],
        timestamp=int(record["time"].timestamp() * 1e6) * 1000,
        error=exception.value if exception else None,
        context=context,
        place=place_of(name, record["file"].path, record["function"], record["line"]),
    )
