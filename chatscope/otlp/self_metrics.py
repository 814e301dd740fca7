"""Metrics about the delivery itself, read from its statistics when metrics are collected.

Names and meanings: https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/. The processor's
counters end where an item is handed to the exporter; the exporter's end where its export ends, at
once or after days in the spool. Counters begin at zero, so that a first loss shows as an increase.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .delivery import Delivery
from .pipeline import Pipeline
from .queue import QUEUE_FULL, SHUT_DOWN
from .settings import Signal
from .spool import DEAD_LETTERS_FULL, SPOOL_BROKEN, SPOOL_FULL
from .statistics import INTERNAL_ERROR, NOT_ENCODABLE, REFUSED, UNDELIVERABLE
from .variables import Protocol

ERROR_TYPE: Final = "error.type"
COMPONENT_TYPE: Final = "otel.component.type"


@dataclass(frozen=True)
class SignalNames:
    """How the conventions name one signal's items, metrics and components."""

    item: str
    created: str
    component: str
    noun: str

    @property
    def unit(self) -> str:
        """The items' unit."""
        return "{log_record}" if self.item == "log" else f"{{{self.item.rpartition('_data_')[2]}}}"

    @property
    def processed(self) -> str:
        """Items whose processing has ended."""
        return f"otel.sdk.processor.{self.item}.processed"

    @property
    def queue_size(self) -> str:
        """Items in the queue."""
        return f"otel.sdk.processor.{self.item}.queue.size"

    @property
    def queue_capacity(self) -> str:
        """Items that the queue can hold."""
        return f"otel.sdk.processor.{self.item}.queue.capacity"

    @property
    def exported(self) -> str:
        """Items whose export has ended."""
        return f"otel.sdk.exporter.{self.item}.exported"

    @property
    def inflight(self) -> str:
        """Items that are being sent."""
        return f"otel.sdk.exporter.{self.item}.inflight"

    @property
    def about_created(self) -> str:
        """The description of `created`."""
        return f"{self.noun} created."

    @property
    def about_processed(self) -> str:
        """The description of `processed`."""
        return f"{self.noun} handed to the exporter, or with error.type dropped before it."

    @property
    def about_queue_size(self) -> str:
        """The description of `queue_size`."""
        return f"{self.noun} in the queue."

    @property
    def about_queue_capacity(self) -> str:
        """The description of `queue_capacity`."""
        return f"{self.noun} that the queue can hold; the oldest is dropped for one more."

    @property
    def about_exported(self) -> str:
        """The description of `exported`."""
        return f"{self.noun} whose export ended: accepted, or with error.type lost."

    @property
    def about_inflight(self) -> str:
        """The description of `inflight`."""
        return f"{self.noun} that are being sent."


SPANS: Final = SignalNames("span", "otel.sdk.span.started", "span_exporter", "Spans")
LOGS: Final = SignalNames("log", "otel.sdk.log.created", "log_exporter", "Log records")
POINTS: Final = SignalNames("metric_data_point", "", "metric_exporter", "Metric points")
OPERATION_DURATION: Final = "otel.sdk.exporter.operation.duration"
ABOUT_DURATION: Final = "Duration of export calls."
ABOUT_SPOOL_ITEMS: Final = "Spans and log records in the spool, of all processes."
ABOUT_SPOOL_SIZE: Final = "Room that they take."
ABOUT_SPOOL_DEAD_LETTERS: Final = (
    "Spans and log records that were set aside: not accepted again and again while others were."
)
ABOUT_SPOOL_CAPACITY: Final = "Room that they may take; the oldest is dropped for one more."
ABOUT_FALLBACKS: Final = "Spans and log records that only the official encoder could encode."
_NAMES: Final = {Signal.TRACES: SPANS, Signal.LOGS: LOGS, Signal.METRICS: POINTS}
DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NO_ERROR: Final = ""
_KNOWN: Final = (
    REFUSED,
    SPOOL_FULL,
    SPOOL_BROKEN,
    UNDELIVERABLE,
    DEAD_LETTERS_FULL,
    INTERNAL_ERROR,
)


def observe(meter: Meter, delivery: Delivery, prefix: str) -> None:
    """Register all instruments; those without a convention are named with `prefix`."""
    duration = meter.create_histogram(
        OPERATION_DURATION,
        "s",
        ABOUT_DURATION,
        explicit_bucket_boundaries_advisory=DURATIONS,
    )
    for signal, pipeline in delivery.pipelines.items():
        names = _NAMES[signal]
        component = _component(delivery, signal, names)

        def record(seconds: float, error_type: str, component: str = component) -> None:
            error = {ERROR_TYPE: error_type} if error_type else {}
            duration.record(seconds, {COMPONENT_TYPE: component, **error})

        pipeline.statistics.on_call = record
        _observe_exporter(meter, names, pipeline)
        if names.created:
            _observe_processor(meter, names, pipeline)
    _observe_items(meter, delivery, prefix)


def _component(delivery: Delivery, signal: Signal, names: SignalNames) -> str:
    transport = "grpc" if delivery.endpoints[signal].protocol is Protocol.GRPC else "http"
    return f"otlp_{transport}_{names.component}"


def _observe_exporter(meter: Meter, names: SignalNames, pipeline: Pipeline) -> None:
    # Points are not spooled one by one: a failed export costs nothing.
    known = _KNOWN if names.created else ()

    def exported() -> Iterable[Observation]:
        counts = {_NO_ERROR: 0, **dict.fromkeys(known, 0), **pipeline.statistics.exported}
        return _by_error(counts)

    _counter(meter, names.exported, names.unit, names.about_exported, exported)
    meter.create_observable_up_down_counter(
        names.inflight,
        [_callback(lambda: [Observation(pipeline.statistics.inflight)])],
        names.unit,
        names.about_inflight,
    )


def _observe_processor(meter: Meter, names: SignalNames, pipeline: Pipeline) -> None:
    def processed() -> Iterable[Observation]:
        queue = pipeline.queue
        return _by_error(
            {
                _NO_ERROR: queue.taken,
                QUEUE_FULL: queue.dropped,
                SHUT_DOWN: queue.late,
                NOT_ENCODABLE: pipeline.statistics.not_encodable,
            }
        )

    _counter(
        meter,
        names.created,
        names.unit,
        names.about_created,
        lambda: [Observation(pipeline.statistics.started)],
    )
    _counter(meter, names.processed, names.unit, names.about_processed, processed)
    meter.create_observable_up_down_counter(
        names.queue_size,
        [_callback(lambda: [Observation(len(pipeline.queue))])],
        names.unit,
        names.about_queue_size,
    )
    meter.create_observable_up_down_counter(
        names.queue_capacity,
        [_callback(lambda: [Observation(pipeline.queue.max_items)])],
        names.unit,
        names.about_queue_capacity,
    )


def _observe_items(meter: Meter, delivery: Delivery, prefix: str) -> None:
    signals = [signal for signal, names in _NAMES.items() if names.created]

    def each(read: Callable[[Pipeline], int]) -> Callable[[], Iterable[Observation]]:
        return lambda: [
            Observation(read(delivery.pipelines[signal]), {f"{prefix}.signal": str(signal)})
            for signal in signals
        ]

    for name, unit, description, read in (
        ("items", "{item}", ABOUT_SPOOL_ITEMS, _items),
        ("size", "By", ABOUT_SPOOL_SIZE, _size),
        ("dead_letters", "{item}", ABOUT_SPOOL_DEAD_LETTERS, _dead_letters),
    ):
        meter.create_observable_up_down_counter(
            f"{prefix}.spool.{name}", [_callback(each(read))], unit, description
        )
    meter.create_observable_gauge(
        f"{prefix}.spool.capacity",
        [_callback(each(lambda pipeline: pipeline.spool.max_bytes))],
        "By",
        ABOUT_SPOOL_CAPACITY,
    )
    _counter(
        meter,
        f"{prefix}.encoder.fallbacks",
        "{item}",
        ABOUT_FALLBACKS,
        each(lambda pipeline: pipeline.statistics.fallbacks),
    )


def _items(pipeline: Pipeline) -> int:
    return pipeline.backlog.items


def _size(pipeline: Pipeline) -> int:
    return pipeline.backlog.bytes


def _dead_letters(pipeline: Pipeline) -> int:
    return pipeline.backlog.dead_items


def _counter(
    meter: Meter,
    name: str,
    unit: str,
    description: str,
    read: Callable[[], Iterable[Observation]],
) -> None:
    meter.create_observable_counter(name, [_callback(read)], unit, description)


def _callback(
    read: Callable[[], Iterable[Observation]],
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda options: read()


def _by_error(counts: Mapping[str, int]) -> Iterable[Observation]:
    return [
        Observation(count, {ERROR_TYPE: error} if error else {}) for error, count in counts.items()
    ]
