"""The one object that owns the delivery of a process: clients, queues, spools, threads, counts."""

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from .batch import Group, Groups
from .client import connect
from .pipeline import Pipeline, PipelineLimits
from .queue import BoundedQueue
from .settings import EndpointSettings, Signal, load_endpoints
from .spool import Spool
from .statistics import Statistics, Warnings, log
from .sums import SumsPipeline

_MEBIBYTE: Final = 1024 * 1024
_INSTANCE_ID: Final = "service.instance.id"
# File names of the spools.
_FILES: Final = {
    Signal.TRACES: "spans.db",
    Signal.LOGS: "log-records.db",
    Signal.METRICS: "metrics.db",
}
_ITEMS: Final = {
    Signal.TRACES: "spans",
    Signal.LOGS: "log records",
    Signal.METRICS: "metric points",
}


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """Bounds of the delivery of a process."""

    # Where batches are kept that the receiver does not accept; None: in memory.
    spool_dir: Path | None = None
    # Of each signal: on disk, and in memory where there is no directory.
    spool_bytes: int = 128 * _MEBIBYTE
    memory_spool_bytes: int = 16 * _MEBIBYTE
    queue_items: Mapping[Signal, int] = field(
        default_factory=lambda: MappingProxyType({Signal.TRACES: 16_384, Signal.LOGS: 8_192})
    )
    queue_bytes: int = 32 * _MEBIBYTE  # of each signal
    limits: PipelineLimits = field(default_factory=PipelineLimits)
    # In the place of those of `limits`: seconds until an incomplete batch is sent, items in one.
    delays: Mapping[Signal, float] = field(default_factory=dict)
    batch_items: Mapping[Signal, int] = field(default_factory=dict)
    # In the place of those of the items' resources.
    resource_attributes: Mapping[str, str] = field(default_factory=dict)

    def limits_of(self, signal: Signal) -> PipelineLimits:
        """Return the limits of one signal."""
        return replace(
            self.limits,
            delay=self.delays.get(signal, self.limits.delay),
            batch_items=self.batch_items.get(signal, self.limits.batch_items),
        )


class Delivery:
    """Delivers the telemetry of this process; share one among the processors and the exporter.

    Threads start with the first item. After `os.fork` the child begins with empty queues,
    connections of its own and another `service.instance.id`.
    """

    def __init__(
        self,
        endpoints: Mapping[Signal, EndpointSettings] | None = None,
        settings: DeliverySettings | None = None,
    ) -> None:
        """Prepare delivery to `endpoints`, by default as `OTEL_EXPORTER_OTLP_*` says.

        Raises OtlpSettingsError for invalid variables and SpoolUnusableError for an old SQLite.
        """
        self.settings = settings or DeliverySettings()
        self.endpoints = load_endpoints(os.environ) if endpoints is None else endpoints
        self.warnings = Warnings()
        self._groups = Groups(self.settings.resource_attributes)
        self._shut_down = False
        self.pipelines: dict[Signal, Pipeline] = {
            signal: self._pipeline(signal) for signal in Signal
        }
        reference = weakref.ref(self)
        os.register_at_fork(
            before=partial(_at_fork, reference, Pipeline.before_fork),
            after_in_parent=partial(_at_fork, reference, Pipeline.after_fork_in_parent),
            after_in_child=partial(_begin_anew, reference),
        )

    @property
    def sums(self) -> SumsPipeline:
        """The pipeline of metrics."""
        pipeline = self.pipelines[Signal.METRICS]
        assert isinstance(pipeline, SumsPipeline)  # noqa: S101
        return pipeline

    def group(self, resource: Any, scope: Any) -> Group:
        """Return the encoded resource and scope of an item."""
        return self._groups.get(resource, scope)

    def start(self) -> None:
        """Start the threads now, for what an earlier process has left in the spool.

        Without this they start with the first item of their signal.
        """
        for pipeline in self.pipelines.values():
            pipeline.start()

    def flush(self, seconds: float = 5.0, *, drain: bool = False) -> bool:
        """Wait until all queues are empty; False when that takes longer than `seconds`.

        With `drain` the spools are tried as well, for a moment: before the last export of metrics,
        which counts what was delivered.
        """
        deadline = time.monotonic() + seconds
        # All of them, also when one takes too long.
        flushed = [
            pipeline.flush(max(0.0, deadline - time.monotonic()), drain=drain)
            for signal, pipeline in self.pipelines.items()
            if signal is not Signal.METRICS
        ]
        return all(flushed)

    def shutdown(self, seconds: float = 5.0) -> bool:
        """Deliver or keep what is queued, and stop; False when something was lost by that.

        Returns within `seconds`, even if a call hangs; a second call does nothing.
        """
        if self._shut_down:
            return True
        self._shut_down = True
        deadline = time.monotonic() + seconds
        lost: dict[Signal, int] = {}

        def stop(signal: Signal, pipeline: Pipeline) -> None:
            # A little less, so that the report below is still within the deadline.
            lost[signal] = pipeline.shutdown(0.9 * (deadline - time.monotonic()))

        threads = [
            threading.Thread(target=stop, args=pair, daemon=True) for pair in self.pipelines.items()
        ]
        for thread, pair in zip(threads, self.pipelines.items(), strict=True):
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: `atexit` called this
                stop(*pair)
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return self._report(lost)

    def _report(self, lost: Mapping[Signal, int]) -> bool:
        """Log the number of undelivered items of each signal."""
        for signal, pipeline in self.pipelines.items():
            items = _ITEMS[signal]
            if waiting := pipeline.backlog.items:
                log.warning(
                    "%d %s are kept on disk; the next process that uses the directory sends them",
                    waiting,
                    items,
                )
            if lost.get(signal):
                log.warning(
                    "%d %s were lost at shutdown: the receiver did not accept them",
                    lost[signal],
                    items,
                )
            if signal not in lost:
                log.warning("the delivery of %s did not stop in time", items)
        return len(lost) == len(self.pipelines) and not any(lost.values())

    def _pipeline(self, signal: Signal) -> Pipeline:
        settings, endpoint = self.settings, self.endpoints[signal]
        statistics, warnings, limits = Statistics(), Warnings(), settings.limits_of(signal)
        directory = settings.spool_dir
        spool = Spool(
            directory / _FILES[signal] if directory else None,
            settings.spool_bytes if directory else settings.memory_spool_bytes,
            statistics.count_exported,
            warnings.warn,
        )
        kind = SumsPipeline if signal is Signal.METRICS else Pipeline
        return kind(
            signal,
            partial(connect, endpoint),
            lambda: BoundedQueue(
                settings.queue_items.get(signal, 1),
                settings.queue_bytes,
                limits.batch_items,
            ),
            spool,
            limits,
            statistics,
            warnings,
        )

    def begin_anew(self) -> None:
        """Begin with empty queues and another instance: this is a forked process."""
        instance = {_INSTANCE_ID: str(uuid.uuid4())}
        self._groups = Groups({**self.settings.resource_attributes, **instance})
        self._shut_down = False
        self.warnings.reset()
        for pipeline in self.pipelines.values():
            pipeline.after_fork_in_child()


def _at_fork(reference: "weakref.ref[Delivery]", call: Callable[[Pipeline], None]) -> None:
    delivery = reference()
    if delivery is not None:
        for pipeline in delivery.pipelines.values():
            call(pipeline)


def _begin_anew(reference: "weakref.ref[Delivery]") -> None:
    delivery = reference()
    if delivery is not None:
        delivery.begin_anew()
