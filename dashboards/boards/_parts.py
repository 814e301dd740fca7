"""The parts of the stack, as they tell of themselves: rows of the board of the pipeline."""

from typing import Final

from dashboards import others
from dashboards.board import Row
from dashboards.legends import label
from dashboards.others import EXPORTER, JOB, REASON, Series
from dashboards.panels import Query, lines, prom
from dashboards.queries import aggregate, equals, matches, quantile, rate, series, total

# What is rightly not there as long as nothing of it ever happened.
QUIET: Final = "Empty in health."

PARTS: Final = "collector|prometheus|loki|tempo|alertmanager"
OWN: Final = equals(JOB, "prometheus")  # Loki and Tempo have a Prometheus inside, too


def or_nothing(by_label: str) -> str:
    """0 as long as there is no series at all."""
    return f"({by_label} or on () vector(0))"


def collector() -> Row:
    queue = f"max by ({EXPORTER}) ({others.EXPORT_QUEUE_SIZE.prometheus} / "
    queue += f"{others.EXPORT_QUEUE_CAPACITY.prometheus})"
    return Row(
        "Is the Collector well?",
        [
            lines(
                "How full are the Collector's queues?",
                "By exporter: it waits here for a store that is away or slow.",
                "percentunit",
                [prom(queue, label(EXPORTER))],
            ).axis_soft_max(0.1),
            lines(
                "How many requests are under way to the stores?",
                "By exporter: many at a time are waiting for a slow store.",
                "short",
                [prom(total(others.EXPORTS_IN_FLIGHT, by=(EXPORTER,)), label(EXPORTER))],
            ),
            lines(
                "How much memory does the Collector take?",
                "Past 384 MiB of its own data it refuses what comes.",
                "bytes",
                [prom(total(others.COLLECTOR_MEMORY), "resident")],
            ),
            lines(
                "How much CPU does the Collector take?",
                "Of one CPU.",
                "percentunit",
                [prom(rate(others.COLLECTOR_CPU), "CPU")],
            ),
            lines(
                "Does the Collector see the host?",
                "Points a second that it could not read, by scraper.",
                "short",
                [prom(rate(others.SCRAPE_ERRORS, by=(others.SCRAPER,)), label(others.SCRAPER))],
            ),
            lines(
                "How many calls does the service graph see?",
                "A second: all, and those whose other end sends no spans: a browser's, a model's "
                "provider's.",
                "short",
                [
                    prom(rate(others.GRAPH_EDGES), "all"),
                    prom(rate(others.GRAPH_EDGES_EXPIRED), "one end only"),
                ],
            ),
        ],
        widths=(8,) * 6,
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
        "Are the stores well?",
        [
            lines(
                "Which parts are up?",
                "1: Prometheus reaches it.",
                "short",
                [prom(_of_parts(others.UP), label(JOB))],
            ),
            lines(
                "How much memory do the stores take?",
                "Physical memory of each part.",
                "bytes",
                [prom(_of_parts(others.PART_MEMORY), label(JOB))],
            ),
            lines(
                "How much CPU do the stores take?",
                "Of one CPU, each part.",
                "percentunit",
                [prom(_of_parts(others.PART_CPU, counter=True), label(JOB))],
            ),
            lines(
                "How many files have the stores open?",
                "Files and connections of each part.",
                "short",
                [prom(_of_parts(others.PART_OPEN_FILES), label(JOB))],
            ),
            lines(
                "How much has Prometheus on disk?",
                "Blocks of two hours and more, the log of what is not yet in one, and the newest "
                "chunks.",
                "bytes",
                [
                    prom(total(one, OWN), what)
                    for one, what in zip(kept, ("blocks", "log", "newest"), strict=True)
                ],
                stacked=True,
            ),
            lines(
                "How much have Tempo and Loki on disk?",
                "Tempo: blocks, as it counts them every five minutes, and those for TraceQL "
                "metrics. Loki does not tell: what it wrote to chunks since its start.",
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
                "How many blocks has Tempo, and how big are they?",
                "Counted every five minutes, so a new stack has none yet. " + QUIET,
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
                "How long do the parts take to tell of themselves?",
                "Seconds of each scrape; 15 s is the end of it.",
                "s",
                [prom(_of_parts(others.SCRAPE_SECONDS), label(JOB))],
            ),
            lines(
                "When did each part start?",
                "How long it has been running; a line that falls to the ground is a restart.",
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
    )


def prometheus() -> Row:
    write = equals(others.HANDLER, "/api/v1/write")
    return Row(
        "Is Prometheus well?",
        [
            lines(
                "How many series does Prometheus hold?",
                "In memory: too many are what it dies of.",
                "short",
                [prom(total(others.PROMETHEUS_SERIES, OWN), "series")],
            ),
            lines(
                "How many exemplars are kept?",
                "The newest ones, as many as there is room for: older dots vanish from boards.",
                "short",
                [
                    prom(total(others.PROMETHEUS_EXEMPLARS, OWN), "kept"),
                    prom(total(others.PROMETHEUS_EXEMPLARS_MOST, OWN), "room"),
                ],
            ),
            lines(
                "How does Prometheus answer the Collector?",
                "Writes a second, by status: other than 2xx are refused.",
                "reqps",
                [
                    prom(
                        rate(others.PROMETHEUS_ANSWERED, write, by=(others.HTTP_CODE,)),
                        label(others.HTTP_CODE),
                    )
                ],
            ),
            lines(
                "How long does Prometheus take?",
                "95 of 100 requests at most, by what is asked.",
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
    )


def loki() -> Row:
    return Row(
        "Is Loki well?",
        [
            lines(
                "How much does Loki take in?",
                "Bytes a second, structured metadata among them.",
                "Bps",
                [
                    prom(rate(others.LOKI_RECEIVED_BYTES), "received"),
                    prom(rate(others.LOKI_WAL_BYTES), "written to its log"),
                ],
            ),
            lines(
                "How many streams and chunks does Loki hold?",
                "A stream for each set of labels: few are right.",
                "short",
                [
                    prom(total(others.LOKI_STREAMS), "streams"),
                    prom(total(others.LOKI_CHUNKS), "chunks"),
                ],
            ),
            lines(
                "How does Loki answer?",
                "Requests a second, by status.",
                "reqps",
                [
                    prom(
                        rate(others.LOKI_REQUESTS, by=(others.STATUS,), part="count"),
                        label(others.STATUS),
                    )
                ],
            ),
            lines(
                "How long does Loki take?",
                "95 of 100 requests at most, by what is asked.",
                "s",
                _slowness(others.LOKI_REQUESTS, "otlp_v1_logs|loki_api_v1_query.*"),
            ),
            lines(
                "What went wrong in Loki?",
                "In a second: chunks that could not be written, lines that were cut, crashes.",
                "short",
                [
                    prom(rate(others.LOKI_FLUSH_FAILURES), "chunks not written"),
                    prom(rate(others.LOKI_MUTATED), "lines cut"),
                    prom(rate(others.LOKI_PANICS), "crashes"),
                ],
            ),
        ],
        widths=(8, 8, 8, 12, 12),
    )


def tempo() -> Row:
    return Row(
        "Is Tempo well?",
        [
            lines(
                "How many traces does Tempo hold in memory?",
                "Each half second they go to disk; Tempo says only then that it has them.",
                "short",
                [prom(total(others.TEMPO_LIVE_TRACES), "traces")],
            ),
            lines(
                "How does Tempo answer?",
                "Requests a second, by status; a 404 is a trace that is not there yet.",
                "reqps",
                [
                    prom(
                        rate(others.TEMPO_REQUESTS, by=(others.STATUS,), part="count"),
                        label(others.STATUS),
                    )
                ],
            ),
            lines(
                "How long does Tempo take?",
                "95 of 100 requests at most, by what is asked.",
                "s",
                _slowness(others.TEMPO_REQUESTS, "/tempopb.Pusher/PushBytesV2|api_.*"),
            ),
            lines(
                "What went wrong in Tempo?",
                "In a second: spans refused at its door, blocks that could not be written.",
                "short",
                [
                    prom(rate(others.TEMPO_REFUSED), "spans refused"),
                    prom(rate(others.TEMPO_FAILED_FLUSHES), "blocks not written"),
                ],
            ),
            lines(
                "Which traces came in pieces?",
                "A second, by what was missing when they were written: a span that came late is "
                "found all the same.",
                "short",
                [prom(rate(others.TEMPO_WARNINGS, by=(REASON,)), label(REASON))],
            ),
        ],
        widths=(8, 8, 8, 12, 12),
    )


def _slowness(requests: Series, asked: str) -> list[Query]:
    where = matches(others.ROUTE_LABEL, asked)
    return [prom(quantile(0.95, requests, where, by=(others.ROUTE_LABEL,)), label("route"))]
