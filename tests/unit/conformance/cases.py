"""The structure of a case, and the vocabulary of the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from chatscope import names
from tests.unit.conformance.scripts import Script


class Way(Enum):
    """The transport of the request."""

    HTTP = "http"
    SSE = "sse"
    SOCKET = "websocket"


class Client(Enum):
    """The client's action; all but the first one while the provider is silent."""

    READS = "reads to the end"
    LEAVES = "closes the connection"
    VANISHES = "drops the connection without a word"
    CANCELS = "sends a cancel"
    STAYS = "stays, and the server stops"


@dataclass(frozen=True)
class Tokens:
    """Counted and charged tokens; `partial` if the service counted them itself."""

    prompt: int
    completion: int
    partial: bool = False


@dataclass(frozen=True)
class Record:
    """The expected telemetry of a response, each item exactly once."""

    outcome: str
    error_type: str | None
    tokens: Tokens | None
    message: bool  # whether an assistant message counts as sent, whole or in part
    severity: str = "INFO"  # of the answer's log line


@dataclass(frozen=True)
class Case:
    """One outcome of a request. `sees` is the client's result:

    HTTP       status and finish reason, or status and the error's code; then retry-after
    SSE        the same; "200 error CODE" for an error after the start of a stream
    WebSocket  "done FINISH_REASON", "error CODE" or "closed CLOSE_CODE"
    all        "left" if the client disconnected
    """

    name: str
    way: Way
    script: Script
    sees: str
    record: Record
    client: Client = Client.READS
    broken: str | None = None  # dotted name of a function of ours that raises
    logged: tuple[str, ...] = ()  # records of WARNING and above, besides the response's own
    retries: tuple[Mapping[str, object], ...] = ()  # attributes of the events on the span
    stall_seconds: float = 10.0

    def __str__(self) -> str:
        return f"{self.way.value}: {self.name}".replace(" ", "-")


# "hello" has five characters, four per token; one chunk arrived.
ONE_PIECE = Tokens(2, 1, partial=True)

WHOLE = Record("completed", None, Tokens(3, 2), message=True)
UNCOUNTED = Record("completed", None, ONE_PIECE, message=True)
EMPTY = Record("completed", None, Tokens(3, 0), message=True, severity="WARN")
EMPTY_UNCOUNTED = Record(
    "completed", None, Tokens(2, 0, partial=True), message=True, severity="WARN"
)


def failed(error_type: str, tokens: Tokens | None = None, *, message: bool | None = None) -> Record:
    """Return a failure; earlier text counts as sent, unless `message` says otherwise."""
    sent = tokens is not None if message is None else message
    return Record("failed", error_type, tokens, sent, severity="ERROR")


def cancelled(
    tokens: Tokens | None = None, *, message: bool | None = None, by: str = "cancelled"
) -> Record:
    """Return a cancellation, by the client by default."""
    sent = tokens is not None if message is None else message
    return Record("cancelled", by, tokens, sent)


def retry(count: int, status: int) -> Mapping[str, object]:
    """Return the event of a retry after that status."""
    return {names.HTTP_RESEND_COUNT: count, names.HTTP_RESPONSE_STATUS_CODE: status}
