"""A periodic metric reader that survives `os.fork`.

The SDK's own keeps its locks and the parent's sums in a forked process: the child may block for
ever, and would export what the parent counted as its own.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider, MetricsTimeoutError
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData

from chatscope.guard import guarded
from chatscope.otlp import OtlpMetricExporter

# How long a fork waits for a collection that is under way.
_FORK_WAIT: Final = 1.0  # s


class PeriodicReader(MetricReader):
    """Collects and exports metrics on a thread of this process, every `interval` seconds."""

    def __init__(
        self,
        exporter: OtlpMetricExporter,
        interval: float,
    ) -> None:
        super().__init__()  # cumulative
        self._exporter = exporter
        self._interval = interval
        self._pid = os.getpid()
        self._stopped = threading.Event()
        self._collecting = threading.Lock()
        self._thread: threading.Thread | None = None

    def successor(self) -> "PeriodicReader":
        """Return a reader for a forked process, with nothing collected yet."""
        return PeriodicReader(self._exporter, self._interval)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="Metric reader", daemon=True)
        with suppress(RuntimeError):  # no thread can be started: the shutdown still collects
            self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether it was shut down."""
        return self._stopped.is_set()

    def hold(self, seconds: float) -> bool:
        """Let no collection begin; False if one is in progress for longer than `seconds`."""
        return self._collecting.acquire(timeout=seconds)

    def release(self) -> None:
        """End that."""
        self._collecting.release()

    def flush(self) -> None:
        """Collect and export now."""
        with self._collecting:
            self._collect_now()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and export now."""
        self.flush()
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Collect and export a last time, and stop."""
        if self._stopped.is_set() or self._pid != os.getpid():
            return
        self._stopped.set()
        if self._collecting.acquire(timeout=timeout_millis / 1000):
            try:
                self._collect_now(timeout_millis)
            finally:
                self._collecting.release()

    def _collect_now(self, timeout_millis: float = 10_000) -> None:
        """Collect; once more if the wall clock, which the SDK goes by, has stepped ahead."""
        try:
            self.collect(timeout_millis)
        except MetricsTimeoutError:
            self.collect(timeout_millis)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> None:
        with suppress_instrumentation():
            self._exporter.export(metrics_data, timeout_millis)

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic() - self._interval) + self._interval
            with guarded("exporting metrics"):
                self.flush()


class MetricExport:
    """The metrics of a meter provider, exported by a reader of this process."""

    def __init__(
        self, provider: MeterProvider, exporter: OtlpMetricExporter, interval: float
    ) -> None:
        """Add a reader to `provider` and start it; `interval` is in seconds."""
        # Not kept: fork handlers last as long as the process, and would keep it alive.
        self._provider = weakref.ref(provider)
        self._reader = PeriodicReader(exporter, interval)
        self._held = False
        provider.add_metric_reader(self._reader)
        self._reader.start()

    def renew_after_fork(self) -> None:
        """Begin at zero in each forked process."""
        reference = weakref.ref(self)
        os.register_at_fork(
            before=partial(_call, reference, MetricExport._before_fork),
            after_in_parent=partial(_call, reference, MetricExport._after_fork_in_parent),
            after_in_child=partial(_call, reference, MetricExport._after_fork_in_child),
        )

    def flush(self) -> None:
        """Collect and export now."""
        self._reader.flush()

    def shutdown(self, timeout_millis: float) -> None:
        """Collect and export a last time, and stop."""
        self._reader.shutdown(timeout_millis)

    def _before_fork(self) -> None:
        """Let no collection be under way: it holds locks of the SDK."""
        self._held = self._reader.hold(_FORK_WAIT)

    def _after_fork_in_parent(self) -> None:
        if self._held:
            self._reader.release()
        self._held = False

    def _after_fork_in_child(self) -> None:
        provider, old = self._provider(), self._reader
        self._held = False
        if provider is None or old.stopped:
            return
        with guarded("preparing metrics after a fork"):
            self._reader = old.successor()
            provider.remove_metric_reader(old)
            provider.add_metric_reader(self._reader)
            self._reader.start()


def _call(reference: "weakref.ref[MetricExport]", method: Callable[[MetricExport], None]) -> None:
    export = reference()
    if export is not None:
        method(export)
