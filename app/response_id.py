"""IDs of responses that have none from a provider."""

import re
from typing import Final
from uuid import uuid4

from opentelemetry import trace

_MADE: Final = re.compile(r"(?:chatcmpl-|cmpl-|sim-|msg_|resp_)([0-9a-f]{32})([0-9a-f]{16})")


def new_response_id(prefix: str) -> str:
    """Return an ID that contains those of the current trace and span, in hex.

    A rating finds the trace by it, in any process and at any time. Without a span of this process
    it is random.
    """
    span = trace.get_current_span().get_span_context()
    if not span.is_valid or span.is_remote:
        return f"{prefix}{uuid4().hex}"
    return f"{prefix}{span.trace_id:032x}{span.span_id:016x}"


def span_of(response_id: str) -> tuple[str, str] | None:
    """Return the trace ID and span ID in the ID of a response; None for another ID."""
    made = _MADE.fullmatch(response_id)
    return (made[1], made[2]) if made else None
