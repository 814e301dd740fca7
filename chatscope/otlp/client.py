"""Sends encoded requests to the receiver, each as one call, and classifies the result.

Retries are not made here: the pipeline has the order of all batches and decides when one is sent
again. Sources: https://opentelemetry.io/docs/specs/otlp/ (responses, partial success, throttling).
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from .settings import EndpointSettings, Signal
from .variables import Protocol as Transport
from .wire import fields, message_field, number_field

UNREACHABLE: Final = "unreachable"
CANCELLED: Final = "cancelled"
TIMEOUT: Final = "timeout"
INVALID_RESPONSE: Final = "invalid_response"
FAILED: Final = "internal_error"


class Outcome(Enum):
    """What a call means for the batch that it carried."""

    ACCEPTED = auto()
    REFUSED = auto()  # this batch is invalid for the receiver
    UNAVAILABLE = auto()  # the same batch may be accepted later


@dataclass(frozen=True)
class Result:
    """The result of one call."""

    outcome: Outcome
    error_type: str = ""  # the status's name or number; a class of failure without a status
    message: str = ""
    rejected: int = 0  # items of an accepted batch that the receiver rejected
    retry_after: float = 0.0  # s; the receiver asks for it


class Client(Protocol):
    """One signal's connection to the receiver; opened with the first call."""

    # Held while a connection is opened, which must not be interrupted by a fork.
    lock: threading.RLock
    timeout: float  # s; no call takes longer

    def send(self, body: bytes) -> Future[Result]:
        """Start a call. The future never raises, and is done soon after `timeout` or `close`."""

    def close(self) -> None:
        """Cancel calls in progress; later ones are UNAVAILABLE."""


_ACCEPTED: Final = Result(Outcome.ACCEPTED)


def connect(settings: EndpointSettings) -> Client:
    """Return the client for the settings' protocol."""
    if settings.protocol is Transport.GRPC:
        from .grpc_client import GrpcClient  # noqa: PLC0415 - each is loaded only where it is used

        return GrpcClient(settings)
    from .http_client import HttpClient  # noqa: PLC0415

    return HttpClient(settings)


def finished(result: Result) -> Future[Result]:
    """Return a future that is done."""
    future: Future[Result] = Future()
    future.set_result(result)
    return future


def cancelled() -> Result:
    """Return the result of a call that `Client.close` has ended, or that came after it."""
    return Result(Outcome.UNAVAILABLE, CANCELLED, "the client is closed")


def failed(error: Exception) -> Result:
    """Return the result of a call that ended, or never began, with an unexpected exception."""
    return Result(Outcome.UNAVAILABLE, FAILED, f"{type(error).__name__}: {error}")


def accepted(response: bytes) -> Result:
    """Read an `Export*ServiceResponse`: what of it was rejected, and why.

    A response that cannot be read acknowledges nothing: it is not from an OTLP receiver.
    """
    if not response:  # as usual
        return _ACCEPTED
    try:
        partial = fields(message_field(fields(response), 1))
        message = message_field(partial, 2).decode("utf-8", "replace")
        return Result(Outcome.ACCEPTED, rejected=number_field(partial, 1), message=message)
    except (ValueError, IndexError):
        return Result(Outcome.UNAVAILABLE, INVALID_RESPONSE, "the response is not OTLP")


METHODS: Final = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
