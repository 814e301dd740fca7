"""What follows from an item's number: who sends it and who looks for it agree by this alone.

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
# So that one question to Tempo is about many.
PER_TRACE: Final = 50


def trace_of(number: int) -> int:
    """The trace that the item's span is in, numbered from 0."""
    return number // PER_TRACE


def trace_id(run: str, trace: int) -> str:
    """32 hex digits."""
    return sha256(f"{run} trace {trace}".encode()).hexdigest()[:32]


def body(number: int) -> str:
    """The text of the item's log line."""
    return f"ledger item {number}"


def payload(run: str, number: int) -> str:
    """Text of different lengths, with what is easily spoilt on the way."""
    digest = sha256(f"{run} item {number}".encode()).hexdigest()
    return f'{digest * (1 + number % 4)} é✓ "\\{{}}\n'


def attributes(run: str, number: int) -> dict[str, str | int]:
    """On the span and on the log record."""
    return {RUN: run, NUMBER: number, PAYLOAD: payload(run, number)}
