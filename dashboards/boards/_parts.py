"""The components of the stack by their own metrics: rows of the dashboard Pipeline."""

from typing import Final

from dashboards import others
from dashboards.board import Row
from dashboards.legends import label
from dashboards.others import EXPORTER, JOB, REASON, Series
from dashboards.panels import Query, lines, prom
from dashboards.queries import aggregate, equals, matches, quantile, rate, series, total

# Last sentence of the description of a panel that may be empty.
QUIET: Final = "Normally empty."

PARTS: Final = "collector|prometheus|loki|tempo|alertmanager"
OWN: Final = equals(JOB, "prometheus")  # Loki and Tempo have a Prometheus inside, too


def or_nothing(by_label: str) -> str:
    """Return 0 while no series exists."""
    return f"({by_label} or on () vector(0))"


def collector() -> Row:
    queue = f"max by ({EXPORTER}) ({others.EXPORT_QUEUE_SIZE.prometheus} / "
    queue += f"{others.EXPORT_QUEUE_CAPACITY.prometheus})"
    return Row(
        "Collector",
        [
            lines(
                "Queue usage",
                "Share of the Collector's queues in use, by exporter: telemetry for a backend "
                "that is unreachable or slow.",
                "percentunit",
                [prom(queue, label(EXPORTER))],
            ).axis_soft_max(0.1),
            lines(
                "Exports in progress",
                "Requests to the backends, by exporter: many at a time wait for a slow backend.",
                "short",
                [prom(total(others.EXPORTS_IN_FLIGHT, by=(EXPORTER,)), label(EXPORTER))],
            ),
            lines(
                "Collector memory",
                "Above 384 MiB of its own data the Collector rejects telemetry.",
                "bytes",
                [prom(total(others.COLLECTOR_MEMORY), "resident")],
            ),
            lines(
                "Collector CPU",
                "Share of one CPU.",
                "percentunit",
                [prom(rate(others.COLLECTOR_CPU), "CPU")],
            ),
            lines(
                "Scraper errors",
                "Points per second of the host that could not be read, by scraper.",
                "short",
                [prom(rate(others.SCRAPE_ERRORS, by=(others.SCRAPER,)), label(others.SCRAPER))],
            ),
            lines(
                "Service graph edges",
                "Calls per second: all, and those with one end only, because the other sends no "
                "spans, such as a browser or a model's provider.",
                "short",
                [
                    prom(rate(others.GRAPH_EDGES), "all"),
                    prom(rate(others.GRAPH_EDGES_EXPIRED), "one end only"),
                ],
            ),
        ],
        widths=(8,) * 6,
        folded=True,
    )


def _of_parts(metric: Series, *, counter: bool = False) -> str:
    where = matches(JOB, PARTS)
    by = (JOB,)
    return rate(metric, where, by=by) if counter else total(metric, where, by=by)


def stores() -> Row:
    kept = (
        others.PROMETHEUS_BLOCK_BYTES,
        others.PROMETHEUS_WAL_BYTES,
        others.PROMETHEUS_HEAD_BYTES,
    )
    return Row(
        "Backends",
        [
            lines(
                "Up",
                "1: Prometheus can scrape the component.",
                "short",
                [prom(_of_parts(others.UP), label(JOB))],
            ),
            lines(
                "Memory",
                "Physical memory of each component.",
                "bytes",
                [prom(_of_parts(others.PART_MEMORY), label(JOB))],
            ),
            lines(
                "CPU",
                "Share of one CPU, of each component.",
                "percentunit",
                [prom(_of_parts(others.PART_CPU, counter=True), label(JOB))],
            ),
            lines(
                "Open files",
                "Files and connections of each component.",
                "short",
                [prom(_of_parts(others.PART_OPEN_FILES), label(JOB))],
            ),
            lines(
                "Prometheus disk usage",
                "Blocks of two hours and more, the write-ahead log, and the newest chunks.",
                "bytes",
                [
                    prom(total(one, OWN), what)
                    for one, what in zip(
                        kept, ("blocks", "write-ahead log", "newest chunks"), strict=True
                    )
                ],
                stacked=True,
            ),
            lines(
                "Tempo and Loki disk",
                "Tempo: blocks for TraceQL metrics. Loki: bytes written to chunks since its start, "
                "because it has no metric of its disk usage.",
                "bytes",
                [
                    prom(total(others.TEMPO_LOCAL_BYTES), "Tempo, for metrics"),
                    prom(
                        aggregate("sum", series(others.LOKI_CHUNK_BYTES, part="sum")),
                        "Loki, chunks written",
                    ),
                ],
            ),
            lines(
                "Tempo blocks",
                "Size, counted every five minutes: a new stack has none yet. " + QUIET,
                "bytes",
                [
                    prom(
                        or_nothing(total(others.TEMPO_STORED_BYTES, by=("status",))),
                        f"blocks {label('status')}",
                    )
                ],
                stacked=True,
            ),
            lines(
                "Scrape duration",
                "Time of each scrape, which ends after 15 s.",
                "s",
                [prom(_of_parts(others.SCRAPE_SECONDS), label(JOB))],
            ),
            lines(
                "Component uptime",
                "Time since each component started.",
                "s",
                [
                    prom(
                        f"time() - max by ({JOB}) "
                        f"({series(others.PART_STARTED, matches(JOB, PARTS))})",
                        label(JOB),
                    ),
                    prom(total(others.COLLECTOR_UPTIME), "collector"),
                ],
            ),
        ],
        widths=(8,) * 9,
        folded=True,
    )


def prometheus() -> Row:
    write = equals(others.HANDLER, "/api/v1/write")
    return Row(
        "Prometheus",
        [
            lines(
                "Series in memory",
                "Too many exhaust the memory of Prometheus.",
                "short",
                [prom(total(others.PROMETHEUS_SERIES, OWN), "series")],
            ),
            lines(
                "Exemplars stored",
                "The newest exemplars and their capacity: older dots disappear from dashboards.",
                "short",
                [
                    prom(total(others.PROMETHEUS_EXEMPLARS, OWN), "stored"),
                    prom(total(others.PROMETHEUS_EXEMPLARS_MOST, OWN), "capacity"),
                ],
            ),
            lines(
                "Writes by status",
                "Writes of the Collector per second: all but 2xx are rejected.",
                "reqps",
                [
                    prom(
                        rate(others.PROMETHEUS_ANSWERED, write, by=(others.HTTP_CODE,)),
                        label(others.HTTP_CODE),
                    )
                ],
            ),
            lines(
                "Prometheus p95",
                "Duration of requests by endpoint.",
                "s",
                [
                    prom(
                        quantile(
                            0.95,
                            others.PROMETHEUS_REQUESTS,
                            matches(
                                others.HANDLER, "/api/v1/(write|query|query_range|query_exemplars)"
                            ),
                            by=(others.HANDLER,),
                        ),
                        label(others.HANDLER),
                    )
                ],
            ),
        ],
        folded=True,
    )


def loki() -> Row:
    return Row(
        "Loki",
        [
            lines(
                "Loki throughput",
                "Bytes per second, including structured metadata.",
                "Bps",
                [
                    prom(rate(others.LOKI_RECEIVED_BYTES), "received"),
                    prom(rate(others.LOKI_WAL_BYTES), "written to the write-ahead log"),
                ],
            ),
            lines(
                "Streams and chunks",
                "In memory. Each set of labels is a stream: there should be few.",
                "short",
                [
                    prom(total(others.LOKI_STREAMS), "streams"),
                    prom(total(others.LOKI_CHUNKS), "chunks"),
                ],
            ),
            lines(
                "Loki requests",
                "Requests per second by status.",
                "reqps",
                [
                    prom(
                        rate(others.LOKI_REQUESTS, by=(others.STATUS,), part="count"),
                        label(others.STATUS),
                    )
                ],
            ),
            lines(
                "Loki p95",
                "Duration of requests by endpoint.",
                "s",
                _slowness(others.LOKI_REQUESTS, "otlp_v1_logs|loki_api_v1_query.*"),
            ),
            lines(
                "Loki failures",
                "Per second: chunks that could not be written, lines that were truncated, panics.",
                "short",
                [
                    prom(rate(others.LOKI_FLUSH_FAILURES), "chunks not written"),
                    prom(rate(others.LOKI_MUTATED), "lines truncated"),
                    prom(rate(others.LOKI_PANICS), "panics"),
                ],
            ),
        ],
        widths=(8, 8, 8, 12, 12),
        folded=True,
    )


def tempo() -> Row:
    return Row(
        "Tempo",
        [
            lines(
                "Live traces",
                "Traces in memory. They are written to disk every half second, and acknowledged "
                "then.",
                "short",
                [prom(total(others.TEMPO_LIVE_TRACES), "traces")],
            ),
            lines(
                "Tempo requests",
                "Requests per second by status; a 404 is a trace that has not arrived yet.",
                "reqps",
                [
                    prom(
                        rate(others.TEMPO_REQUESTS, by=(others.STATUS,), part="count"),
                        label(others.STATUS),
                    )
                ],
            ),
            lines(
                "Tempo p95",
                "Duration of requests by endpoint.",
                "s",
                _slowness(others.TEMPO_REQUESTS, "/tempopb.Pusher/PushBytesV2|api_.*"),
            ),
            lines(
                "Tempo failures",
                "Per second: spans rejected on arrival, blocks that could not be written.",
                "short",
                [
                    prom(rate(others.TEMPO_REFUSED), "spans rejected"),
                    prom(rate(others.TEMPO_FAILED_FLUSHES), "blocks not written"),
                ],
            ),
            lines(
                "Incomplete traces",
                "Per second, by what was missing when they were written. A span that arrives late "
                "is found nevertheless.",
                "short",
                [prom(rate(others.TEMPO_WARNINGS, by=(REASON,)), label(REASON))],
            ),
        ],
        widths=(8, 8, 8, 12, 12),
        folded=True,
    )


def _slowness(requests: Series, asked: str) -> list[Query]:
    where = matches(others.ROUTE_LABEL, asked)
    return [prom(quantile(0.95, requests, where, by=(others.ROUTE_LABEL,)), label("route"))]
