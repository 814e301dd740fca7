"""Instruments that are read when metrics are collected, so that they add nothing to requests."""

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from chatscope.names import Kind, Metric

Read = Callable[[], Iterable[Observation]]


def observe(meter: Meter, metric: Metric, read: Read) -> None:
    """Create an observable instrument for `metric`, whose values `read` returns."""

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return read()

    create = {
        Kind.COUNTER: meter.create_observable_counter,
        Kind.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        Kind.GAUGE: meter.create_observable_gauge,
    }[metric.kind]
    create(metric.name, [callback], metric.unit, metric.description)
