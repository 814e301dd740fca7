"""The items, derived from their numbers: sender and search need to agree on nothing else.

An item is a span, a log line in it and one increment of a counter.
"""

from hashlib import sha256
from typing import Final

from chatscope.names import Kind, Metric

SERVICE: Final = "chatscope-ledger"
SPAN_NAME: Final = "ledger item"

RUN: Final = "ledger.run"
NUMBER: Final = "ledger.number"
PAYLOAD: Final = "ledger.payload"

ITEMS: Final = Metric(
    "chatscope.ledger.items", Kind.COUNTER, "{item}", "Items of a run of the ledger.", (RUN,)
)
# So that one request to Tempo returns many.
PER_TRACE: Final = 50


def trace_of(number: int) -> int:
    """Return the index of the trace that contains the item's span, from 0."""
    return number // PER_TRACE


def trace_id(run: str, trace: int) -> str:
    """Return a trace ID of 32 hex digits."""
    return sha256(f"{run} trace {trace}".encode()).hexdigest()[:32]


def body(number: int) -> str:
    """Return the text of the item's log line."""
    return f"ledger item {number}"


def payload(run: str, number: int) -> str:
    """Return a text of varying length with characters that are easily damaged in transit."""
    digest = sha256(f"{run} item {number}".encode()).hexdigest()
    return f'{digest * (1 + number % 4)} é✓ "\\{{}}\n'


def attributes(run: str, number: int) -> dict[str, str | int]:
    """Return the attributes of the span and of the log record."""
    return {RUN: run, NUMBER: number, PAYLOAD: payload(run, number)}
