"""Runtime: CPU, memory, event loop and garbage collector of processes, and their host."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    CONTEXT_SWITCH_TYPE,
    CPU_MODE,
    EVENT_LOOP_LAG,
    EVENT_LOOP_TASKS,
    GC_COLLECTED,
    GC_COLLECTIONS,
    GC_GENERATION,
    GC_UNCOLLECTABLE,
    PROCESS_CONTEXT_SWITCHES,
    PROCESS_CPU_TIME,
    PROCESS_MEMORY_USAGE,
    PROCESS_MEMORY_VIRTUAL,
    PROCESS_OPEN_FILES,
    PROCESS_THREADS,
    PROCESS_UPTIME,
    Metric,
)
from dashboards import links, others
from dashboards.board import Row, assemble
from dashboards.legends import label
from dashboards.others import DEVICE, INSTANCE, MOUNT, SERVICE_NAME, STATE, WAY
from dashboards.panels import Query, is_well, lines, prom
from dashboards.queries import (
    RATE,
    aggregate,
    equals,
    increase,
    matches,
    positive,
    quantile,
    rate,
    ratio,
    series,
    total,
)

# An instance's ID is long; its first eight characters are sufficient.
_PROCESS: Final = "process"
_BY_PROCESS: Final = f"{label(SERVICE_NAME)} {{{{{_PROCESS}}}}}"
_INSTANCE: Final = (SERVICE_NAME, INSTANCE)

_IDLE: Final = "idle|wait"
_FREE_MEMORY: Final = "free|cached|buffered|slab_reclaimable|inactive"


def board() -> Dashboard:
    return assemble(
        links.RUNTIME,
        "CPU, memory, event loop and garbage collector of the processes, and of their host.",
        [_health(), _process(), _event_loop(), _collector_of_garbage(), *_host()],
    )


def _each_process(expression: str) -> str:
    return f'label_replace({expression}, "{_PROCESS}", "$1", "instance", "(.{{8}}).*")'


def _now(metric: Metric) -> Query:
    return prom(_each_process(series(metric)), _BY_PROCESS)


def _share(metric: others.Series, state: str, by: tuple[str, ...] = ()) -> str:
    """Return the share of some states of a host gauge."""
    return f"{total(metric, matches(STATE, state), by=by)} / {total(metric, by=by)}"


def _cpu_busy() -> str:
    idle = rate(others.HOST_CPU, matches(STATE, _IDLE))
    return f"1 - {idle} / {rate(others.HOST_CPU)}"


def _disk_full() -> str:
    used = total(others.HOST_FILES, equals(STATE, "used"), by=(MOUNT,))
    usable = total(others.HOST_FILES, matches(STATE, "used|free"), by=(MOUNT,))
    return f"{used} / {usable}"


def _health() -> Row:
    return Row(
        "Health",
        [
            is_well(
                "Processes",
                "Processes that sent metrics in the last minute.",
                "short",
                prom(f"count(last_over_time({series(PROCESS_UPTIME)}[1m]))"),
                warn=1,
                bad=0.5,
            ),
            is_well(
                "Process CPU",
                "Of the busiest process, as a share of one CPU, and an event loop uses no more: "
                "near 100 % responses wait for each other.",
                "percentunit",
                prom(
                    aggregate(
                        "max",
                        aggregate("sum", f"rate({series(PROCESS_CPU_TIME)}[{RATE}])", _INSTANCE),
                    )
                ),
                warn=0.7,
                bad=0.9,
            ),
            is_well(
                "Event loop lag p99",
                "Delay with which the event loop resumed a task: each chunk of every response has "
                "it as well.",
                "s",
                prom(quantile(0.99, EVENT_LOOP_LAG)),
                warn=0.1,
                bad=0.5,
            ),
            is_well(
                "Host CPU",
                "CPU time that was neither idle nor waiting for a disk.",
                "percentunit",
                prom(_cpu_busy()),
                warn=0.8,
                bad=0.95,
            ),
            is_well(
                "Host memory",
                "Memory that cannot be reclaimed; caches can.",
                "percentunit",
                prom(f"1 - {_share(others.HOST_MEMORY, _FREE_MEMORY)}"),
                warn=0.8,
                bad=0.95,
            ),
            is_well(
                "Fullest file system",
                "Share of the space that is not reserved for the system.",
                "percentunit",
                prom(aggregate("max", _disk_full())),
                warn=0.8,
                bad=0.95,
            ),
        ],
        height=4,
    )


def _process() -> Row:
    cpu = aggregate("sum", f"rate({series(PROCESS_CPU_TIME)}[{RATE}])", (*_INSTANCE, CPU_MODE))
    switches = aggregate(
        "sum",
        f"rate({series(PROCESS_CONTEXT_SWITCHES)}[{RATE}])",
        (*_INSTANCE, CONTEXT_SWITCH_TYPE),
    )
    return Row(
        "Processes",
        [
            lines(
                "CPU by process",
                "Share of one CPU, in user and system mode. A process is named by its service and "
                "the first eight characters of its instance ID.",
                "percentunit",
                [prom(_each_process(cpu), f"{_BY_PROCESS} {label(CPU_MODE)}")],
                stacked=True,
            ),
            lines(
                "Memory by process",
                "Physical memory.",
                "bytes",
                [_now(PROCESS_MEMORY_USAGE)],
            ),
            lines(
                "Virtual memory",
                "Virtual memory, used or not: growth without end is a leak.",
                "bytes",
                [_now(PROCESS_MEMORY_VIRTUAL)],
            ),
            lines(
                "Threads",
                "Threads, including those that export telemetry.",
                "short",
                [_now(PROCESS_THREADS)],
            ),
            lines(
                "Open files",
                "Open files and connections: at the limit of the system no client can connect.",
                "short",
                [_now(PROCESS_OPEN_FILES)],
            ),
            lines(
                "Context switches",
                "Per second: voluntary while a process waits, involuntary when others need the "
                "CPU.",
                "ops",
                [prom(_each_process(switches), f"{_BY_PROCESS} {label(CONTEXT_SWITCH_TYPE)}")],
            ),
        ],
        widths=(8,) * 6,
    )


def _event_loop() -> Row:
    return Row(
        "Event loop",
        [
            lines(
                "Event loop lag",
                "Delay with which the event loop resumed a sleeping task. There are no exemplars: "
                "it is not measured in a request.",
                "s",
                [prom(quantile(q, EVENT_LOOP_LAG), f"p{q * 100:g}") for q in (0.99, 0.95, 0.5)],
            ),
            lines(
                "Lag p95 by process",
                "95 % of the time a task was resumed with at most this delay.",
                "s",
                [
                    prom(
                        _each_process(quantile(0.95, EVENT_LOOP_LAG, by=_INSTANCE)),
                        _BY_PROCESS,
                    )
                ],
            ),
            lines(
                "Tasks",
                "Tasks that have not ended: a few for each connection and response. A line that "
                "only rises is a leak.",
                "short",
                [_now(EVENT_LOOP_TASKS)],
            ),
            lines(
                "Uptime",
                "Time since the process started.",
                "s",
                [_now(PROCESS_UPTIME)],
            ),
        ],
    )


def _collector_of_garbage() -> Row:
    generation = f"generation {label(GC_GENERATION)}"
    by = (GC_GENERATION,)
    return Row(
        "Garbage collector",
        [
            lines(
                "Collections",
                "Per second. A collection of the last generation examines all objects, and all "
                "responses wait for it.",
                "ops",
                [prom(rate(GC_COLLECTIONS, by=by), generation)],
            ),
            lines(
                "Collected objects",
                "Objects per second that only referred to each other.",
                "ops",
                [prom(rate(GC_COLLECTED, by=by), generation)],
            ),
            lines(
                "Uncollectable objects",
                "Above 0, something leaks. Normally empty.",
                "short",
                [prom(positive(increase(GC_UNCOLLECTABLE, by=by, over=RATE)), generation)],
            ),
        ],
    )


def _host() -> list[Row]:
    way = f"{label(DEVICE)} {label(WAY)}"
    by_way = (DEVICE, WAY)
    return [
        Row(
            "Host CPU and memory",
            [
                lines(
                    "Host CPU by state",
                    "All CPUs together are 100 %; steal is time that the host of a virtual "
                    "machine kept. In containers this is what the Collector sees.",
                    "percentunit",
                    [
                        prom(
                            f"{rate(others.HOST_CPU, by=(STATE,))} "
                            f"/ scalar({rate(others.HOST_CPU)})",
                            label(STATE),
                        )
                    ],
                    stacked=True,
                ).max(1),
                lines(
                    "Load",
                    "Processes that run or wait for a CPU, over 1, 5 and 15 minutes, and the "
                    "number of CPUs.",
                    "short",
                    [
                        prom(total(others.HOST_LOAD_1), "1 minute"),
                        prom(total(others.HOST_LOAD_5), "5 minutes"),
                        prom(total(others.HOST_LOAD_15), "15 minutes"),
                        prom(total(others.HOST_CPUS), "CPUs"),
                    ],
                ),
                lines(
                    "Host memory by state",
                    "Caches are freed when memory is needed.",
                    "bytes",
                    [prom(total(others.HOST_MEMORY, by=(STATE,)), label(STATE))],
                    stacked=True,
                ),
                lines(
                    "Page faults",
                    "Bytes of pages per second: minor faults are found in memory, major ones wait "
                    "for the disk.",
                    "Bps",
                    [
                        prom(
                            rate(others.HOST_PAGE_FAULTS, by=(others.PAGE_KIND,)),
                            label(others.PAGE_KIND),
                        )
                    ],
                ),
                lines(
                    "Host processes",
                    "By state; blocked processes wait for a disk.",
                    "short",
                    [
                        prom(
                            total(others.HOST_PROCESSES, by=(others.PROCESS_STATE,)),
                            label(others.PROCESS_STATE),
                        )
                    ],
                    stacked=True,
                ),
                lines(
                    "Started processes",
                    "New processes per second.",
                    "ops",
                    [prom(rate(others.HOST_PROCESSES_MADE), "started")],
                ),
            ],
            widths=(8,) * 6,
        ),
        Row(
            "Host disks",
            [
                lines(
                    "File systems",
                    "Share of the space that is not reserved for the system.",
                    "percentunit",
                    [prom(_disk_full(), label(MOUNT))],
                ).max(1),
                lines(
                    "Inodes",
                    "Share of the inodes in use: without a free one no file can be created.",
                    "percentunit",
                    [
                        prom(
                            f"{total(others.HOST_INODES, equals(STATE, 'used'), by=(MOUNT,))} / "
                            f"{total(others.HOST_INODES, by=(MOUNT,))}",
                            label(MOUNT),
                        )
                    ],
                ).max(1),
                lines(
                    "Disk utilisation",
                    "Share of the time in which the disk was busy.",
                    "percentunit",
                    [prom(rate(others.HOST_DISK_BUSY, by=(DEVICE,)), label(DEVICE))],
                ),
                lines(
                    "Disk throughput",
                    "Bytes per second.",
                    "Bps",
                    [prom(rate(others.HOST_DISK_BYTES, by=by_way), way)],
                ),
                lines(
                    "Disk operations",
                    "Reads and writes per second.",
                    "iops",
                    [prom(rate(others.HOST_DISK_OPERATIONS, by=by_way), way)],
                ),
                lines(
                    "Disk latency",
                    "Mean time of a read or a write.",
                    "s",
                    [
                        prom(
                            ratio(
                                rate(others.HOST_DISK_SECONDS, by=by_way),
                                rate(others.HOST_DISK_OPERATIONS, by=by_way),
                            ),
                            way,
                        )
                    ],
                ),
            ],
            widths=(8,) * 6,
        ),
        Row(
            "Host network",
            [
                lines(
                    "Network throughput",
                    "Bytes per second, without the loopback interface.",
                    "Bps",
                    [prom(rate(others.HOST_NETWORK_BYTES, by=by_way), way)],
                ),
                lines(
                    "Lost packets",
                    "Packets per second that were dropped or had errors.",
                    "pps",
                    [
                        prom(rate(others.HOST_NETWORK_DROPPED, by=by_way), f"{way} dropped"),
                        prom(rate(others.HOST_NETWORK_ERRORS, by=by_way), f"{way} errors"),
                    ],
                ),
                lines(
                    "TCP connections",
                    "By state; many in CLOSE_WAIT were not closed by their program.",
                    "short",
                    [
                        prom(
                            f"{total(others.HOST_CONNECTIONS, by=(STATE,))} > 0",
                            label(STATE),
                        )
                    ],
                    stacked=True,
                ),
            ],
        ),
    ]
