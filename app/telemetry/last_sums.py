"""The metrics' exporter, whose last sums outlive the process.

A metric export that fails costs nothing, as the next brings the same sums and more; but a process
that ends while the Collector is away has no next. So while it is away each export takes the place
of the one before on disk, one row a process, and whoever replays that spool sends it when the
process is gone.
"""

from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from . import encodable
from .ledger import REFUSED, Ledger
from .sender import Outcome, Result, Sender
from .spool import Spool

# A Collector that does not answer at once is left alone with its call, and the sums are kept.
_PATIENCE_SECONDS: Final = 0.5
# Besides some intervals. Nobody sends a process's sums while it lives and puts newer ones in their
# place: after newer ones, Prometheus would refuse them.
_HOLD_SECONDS: Final = 20.0


class LastSums(MetricExporter):
    """Exports metrics; what `inner` knows of them besides is the SDK's."""

    def __init__(
        self,
        inner: Any,
        sender: Sender,
        ledger: Ledger,
        spool: Spool | None,
        interval_seconds: float,
    ) -> None:
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self._count = inner._count_data
        self._sender = sender
        self._ledger = ledger
        self._spool = spool
        self._hold_seconds = _HOLD_SECONDS + 3 * interval_seconds
        self._call: Any = None
        self._kept: int | None = None

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """One try; the reader comes again."""
        body: bytes = encode_metrics(encodable.metrics(metrics_data)).SerializeToString()
        result = self._result(body)
        points = self._count(metrics_data)
        if result.outcome is Outcome.ACCEPTED:
            self._forget()
            self._ledger.count_accepted(points, result.rejected)
            return MetricExportResult.SUCCESS
        if result.outcome is not Outcome.REFUSED:
            self._keep(body, points)
        self._ledger.count_exported(points, REFUSED)
        return MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Stop; what is on disk may be sent by others from now on."""
        self._sender.shutdown()
        if self._spool and self._kept is not None:
            self._spool.release(self._kept)

    def _result(self, body: bytes) -> Result:
        if self._call is not None and not self._call.done():
            return Result(Outcome.PENDING)
        self._call = self._sender.start(body)
        return self._sender.result(self._call, body, _PATIENCE_SECONDS if self._spool else None)

    def _keep(self, body: bytes, points: int) -> None:
        if self._spool:
            before = self._kept
            self._kept = self._spool.append(body, points, hold_seconds=self._hold_seconds)
            if before is not None:
                self._spool.remove(before)

    def _forget(self) -> None:
        if self._spool and self._kept is not None:
            self._spool.remove(self._kept)
            self._kept = None
