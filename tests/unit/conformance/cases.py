"""The shape of a case, and the words in which the table is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from chatscope import names
from tests.unit.conformance.scripts import Script


class Way(Enum):
    """How the question comes in."""

    HTTP = "http"
    SSE = "sse"
    SOCKET = "websocket"


class Client(Enum):
    """What the client does; all but the first once the provider is silent."""

    READS = "reads to the end"
    LEAVES = "closes the connection"
    VANISHES = "drops the connection without a word"
    CANCELS = "sends a cancel"
    STAYS = "stays, and the server stops"


@dataclass(frozen=True)
class Tokens:
    """What is counted, and paid for; `partial` when we counted it ourselves."""

    prompt: int
    completion: int
    partial: bool = False


@dataclass(frozen=True)
class Record:
    """All that is recorded of an answer, each exactly once."""

    outcome: str
    error_type: str | None
    tokens: Tokens | None
    message: bool  # whether an assistant message counts as sent, whole or in part
    severity: str = "INFO"  # of the answer's log line


@dataclass(frozen=True)
class Case:
    """One way out. `sees` is what the client's side shows:

    HTTP       status and finish reason, or status and the error's code; then retry-after
    SSE        the same; "200 error CODE" for an error on a stream that had begun
    WebSocket  "done FINISH_REASON", "error CODE" or "closed CLOSE_CODE"
    all        "left" where the client did not wait
    """

    name: str
    way: Way
    script: Script
    sees: str
    record: Record
    client: Client = Client.READS
    broken: str | None = None  # dotted name of a function of ours that raises
    logged: tuple[str, ...] = ()  # of WARNING and above, beside the answer's own line
    retries: tuple[Mapping[str, object], ...] = ()  # attributes of the events on the span
    stall_seconds: float = 10.0

    def __str__(self) -> str:
        return f"{self.way.value}: {self.name}".replace(" ", "-")


# "hello" has five characters, at four a token; one piece came.
ONE_PIECE = Tokens(2, 1, partial=True)

WHOLE = Record("completed", None, Tokens(3, 2), message=True)
UNCOUNTED = Record("completed", None, ONE_PIECE, message=True)
EMPTY = Record("completed", None, Tokens(3, 0), message=True, severity="WARN")
EMPTY_UNCOUNTED = Record(
    "completed", None, Tokens(2, 0, partial=True), message=True, severity="WARN"
)


def failed(error_type: str, tokens: Tokens | None = None, *, message: bool | None = None) -> Record:
    """A failure; what had come until then was sent, unless `message` says otherwise."""
    sent = tokens is not None if message is None else message
    return Record("failed", error_type, tokens, sent, severity="ERROR")


def cancelled(
    tokens: Tokens | None = None, *, message: bool | None = None, by: str = "cancelled"
) -> Record:
    """Given up, by the client unless told."""
    sent = tokens is not None if message is None else message
    return Record("cancelled", by, tokens, sent)


def retry(count: int, status: int) -> Mapping[str, object]:
    """The event of a further try after that status."""
    return {names.HTTP_RESEND_COUNT: count, names.HTTP_RESPONSE_STATUS_CODE: status}
