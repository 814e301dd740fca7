"""Hands encoded requests to the Collector, one call each, and says what became of them.

The SDK's exporter encodes a batch anew for each of its own tries, and knows nothing but the
batches that it is given. Here its channel, credentials, headers and time-out are used with bytes,
which may come from disk, and nobody tries again but whoever has the order of all of them.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, Final

import grpc

from .encodable import text_size

# What the OTLP specification lets a client try again.
_MAY_PASS: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# What a gRPC server takes unless it is told otherwise, with air for the head of the message.
LARGEST_BODY: Final = 4 * 1024 * 1024 - 1024
# Encoding as much holds the interpreter's lock for some 20 ms; no server accepts it by default.
_LARGEST_TEXTS: Final = 2 * LARGEST_BODY
# gRPC itself waits for up to two minutes before it connects again, and half a minute before it
# asks where a name leads; a Collector that is back, maybe elsewhere, is to be found at once.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
)
_log = logging.getLogger("opentelemetry.chatscope")


class Outcome(Enum):
    """The end of a call."""

    ARRIVED = auto()
    REFUSED = auto()  # for good
    AWAY = auto()  # the same body may be taken later
    PENDING = auto()  # there is no answer yet


class Sender:
    """Sends one signal's requests over the channel of an SDK's exporter."""

    def __init__(self, exporter: Any, method: str, encode: Callable[[Any], Any], what: str) -> None:
        # Private names of the SDK, whose versions are pinned; the tests of outages need each.
        self.timeout: float = exporter._timeout
        self._exporter = exporter
        self._headers = exporter._headers
        self._call = exporter._channel.unary_unary(method)
        self._encode = encode
        self._what = what
        self._away = False

    def encode(self, batch: Sequence[Any]) -> Iterator[tuple[bytes | None, int]]:
        """Requests with their numbers of items, each as small as a gRPC server takes, if it can.

        None in the place of an item that nothing can encode: its neighbours go without it.
        """
        size = text_size(batch)
        if size > _LARGEST_TEXTS and len(batch) == 1:
            _log.warning("one of the %s is too large: its texts have %d bytes", self._what, size)
            yield None, 1
            return
        body: bytes | None = None
        try:
            # A batch that is too large is not even encoded: it would hold the interpreter's lock.
            if size <= LARGEST_BODY or len(batch) == 1:
                body = self._encode(batch).SerializeToString()
        except Exception as error:
            if len(batch) == 1:
                _log.warning("one of the %s cannot be encoded: %s", self._what, error)
        if len(batch) == 1 or (body is not None and len(body) <= LARGEST_BODY):
            yield body, len(batch)
            return
        middle = len(batch) // 2
        yield from self.encode(batch[:middle])
        yield from self.encode(batch[middle:])

    def start(self, body: bytes) -> Any:
        """A call on its way; None after the shutdown."""
        try:
            return self._call.future(body, timeout=self.timeout, metadata=self._headers)
        except ValueError:
            return None

    def outcome(self, call: Any, body: bytes, patience: float | None = None) -> Outcome:
        """What became of it, waiting until it is known or `patience` ends."""
        if call is None:
            return Outcome.AWAY
        try:
            error = call.exception(patience)
        except grpc.FutureTimeoutError:
            return Outcome.PENDING
        except grpc.FutureCancelledError:
            return Outcome.AWAY
        if error is None:
            self._tell(None)
            return Outcome.ARRIVED
        if _may_pass(error.code(), body):
            self._tell(error)
            return Outcome.AWAY
        _log.warning("the Collector refused %s for good: %s", self._what, error.details())
        return Outcome.REFUSED

    def send(self, body: bytes) -> Outcome:
        """Start, and wait for the end."""
        return self.outcome(self.start(body), body)

    def shutdown(self) -> None:
        """Cut calls that are on their way; later ones are not even started."""
        self._exporter.shutdown()

    def _tell(self, error: Any) -> None:
        """Say once that the Collector is away, and once that it is back."""
        if error is not None and not self._away:
            _log.warning(
                "the Collector takes no %s (%s: %s); they wait",
                self._what, error.code().name, error.details(),
            )  # fmt: skip
        elif error is None and self._away:
            _log.warning("the Collector takes %s again", self._what)
        self._away = error is not None


def _may_pass(code: grpc.StatusCode, body: bytes) -> bool:
    # A body that is too large has the status of a Collector that is full for now.
    too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and len(body) > LARGEST_BODY
    return code in _MAY_PASS and not too_large
