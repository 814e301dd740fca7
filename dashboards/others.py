"""Names that the service does not make: what the Collector derives from its spans, what the
parts of the stack tell of themselves, and the words of Loki and TraceQL.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from chatscope.names import (
    ANSWER_EMPTY,
    ERROR_TYPE,
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_TOKEN_TYPE,
    HTTP_ROUTE,
)


@dataclass(frozen=True)
class Series:
    """A metric of another part: its name in Prometheus and the labels that matter to boards.

    `of_service` tells that it has `service_name`, as the service's own have.
    """

    prometheus: str
    attributes: tuple[str, ...] = ()
    of_service: bool = False


# -- span metrics, made by the Collector from the service's spans ---------------------

SPAN_NAME: Final = "span_name"
SPAN_KIND: Final = "span_kind"
STATUS_CODE: Final = "status_code"
KIND_SERVER: Final = "SPAN_KIND_SERVER"
STATUS_ERROR: Final = "STATUS_CODE_ERROR"

_SPAN: Final = (
    SPAN_NAME,
    SPAN_KIND,
    STATUS_CODE,
    GEN_AI_REQUEST_MODEL,
    ERROR_TYPE,
    HTTP_ROUTE,
    ANSWER_EMPTY,
)
SPAN_CALLS: Final = Series("traces_span_metrics_calls_total", _SPAN, of_service=True)
SPAN_SECONDS: Final = Series("traces_span_metrics_duration_seconds", _SPAN, of_service=True)
# The span of a request or a message names no model: a choice of models must not hide it.
SERVER_SPAN_SECONDS: Final = Series(
    SPAN_SECONDS.prometheus,
    (SPAN_NAME, SPAN_KIND, STATUS_CODE, ERROR_TYPE, HTTP_ROUTE),
    of_service=True,
)

# -- model calls, which the rules unite from older and newer names ---------------------

_CALL: Final = (GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL)
CALL_SECONDS: Final = Series(
    "chatscope:inference_duration_seconds", (*_CALL, ERROR_TYPE), of_service=True
)
FIRST_CHUNK_SECONDS: Final = Series(
    "chatscope:inference_time_to_first_chunk_seconds", _CALL, of_service=True
)
CALL_TOKENS: Final = Series(
    "chatscope:inference_tokens", (*_CALL, GEN_AI_TOKEN_TYPE), of_service=True
)

# -- what the rules keep for the objectives ------------------------------------------

OBJECTIVE: Final = "objective"
OBJECTIVE_EVENTS: Final = Series("chatscope:objective_events:rise", (OBJECTIVE,), of_service=True)
OBJECTIVE_BAD: Final = Series("chatscope:objective_bad_events:rise", (OBJECTIVE,), of_service=True)

# Made by sloth, by its own names.
SLO: Final = "sloth_slo"
SLO_SERVICE: Final = "sloth_service"
_SLO: Final = (SLO, SLO_SERVICE)
SLO_TARGET: Final = Series("slo:objective:ratio", _SLO)
SLO_BUDGET: Final = Series("slo:error_budget:ratio", _SLO)
SLO_DAYS: Final = Series("slo:time_period:days", _SLO)
SLO_BURN: Final = Series("slo:current_burn_rate:ratio", _SLO)
SLO_LEFT: Final = Series("slo:period_error_budget_remaining:ratio", _SLO)
# The share of bad events, by over how long.
SLO_BAD: Final = {
    window: Series(f"slo:sli_error:ratio_rate{window}", _SLO)
    for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
}

# What was spent in the last 24 hours, and what may be.
DAY_COST: Final = Series("chatscope:cost_of_day:usd", of_service=True)
DAY_BUDGET: Final = Series("chatscope:cost_budget_of_day:usd")

# The ledger: of each signal what came into a hop, what left it, and the difference.
TOLD_OF: Final = "signal"
OF_SPANS: Final = "spans"
OF_LOGS: Final = "logs"
OF_POINTS: Final = "points"
HOP: Final = "hop"
_LEDGER: Final = (TOLD_OF, HOP)
LEDGER_IN: Final = Series("chatscope:telemetry_in:rise", _LEDGER)
LEDGER_OUT: Final = Series("chatscope:telemetry_out:rise", _LEDGER)
# A second: what its store has taken, and not thrown away.
LEDGER_STORED: Final = Series("chatscope:telemetry_stored:rate", (TOLD_OF,))
LEDGER_DIFFERENCE: Final = Series("chatscope:telemetry_difference:rise", _LEDGER)
# Something waits, or a part is younger than the account: then a difference says nothing.
LEDGER_UNSETTLED: Final = Series("chatscope:telemetry_unsettled:max")

# -- alerts, as Prometheus keeps them ---------------------------------------------------

ALERT_NAME: Final = "alertname"
ALERT_SEVERITY: Final = "severity"
ALERT_AREA: Final = "area"
ALERT_STAGE: Final = "alertstate"
FIRING: Final = "firing"
_ALERT: Final = (ALERT_NAME, ALERT_SEVERITY, ALERT_AREA)
ALERT: Final = Series("ALERTS", (*_ALERT, ALERT_STAGE))
# Its value: since when, in seconds since 1970.
ALERT_SINCE: Final = Series("ALERTS_FOR_STATE", _ALERT)
# Recorded beside each alert: the value of its expression, which ALERTS lacks.
ALERT_UNIT: Final = "unit"
ALERT_VALUE: Final = Series("chatscope:alert_value", (ALERT_NAME, ALERT_UNIT))

# -- the parts of the stack --------------------------------------------------------

UP: Final = Series("up")
# By the Collector, which asks the service: 1 for the class of the status that it answered with.
STATUS_CLASS: Final = "http.status_class"
CHECKED: Final = Series("httpcheck_status", (STATUS_CLASS,), of_service=True)
JOB: Final = "job"
INSTANCE: Final = "instance"
ALERTS: Final = Series("alertmanager_alerts", ("state",))
ALERT_STATE: Final = "state"
ALERT_ACTIVE: Final = "active"

# -- the Collector's way through, for each signal ----------------------------------------

RECEIVER: Final = "receiver"
EXPORTER: Final = "exporter"
SCRAPER: Final = "scraper"


class Hop(NamedTuple):
    """What the Collector tells of one signal: what came, what left, and what did not.

    Those of failures are there only after the first one.
    """

    accepted: Series
    refused: Series
    failed: Series
    sent: Series
    send_failed: Series
    enqueue_failed: Series


def _hop(items: str) -> Hop:
    receiver, exporter = "otelcol_receiver", "otelcol_exporter"
    return Hop(
        Series(f"{receiver}_accepted_{items}", (RECEIVER,)),
        Series(f"{receiver}_refused_{items}", (RECEIVER,)),
        Series(f"{receiver}_failed_{items}", (RECEIVER,)),
        Series(f"{exporter}_sent_{items}", (EXPORTER,)),
        Series(f"{exporter}_send_failed_{items}", (EXPORTER,)),
        Series(f"{exporter}_enqueue_failed_{items}", (EXPORTER,)),
    )


# The components of otel-collector-config.yaml. Metrics go through a queue on disk to a receiver of
# the Collector's own; what is seen past it is each try, and was counted before.
OTLP: Final = "otlp"
TO_TEMPO: Final = "otlp_grpc/tempo"
TO_LOKI: Final = "otlp_http/loki"
TO_PROMETHEUS: Final = "otlp_grpc/prometheus"
PAST_QUEUE_IN: Final = "otlp/prometheus"
PAST_QUEUE_OUT: Final = "prometheus_remote_write"

SPANS_THROUGH: Final = _hop("spans")
LOGS_THROUGH: Final = _hop("log_records")
POINTS_THROUGH: Final = _hop("metric_points")
HOPS: Final = (SPANS_THROUGH, LOGS_THROUGH, POINTS_THROUGH)

# Of metric points, what the last processor of each pipeline handed on: those that are made of spans
# come by no receiver.
PROCESSOR: Final = "processor"
POINTS_PROCESSED: Final = Series("otelcol_processor_outgoing_items", (PROCESSOR,))
LAST_OF_POINTS: Final = "transform/(service_name|spans)"
# Delta points that were added up; with an error, those that could not be and were dropped.
DELTA_ERROR: Final = "error"
DELTA_POINTS: Final = Series("otelcol_deltatocumulative_datapoints", (DELTA_ERROR,))

EXPORT_QUEUE_SIZE: Final = Series("otelcol_exporter_queue_size", (EXPORTER,))
EXPORT_QUEUE_CAPACITY: Final = Series("otelcol_exporter_queue_capacity", (EXPORTER,))
EXPORTS_IN_FLIGHT: Final = Series("otelcol_exporter_in_flight_requests", (EXPORTER,))
SCRAPE_ERRORS: Final = Series("otelcol_scraper_errored_metric_points", (SCRAPER,))
GRAPH_EDGES: Final = Series("otelcol_connector_servicegraph_total_edges")
GRAPH_EDGES_EXPIRED: Final = Series("otelcol_connector_servicegraph_expired_edges")
COLLECTOR_CPU: Final = Series("otelcol_process_cpu_seconds")
COLLECTOR_MEMORY: Final = Series("otelcol_process_memory_rss")
COLLECTOR_UPTIME: Final = Series("otelcol_process_uptime")

# -- what the stores tell of themselves ------------------------------------------------------

# All that are written in Go tell these; the Collector has its own.
PART_CPU: Final = Series("process_cpu_seconds_total", (JOB,))
PART_MEMORY: Final = Series("process_resident_memory_bytes", (JOB,))
PART_STARTED: Final = Series("process_start_time_seconds", (JOB,))
PART_OPEN_FILES: Final = Series("process_open_fds", (JOB,))
SCRAPE_SECONDS: Final = Series("scrape_duration_seconds", (JOB,))

REASON: Final = "reason"
ROUTE_LABEL: Final = "route"
STATUS: Final = "status_code"
HANDLER: Final = "handler"
HTTP_CODE: Final = "code"
KIND_LABEL: Final = "type"

TEMPO_RECEIVED: Final = Series("tempo_distributor_spans_received_total")
TEMPO_ACCEPTED: Final = Series("tempo_receiver_accepted_spans")
TEMPO_REFUSED: Final = Series("tempo_receiver_refused_spans")
TEMPO_DISCARDED: Final = Series("tempo_discarded_spans_total", (REASON,))
TEMPO_GENERATOR_DISCARDED: Final = Series(
    "tempo_metrics_generator_spans_discarded_total", (REASON,)
)
TEMPO_LIVE_TRACES: Final = Series("tempo_ingester_live_traces")
TEMPO_FAILED_FLUSHES: Final = Series("tempo_ingester_failed_flushes_total")
TEMPO_WARNINGS: Final = Series("tempo_warnings_total", (REASON,))
TEMPO_LOCAL_BYTES: Final = Series("tempo_metrics_generator_processor_local_blocks_bytes")
TEMPO_STORED_BYTES: Final = Series("tempodb_backend_bytes_total")
TEMPO_BLOCKS: Final = Series("tempodb_blocklist_length")
TEMPO_REQUESTS: Final = Series("tempo_request_duration_seconds", (ROUTE_LABEL, STATUS))

LOKI_RECEIVED: Final = Series("loki_distributor_lines_received_total")
LOKI_RECEIVED_BYTES: Final = Series("loki_distributor_bytes_received_total")
LOKI_DISCARDED: Final = Series("loki_discarded_samples_total", (REASON,))
LOKI_MUTATED: Final = Series("loki_mutated_samples_total", (REASON,))
LOKI_FLUSH_FAILURES: Final = Series("loki_ingester_chunks_flush_failures_total")
LOKI_STREAMS: Final = Series("loki_ingester_memory_streams")
LOKI_CHUNKS: Final = Series("loki_ingester_memory_chunks")
LOKI_CHUNK_BYTES: Final = Series("loki_ingester_chunk_size_bytes")
LOKI_WAL_BYTES: Final = Series("loki_ingester_wal_logged_bytes_total")
LOKI_PANICS: Final = Series("loki_panic_total")
LOKI_REQUESTS: Final = Series("loki_request_duration_seconds", (ROUTE_LABEL, STATUS))

PROMETHEUS_APPENDED: Final = Series("prometheus_tsdb_head_samples_appended_total", (KIND_LABEL,))
PROMETHEUS_SERIES: Final = Series("prometheus_tsdb_head_series")
PROMETHEUS_EXEMPLARS: Final = Series("prometheus_tsdb_exemplar_exemplars_in_storage")
PROMETHEUS_EXEMPLARS_MOST: Final = Series("prometheus_tsdb_exemplar_max_exemplars")
PROMETHEUS_OUT_OF_ORDER: Final = Series("prometheus_tsdb_out_of_order_samples_total")
PROMETHEUS_OUT_OF_BOUNDS: Final = Series("prometheus_tsdb_out_of_bound_samples_total")
PROMETHEUS_TOO_OLD: Final = Series("prometheus_tsdb_too_old_samples_total")
PROMETHEUS_INVALID: Final = Series("prometheus_api_remote_write_invalid_labels_samples_total")
PROMETHEUS_REFUSED_EXEMPLARS: Final = Series(
    "prometheus_tsdb_exemplar_out_of_order_exemplars_total"
)
PROMETHEUS_BLOCK_BYTES: Final = Series("prometheus_tsdb_storage_blocks_bytes", (JOB,))
PROMETHEUS_WAL_BYTES: Final = Series("prometheus_tsdb_wal_storage_size_bytes", (JOB,))
PROMETHEUS_HEAD_BYTES: Final = Series("prometheus_tsdb_head_chunks_storage_size_bytes", (JOB,))
PROMETHEUS_REQUESTS: Final = Series("prometheus_http_request_duration_seconds", (HANDLER,))
PROMETHEUS_ANSWERED: Final = Series("prometheus_http_requests_total", (HANDLER, HTTP_CODE))

ALERTS_FAILED: Final = Series("alertmanager_notifications_failed_total")

# -- the host, by the Collector's receiver --------------------------------------------------

STATE: Final = "state"
PROCESS_STATE: Final = "status"
DEVICE: Final = "device"
WAY: Final = "direction"
MOUNT: Final = "mountpoint"
USED, FREE = "used", "free"
PAGE_KIND: Final = "type"

HOST_CPU: Final = Series("system_cpu_time_seconds_total", (STATE,))
HOST_CPUS: Final = Series("system_cpu_logical_count")
HOST_LOAD_1: Final = Series("system_cpu_load_average_1m")
HOST_LOAD_5: Final = Series("system_cpu_load_average_5m")
HOST_LOAD_15: Final = Series("system_cpu_load_average_15m")
HOST_MEMORY: Final = Series("system_memory_usage_bytes", (STATE,))
HOST_DISK_BYTES: Final = Series("system_disk_io_bytes_total", (DEVICE, WAY))
HOST_DISK_BUSY: Final = Series("system_disk_io_time_seconds_total", (DEVICE,))
HOST_DISK_OPERATIONS: Final = Series("system_disk_operations_total", (DEVICE, WAY))
HOST_DISK_SECONDS: Final = Series("system_disk_operation_time_seconds_total", (DEVICE, WAY))
HOST_FILES: Final = Series("system_filesystem_usage_bytes", (MOUNT, STATE))
HOST_INODES: Final = Series("system_filesystem_inodes_usage", (MOUNT, STATE))
HOST_NETWORK_BYTES: Final = Series("system_network_io_bytes_total", (DEVICE, WAY))
HOST_NETWORK_ERRORS: Final = Series("system_network_errors_total", (DEVICE, WAY))
HOST_NETWORK_DROPPED: Final = Series("system_network_dropped_total", (DEVICE, WAY))
HOST_CONNECTIONS: Final = Series("system_network_connections", (STATE,))
HOST_PAGE_FAULTS: Final = Series("system_paging_faults_total", (PAGE_KIND,))
HOST_PROCESSES: Final = Series("system_processes_count", (PROCESS_STATE,))
HOST_PROCESSES_MADE: Final = Series("system_processes_created_total")

# -- Loki ------------------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
SEVERITY: Final = "severity_text"
TRACE_ID: Final = "trace_id"
# Who logged: the logger's name, which is the module's.
MODULE: Final = "scope_name"
BODY: Final = "body"  # made by a query; a line's text is no metadata
# Of a line that was logged with an exception, by the SDK.
EXCEPTION_TYPE: Final = "exception.type"

WARNING: Final = "WARN.*"
ERROR: Final = "ERROR|CRITICAL|FATAL.*"

# What a histogram's name gets; not names of their own.
HISTOGRAM_PARTS: Final = ("bucket", "sum", "count")

SERIES: Final[tuple[Series, ...]] = (
    *(value for value in list(globals().values()) if isinstance(value, Series)),
    *SLO_BAD.values(),
    *(series for hop in HOPS for series in hop),
)
"""All metrics of others that a board may ask for."""
