"""Process and interpreter metrics: read when asked, so they cost no request anything."""

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

import psutil
from opentelemetry.metrics import Meter, Observation

from chatscope import names
from chatscope.instruments import gauge, histogram
from chatscope.names import Metric
from chatscope.observing import Read, observe

# Often enough to see a stall of a tenth of a second, rarely enough to cost nothing.
_LAG_EVERY_SECONDS: Final = 0.1
# Counting looks at each of them, a third of a millisecond for a thousand connections.
_TASKS_EVERY: Final = 10


def observe_process(meter: Meter) -> None:
    """Register the process's and the garbage collector's metrics."""
    for metric, read in (*_process_readers(psutil.Process()), *_gc_readers()):
        observe(meter, metric, read)


@contextmanager
def watch_event_loop(meter: Meter) -> Iterator[None]:
    """Measure the running loop's lag, and count its tasks, until the end of the block."""
    task = asyncio.get_running_loop().create_task(_measure_loop(meter), name="event-loop-lag")
    try:
        yield
    finally:
        task.cancel()


async def _measure_loop(meter: Meter) -> None:
    lag, tasks = histogram(meter, names.EVENT_LOOP_LAG), gauge(meter, names.EVENT_LOOP_TASKS)
    for number in count():
        if number % _TASKS_EVERY == 0:
            tasks.set(len(asyncio.all_tasks()))
        asked = time.perf_counter() + _LAG_EVERY_SECONDS
        await asyncio.sleep(_LAG_EVERY_SECONDS)
        lag.record(max(0.0, time.perf_counter() - asked))


def _process_readers(process: psutil.Process) -> Iterable[tuple[Metric, Read]]:
    def cpu() -> Iterable[Observation]:
        times = process.cpu_times()
        yield Observation(times.user, {names.CPU_MODE: "user"})
        yield Observation(times.system, {names.CPU_MODE: "system"})

    def switches() -> Iterable[Observation]:
        found = process.num_ctx_switches()
        yield Observation(found.voluntary, {names.CONTEXT_SWITCH_TYPE: "voluntary"})
        yield Observation(found.involuntary, {names.CONTEXT_SWITCH_TYPE: "involuntary"})

    started = process.create_time()
    return (
        (names.PROCESS_CPU_TIME, cpu),
        (names.PROCESS_CONTEXT_SWITCHES, switches),
        (names.PROCESS_MEMORY_USAGE, lambda: [Observation(process.memory_info().rss)]),
        (names.PROCESS_MEMORY_VIRTUAL, lambda: [Observation(process.memory_info().vms)]),
        (names.PROCESS_THREADS, lambda: [Observation(process.num_threads())]),
        (names.PROCESS_OPEN_FILES, lambda: [Observation(process.num_fds())]),
        (names.PROCESS_UPTIME, lambda: [Observation(time.time() - started)]),
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
