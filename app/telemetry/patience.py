"""Exporters that wait for a Collector which is away, instead of dropping what they hold.

The SDK's exporter gives a batch up after its timeout, ten seconds by default. Here the batch
waits for as long as the fault may pass, the queue behind it fills, and only what the queue
cannot hold is dropped, oldest first, and counted.
"""

import threading
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import grpc
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.trace.export import SpanExporter

from .ledger import REFUSED, SHUTDOWN, Ledger

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
# Between two rounds of the SDK's own tries, which back off from one second on.
_PAUSE_SECONDS: Final = 0.5


class PatientExporter:
    """Around an exporter of spans or of log records whose faults `ledger` hears of."""

    def __init__(
        self, exporter: SpanExporter | LogRecordExporter, success: Enum, ledger: Ledger
    ) -> None:
        self._exporter = exporter
        self._success = success
        self._ledger = ledger
        self._hurry = threading.Event()
        self._stopped = False

    def export(self, batch: Sequence[Any]) -> Any:
        """Export until it arrived, was refused for good, or nobody can wait any more."""
        while True:
            result = self._exporter.export(batch)
            if result == self._success:
                self._ledger.count_exported(len(batch))
                return result
            passing = may_pass(self._ledger.last_error)
            if not passing or self._hurry.wait(_PAUSE_SECONDS):
                self._ledger.count_exported(len(batch), SHUTDOWN if passing else REFUSED)
                return result

    def hurry(self) -> None:
        """Try each batch once more from now on: the process is about to end."""
        self._hurry.set()

    def shutdown(self, timeout_millis: float = 0) -> None:
        """Stop, in the middle of a try if need be; a second call does nothing."""
        self._hurry.set()
        if not self._stopped:
            self._stopped = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing waits here."""
        return True


def may_pass(error: Exception | None) -> bool:
    """Whether the same batch may be taken later. Our own shutdown leaves no error."""
    return error is None or (isinstance(error, grpc.RpcError) and error.code() in _MAY_PASS)
