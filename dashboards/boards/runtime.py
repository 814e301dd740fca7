"""Runtime and host: is the process, or the machine under it, short of something?"""

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
from dashboards.others import DEVICE, MOUNT, STATE, WAY
from dashboards.panels import Query, is_well, lines, prom
from dashboards.queries import (
    RATE,
    aggregate,
    equals,
    increase,
    matches,
    quantile,
    rate,
    ratio,
    series,
    total,
)

# A process's id is long; eight characters tell it from its neighbours.
_PROCESS: Final = "process"
_BY_PROCESS: Final = f"{{{{{_PROCESS}}}}}"

_IDLE: Final = "idle|wait"
_FREE_MEMORY: Final = "free|cached|buffered|slab_reclaimable|inactive"


def board() -> Dashboard:
    return assemble(
        links.RUNTIME,
        "Whether the service's processes, or the machine under them, are short of something.",
        [_is_it_well(), _process(), _event_loop(), _collector_of_garbage(), *_host()],
    )


def _each_process(expression: str) -> str:
    return f'label_replace({expression}, "{_PROCESS}", "$1", "instance", "(.{{8}}).*")'


def _now(metric: Metric) -> Query:
    return prom(_each_process(series(metric)), _BY_PROCESS)


def _share(metric: others.Series, state: str, by: tuple[str, ...] = ()) -> str:
    """Of a gauge of the host with states, the share that those states have."""
    return f"{total(metric, matches(STATE, state), by=by)} / {total(metric, by=by)}"


def _cpu_busy() -> str:
    idle = rate(others.HOST_CPU, matches(STATE, _IDLE))
    return f"1 - {idle} / {rate(others.HOST_CPU)}"


def _disk_full() -> str:
    used = total(others.HOST_FILES, equals(STATE, "used"), by=(MOUNT,))
    usable = total(others.HOST_FILES, matches(STATE, "used|free"), by=(MOUNT,))
    return f"{used} / {usable}"


def _is_it_well() -> Row:
    return Row(
        "Is it well?",
        [
            is_well(
                "How many processes serve?",
                "Processes that were heard of in the last minute.",
                "short",
                prom(f"count(last_over_time({series(PROCESS_UPTIME)}[1m]))"),
                warn=1,
                bad=0.5,
            ),
            is_well(
                "How busy is the busiest process?",
                "Of one CPU, and an event loop uses no more: near 100 % answers wait for each "
                "other.",
                "percentunit",
                prom(
                    aggregate(
                        "max",
                        aggregate(
                            "sum", f"rate({series(PROCESS_CPU_TIME)}[{RATE}])", ("instance",)
                        ),
                    )
                ),
                warn=0.7,
                bad=0.9,
            ),
            is_well(
                "How late does the event loop wake?",
                "99 of 100 times at most this late: so much is added to each step of each answer.",
                "s",
                prom(quantile(0.99, EVENT_LOOP_LAG)),
                warn=0.1,
                bad=0.5,
            ),
            is_well(
                "How much memory does the service take?",
                "Physical memory of all its processes.",
                "bytes",
                prom(total(PROCESS_MEMORY_USAGE)),
            ),
            is_well(
                "How busy is the machine?",
                "CPU time that was neither idle nor waiting for a disk.",
                "percentunit",
                prom(_cpu_busy()),
                warn=0.8,
                bad=0.95,
            ),
            is_well(
                "How many wait for each CPU?",
                "Load of the last minute for each CPU: above 1, somebody waits.",
                "short",
                prom(f"{total(others.HOST_LOAD_1)} / {total(others.HOST_CPUS)}"),
                warn=1.5,
                bad=4,
            ).decimals(2),
            is_well(
                "How full is the memory?",
                "Memory that cannot be given to somebody else; caches can.",
                "percentunit",
                prom(f"1 - {_share(others.HOST_MEMORY, _FREE_MEMORY)}"),
                warn=0.8,
                bad=0.95,
            ),
            is_well(
                "How full is the fullest file system?",
                "Of what is not reserved for the system.",
                "percentunit",
                prom(aggregate("max", _disk_full())),
                warn=0.8,
                bad=0.95,
            ),
        ],
        height=4,
        widths=(6,) * 8,
    )


def _process() -> Row:
    cpu = aggregate("sum", f"rate({series(PROCESS_CPU_TIME)}[{RATE}])", ("instance", CPU_MODE))
    switches = aggregate(
        "sum",
        f"rate({series(PROCESS_CONTEXT_SWITCHES)}[{RATE}])",
        ("instance", CONTEXT_SWITCH_TYPE),
    )
    return Row(
        "What do the service's processes take?",
        [
            lines(
                "How much CPU does each process take?",
                "Of one CPU, in the program and in the system. A process is named by the first "
                "eight characters of its instance.",
                "percentunit",
                [prom(_each_process(cpu), f"{_BY_PROCESS} {label(CPU_MODE)}")],
                stacked=True,
            ),
            lines(
                "How much memory does each process take?",
                "Physical memory.",
                "bytes",
                [_now(PROCESS_MEMORY_USAGE)],
            ),
            lines(
                "How much memory has each process asked for?",
                "Virtual memory, used or not: what grows without end is a leak.",
                "bytes",
                [_now(PROCESS_MEMORY_VIRTUAL)],
            ),
            lines(
                "How many threads has each process?",
                "Threads, those that send telemetry among them.",
                "short",
                [_now(PROCESS_THREADS)],
            ),
            lines(
                "How many files has each process open?",
                "Open files and connections: at the limit of the system nobody can connect.",
                "short",
                [_now(PROCESS_OPEN_FILES)],
            ),
            lines(
                "How often is each process put off the CPU?",
                "Context switches a second: voluntary while it waits, involuntary when others "
                "want the CPU as well.",
                "ops",
                [prom(_each_process(switches), f"{_BY_PROCESS} {label(CONTEXT_SWITCH_TYPE)}")],
            ),
        ],
        widths=(8,) * 6,
    )


def _event_loop() -> Row:
    return Row(
        "Does the event loop keep up?",
        [
            lines(
                "How late does the event loop wake, at worst?",
                "A sleeper woke so much later than it had asked; half, 95, 99 of 100 times at "
                "most. No dot here leads to a trace: it is nobody's answer that is measured.",
                "s",
                [prom(quantile(q, EVENT_LOOP_LAG), f"p{q * 100:g}") for q in (0.99, 0.95, 0.5)],
            ),
            lines(
                "Which process wakes late?",
                "95 of 100 times at most so late.",
                "s",
                [
                    prom(
                        _each_process(quantile(0.95, EVENT_LOOP_LAG, by=("instance",))),
                        _BY_PROCESS,
                    )
                ],
            ),
            lines(
                "How many tasks does each event loop have?",
                "Those that have not ended: a few for each connection and answer. A line that only "
                "rises is a leak.",
                "short",
                [_now(EVENT_LOOP_TASKS)],
            ),
            lines(
                "How long has each process been running?",
                "A line that falls to the ground is a restart.",
                "s",
                [_now(PROCESS_UPTIME)],
            ),
        ],
    )


def _collector_of_garbage() -> Row:
    generation = f"generation {label(GC_GENERATION)}"
    by = (GC_GENERATION,)
    return Row(
        "What does the garbage collector do?",
        [
            lines(
                "How often is garbage collected?",
                "Collections a second. The last generation looks at everything, and all answers "
                "wait for it.",
                "ops",
                [prom(rate(GC_COLLECTIONS, by=by), generation)],
            ),
            lines(
                "How much garbage is found?",
                "Objects a second that only referred to each other.",
                "ops",
                [prom(rate(GC_COLLECTED, by=by), generation)],
            ),
            lines(
                "How much garbage can nobody collect?",
                "Objects in the time shown: above 0, something leaks.",
                "short",
                [prom(increase(GC_UNCOLLECTABLE, by=by, over=RATE), generation)],
            ),
        ],
    )


def _host() -> list[Row]:
    way = f"{label(DEVICE)} {label(WAY)}"
    by_way = (DEVICE, WAY)
    return [
        Row(
            "Is the machine short of CPU or memory?",
            [
                lines(
                    "What does the machine's CPU time go to?",
                    "All CPUs together are 100 %; steal is time that the host of a virtual "
                    "machine kept. In containers this is the Collector's view.",
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
                    "How many want a CPU?",
                    "Load: how many processes run or wait to, over 1, 5 and 15 minutes, beside "
                    "the CPUs that there are.",
                    "short",
                    [
                        prom(total(others.HOST_LOAD_1), "1 minute"),
                        prom(total(others.HOST_LOAD_5), "5 minutes"),
                        prom(total(others.HOST_LOAD_15), "15 minutes"),
                        prom(total(others.HOST_CPUS), "CPUs"),
                    ],
                ),
                lines(
                    "What is the machine's memory used for?",
                    "Caches are given back when they are needed.",
                    "bytes",
                    [prom(total(others.HOST_MEMORY, by=(STATE,)), label(STATE))],
                    stacked=True,
                ),
                lines(
                    "How much memory is fetched?",
                    "Page faults, in bytes of pages a second, as the receiver counts them: minor "
                    "ones are found in memory, major ones wait for the disk.",
                    "Bps",
                    [
                        prom(
                            rate(others.HOST_PAGE_FAULTS, by=(others.PAGE_KIND,)),
                            label(others.PAGE_KIND),
                        )
                    ],
                ),
                lines(
                    "How many processes are there?",
                    "By what they are doing; blocked ones wait for a disk.",
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
                    "How many processes are started?",
                    "New processes a second.",
                    "ops",
                    [prom(rate(others.HOST_PROCESSES_MADE), "started")],
                ),
            ],
            widths=(8,) * 6,
        ),
        Row(
            "Is the machine short of disk?",
            [
                lines(
                    "How full is each file system?",
                    "Of what is not reserved for the system.",
                    "percentunit",
                    [prom(_disk_full(), label(MOUNT))],
                ).max(1),
                lines(
                    "How full are the tables of files?",
                    "Inodes: without one there is no new file, however much room is left.",
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
                    "How busy is each disk?",
                    "Share of the time in which it had something to do.",
                    "percentunit",
                    [prom(rate(others.HOST_DISK_BUSY, by=(DEVICE,)), label(DEVICE))],
                ),
                lines(
                    "How much is read and written?",
                    "Bytes a second.",
                    "Bps",
                    [prom(rate(others.HOST_DISK_BYTES, by=by_way), way)],
                ),
                lines(
                    "How many operations do disks do?",
                    "Reads and writes a second.",
                    "iops",
                    [prom(rate(others.HOST_DISK_OPERATIONS, by=by_way), way)],
                ),
                lines(
                    "How long does a disk take for one operation?",
                    "Seconds for a read or a write, on average.",
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
            "Is the network well?",
            [
                lines(
                    "How much goes over the network?",
                    "Bytes a second; what stays on this machine is not in it.",
                    "Bps",
                    [prom(rate(others.HOST_NETWORK_BYTES, by=by_way), way)],
                ),
                lines(
                    "What does the network lose?",
                    "Packets a second that were dropped or broken.",
                    "pps",
                    [
                        prom(rate(others.HOST_NETWORK_DROPPED, by=by_way), f"{way} dropped"),
                        prom(rate(others.HOST_NETWORK_ERRORS, by=by_way), f"{way} broken"),
                    ],
                ),
                lines(
                    "In which states are the connections?",
                    "TCP connections of this machine; many in CLOSE_WAIT are forgotten ones.",
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
