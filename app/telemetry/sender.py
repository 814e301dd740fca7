"""Sends encoded requests to the Collector, one call each, and classifies the results.

The SDK's exporter encodes a batch anew for each of its own tries, and knows nothing but the
batches that it is given. Here its channel, credentials, headers and timeout are used with bytes,
which may come from disk; retries are left to the caller, who knows the order of all batches.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from .encodable import text_size
from .guard import Warnings
from .parts import SHAPES, Part

# What a gRPC server accepts unless configured otherwise, with room for the head of the message.
LARGEST_BODY: Final = 4 * 1024 * 1024 - 1024
# Encoding as much holds the interpreter's lock for some 20 ms; no server accepts it by default.
_LARGEST_TEXTS: Final = 2 * LARGEST_BODY
# gRPC itself waits for up to two minutes before it connects again, and half a minute before it
# resolves a name again; a Collector that is back, maybe elsewhere, is to be found at once.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
)


class Outcome(Enum):
    """The end of a call."""

    ACCEPTED = auto()
    REFUSED = auto()  # for good
    RETRYABLE = auto()  # the same body may be accepted later
    PENDING = auto()  # there is no response yet


@dataclass(frozen=True)
class Result:
    """The end of a call; of an accepted one, how many items the receiver rejected."""

    outcome: Outcome
    rejected: int = 0
    error: str = ""


_PENDING: Final = Result(Outcome.PENDING)
_CANCELLED: Final = Result(Outcome.RETRYABLE, error="CANCELLED: shut down")


class Sender:
    """Sends one signal's requests over the channel of an SDK's exporter."""

    def __init__(self, exporter: Any, method: str, encode: Callable[[Any], Any], what: str) -> None:
        # Private names of the SDK, whose versions are pinned; the tests of outages need each.
        self.timeout: float = exporter._timeout
        self.what = what
        # Requests with items that were accepted, ever: evidence that there is no outage.
        self.accepted = 0
        self._exporter = exporter
        self._headers = exporter._headers
        self._call = exporter._channel.unary_unary(method)
        self._encode = encode
        self._warnings = Warnings()
        self._lock = threading.Lock()
        self._failing = False

    def encode(self, batch: Sequence[Any]) -> Iterator[tuple[bytes | None, int]]:
        """Yield requests with their numbers of items, none larger than LARGEST_BODY if possible.

        None in the place of an item that cannot be encoded; the others go without it.
        """
        size = text_size(batch)
        if size > _LARGEST_TEXTS and len(batch) == 1:
            self._warnings.log(
                "size", "one of the %s is too large: its texts have %d bytes", self.what, size
            )
            yield None, 1
            return
        body: bytes | None = None
        try:
            # A batch that is too large is not even encoded: it would hold the interpreter's lock.
            if size <= LARGEST_BODY or len(batch) == 1:
                body = self._encode(batch).SerializeToString()
        except Exception as error:
            if len(batch) == 1:
                self._warnings.log(
                    "encode", "one of the %s cannot be encoded: %s", self.what, error
                )
        if len(batch) == 1 or (body is not None and len(body) <= LARGEST_BODY):
            yield body, len(batch)
            return
        middle = len(batch) // 2
        yield from self.encode(batch[:middle])
        yield from self.encode(batch[middle:])

    def split(self, body: bytes, turn: int) -> tuple[Part, Part] | None:
        """Return a part of a request and the rest of it, as `Shape.split`."""
        return SHAPES[self.what].split(body, turn)

    def start(self, body: bytes) -> Any:
        """Start a call; return None after the shutdown."""
        try:
            return self._call.future(body, timeout=self.timeout, metadata=self._headers)
        except ValueError:
            return None

    def result(self, call: Any, body: bytes, patience: float | None = None) -> Result:
        """Wait for the result of `call`, for `patience` seconds at most."""
        if call is None:
            return _CANCELLED
        try:
            error = call.exception(patience)
        except grpc.FutureTimeoutError:
            return _PENDING
        except grpc.FutureCancelledError:
            return _CANCELLED
        result = self._accepted(call.result()) if error is None else _failure(error, body)
        self._report(result, body)
        return result

    def send(self, body: bytes) -> Result:
        """Start a call and wait for its result."""
        return self.result(self.start(body), body)

    def shutdown(self) -> None:
        """Cancel running calls; later ones are not even started."""
        self._exporter.shutdown()

    def _accepted(self, response: bytes) -> Result:
        # The responses of all signals have the same fields.
        try:
            partial = ExportTraceServiceResponse.FromString(response).partial_success
        except Exception:
            # Whatever sent this has not acknowledged the items.
            return Result(Outcome.RETRYABLE, error="OK: the response is no OTLP response")
        if partial.rejected_spans > 0 or partial.error_message:
            self._warnings.log(
                "partial success",
                "the receiver rejected %d %s: %s",
                partial.rejected_spans, self.what, partial.error_message,
            )  # fmt: skip
        return Result(Outcome.ACCEPTED, rejected=max(0, partial.rejected_spans))

    def _report(self, result: Result, body: bytes) -> None:
        """Log the begin and the end of failing exports, each at most once a minute."""
        if result.outcome is Outcome.REFUSED:
            message = "the receiver refused %s: %s"
            self._warnings.log("refused", message, self.what, result.error)
        elif result.outcome is Outcome.RETRYABLE and not self._failing:
            message = "%s cannot be exported now (%s); they are kept and retried"
            self._failing = self._warnings.log("failing", message, self.what, result.error)
        elif result.outcome is Outcome.ACCEPTED:
            with self._lock:
                self.accepted += bool(body)
            if self._failing:
                self._failing = False
                self._warnings.log("exported", "%s are exported again", self.what)


def _failure(error: Any, body: bytes) -> Result:
    """Classify an error: INVALID_ARGUMENT alone is about the data.

    The other statuses that OTLP calls not retryable are also what a proxy answers while a
    receiver is rolled out (gRPC maps HTTP 401, 403, 404 and 500 to UNAUTHENTICATED,
    PERMISSION_DENIED, UNIMPLEMENTED and UNKNOWN). If it is the data after all, the batch is
    set aside as undeliverable.
    """
    code = error.code()
    text = f"{code.name}: {error.details()}"
    # A body that is too large has the status of a Collector that is full for now.
    too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and len(body) > LARGEST_BODY
    if too_large or code is grpc.StatusCode.INVALID_ARGUMENT:
        return Result(Outcome.REFUSED, error=text)
    return Result(Outcome.RETRYABLE, error=text)
