"""Process and interpreter metrics, read when metrics are collected."""

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Final

import psutil
from opentelemetry.metrics import Meter, Observation

from chatscope import names
from chatscope.instruments import gauge, histogram
from chatscope.names import Metric
from chatscope.observing import Read, observe

# Shows a stall of a tenth of a second, and costs almost nothing.
_LAG_EVERY_SECONDS: Final = 0.1
# Counting a thousand tasks takes a third of a millisecond.
_TASKS_EVERY: Final = 10


def observe_process(meter: Meter) -> None:
    """Register the metrics of this process and of the garbage collector."""
    for metric, read in (*_process_readers(_this_process), *_gc_readers()):
        observe(meter, metric, read)


def record_end(meter: Meter, prefix: str = names.PREFIX) -> None:
    """Record that this process ends on purpose; called before the last export."""
    gauge(meter, names.PROCESS_ENDED.with_prefix(prefix)).set(1)


@contextmanager
def watch_event_loop(meter: Meter, prefix: str = names.PREFIX) -> Iterator[None]:
    """Measure the running loop's lag, and count its tasks, until the end of the block."""
    measuring = _measure_loop(meter, prefix)
    task = asyncio.get_running_loop().create_task(measuring, name="event-loop-lag")
    try:
        yield
    finally:
        task.cancel()


async def _measure_loop(meter: Meter, prefix: str) -> None:
    lag = histogram(meter, names.EVENT_LOOP_LAG.with_prefix(prefix))
    tasks = gauge(meter, names.EVENT_LOOP_TASKS.with_prefix(prefix))
    for number in count():
        if number % _TASKS_EVERY == 0:
            tasks.set(len(asyncio.all_tasks()))
        asked = time.perf_counter() + _LAG_EVERY_SECONDS
        await asyncio.sleep(_LAG_EVERY_SECONDS)
        lag.record(max(0.0, time.perf_counter() - asked))


@cache
def _process(pid: int) -> psutil.Process:
    return psutil.Process(pid)


def _this_process() -> psutil.Process:
    """Return this process, also after a fork."""
    return _process(os.getpid())


def _process_readers(process: Callable[[], psutil.Process]) -> Iterable[tuple[Metric, Read]]:
    def cpu() -> Iterable[Observation]:
        times = process().cpu_times()
        yield Observation(times.user, {names.CPU_MODE: "user"})
        yield Observation(times.system, {names.CPU_MODE: "system"})

    def switches() -> Iterable[Observation]:
        found = process().num_ctx_switches()
        yield Observation(found.voluntary, {names.CONTEXT_SWITCH_TYPE: "voluntary"})
        yield Observation(found.involuntary, {names.CONTEXT_SWITCH_TYPE: "involuntary"})

    return (
        (names.PROCESS_CPU_TIME, cpu),
        (names.PROCESS_CONTEXT_SWITCHES, switches),
        (names.PROCESS_MEMORY_USAGE, lambda: [Observation(process().memory_info().rss)]),
        (names.PROCESS_MEMORY_VIRTUAL, lambda: [Observation(process().memory_info().vms)]),
        (names.PROCESS_THREADS, lambda: [Observation(process().num_threads())]),
        (names.PROCESS_OPEN_FILES, lambda: [Observation(process().num_fds())]),
        (names.PROCESS_UPTIME, lambda: [Observation(time.time() - process().create_time())]),
    )


def _gc_readers() -> Iterable[tuple[Metric, Read]]:
    def reader(key: str) -> Read:
        return lambda: [
            Observation(generation[key], {names.GC_GENERATION: number})
            for number, generation in enumerate(gc.get_stats())
        ]

    return (
        (names.GC_COLLECTIONS, reader("collections")),
        (names.GC_COLLECTED, reader("collected")),
        (names.GC_UNCOLLECTABLE, reader("uncollectable")),
    )
