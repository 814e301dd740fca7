"""Alerts about the delivery of telemetry and of alerts."""

from typing import Any, Final

from alerts import ledger
from alerts.objectives import Wanted
from alerts.promql import BY_SERVICE, aggregate, differs, equals, matches, rise, select, together
from alerts.rules import Alert, Severity, board, group, label, log_lines, number, value
from alerts.windows import Windows
from chatscope.names import (
    CLIENT_INFERENCE_DURATION,
    ERROR_TYPE,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_MODEL,
    HTTP_REQUEST_DURATION,
    HTTP_ROUTE,
    LLM_RESPONSE_TIME,
    LOG_METRICS,
    SPAN_METRICS,
    SPOOL_BYTES,
    SPOOL_CAPACITY,
    prometheus_label,
)
from dashboards import links, others
from dashboards.others import EXPORTER, JOB, REASON, RECEIVER
from dashboards.queries import RECEIVED_ONCE, SENT_ONCE

_COLLECTOR: Final = "collector"
# Prometheus cannot report its own absence: see the Watchdog.
STORES: Final = ("loki", "tempo", "alertmanager")
_REFUSED_BY_STORES: Final = (
    others.LOKI_DISCARDED,
    others.TEMPO_DISCARDED,
    others.PROMETHEUS_OUT_OF_BOUNDS,
    others.PROMETHEUS_TOO_OLD,
    others.PROMETHEUS_INVALID,
)
# Labels whose values clients or providers influence.
LABEL: Final = "label"
_LABELS: Final = (
    (LLM_RESPONSE_TIME, GEN_AI_REQUEST_MODEL),
    (LLM_RESPONSE_TIME, ERROR_TYPE),
    (CLIENT_INFERENCE_DURATION, GEN_AI_RESPONSE_MODEL),
    (HTTP_REQUEST_DURATION, HTTP_ROUTE),
    (others.SPAN_CALLS, others.SPAN_NAME),
)
# No single service is the cause, so the query shows the lines of all.
_ERROR_LINES: Final = (
    f'{{{others.SERVICE_NAME.replace(".", "_")}!=""}} | {others.SEVERITY}=~"{others.ERROR}"'
)


def groups(wanted: Wanted, windows: Windows) -> list[dict[str, Any]]:
    alerts = [
        _collector(windows),
        _store(windows),
        _filling(wanted, windows),
        _refused(windows),
        _dropped(windows),
        _rejecting(windows),
        _lost(windows),
        _watchdog(),
    ]
    # They read every series, and what they are about takes hours.
    slow = [_cardinality(wanted), *_disk(wanted, windows)]
    return [
        *ledger.groups(windows.daily),
        group("pipeline", alerts, windows.interval),
        group("bounds", slow, windows.daily),
    ]


def _collector(windows: Windows) -> Alert:
    return Alert(
        name="CollectorDown",
        expr=f"{select(others.UP, equals(JOB, _COLLECTOR))} == 0",
        area="pipeline",
        severity="critical",
        hold=windows.soon,
        summary="The Collector is down: services keep their telemetry on disk, up to the "
        "limit of their spool.",
        value="0 answers",
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _store(windows: Windows) -> Alert:
    return Alert(
        name="StoreDown",
        # Prometheus cannot report its own outage; in the scaled stack, this job is Thanos.
        expr=f"{select(others.UP, matches(JOB, '|'.join((*STORES, 'prometheus'))))} == 0",
        area="pipeline",
        severity="critical",
        hold=windows.soon,
        summary=f"{label(JOB)} is down.",
        value="0 answers",
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _filling(wanted: Wanted, windows: Windows) -> Alert:
    size = aggregate("max", select(others.EXPORT_QUEUE_SIZE), (EXPORTER,))
    capacity = aggregate("max", select(others.EXPORT_QUEUE_CAPACITY), (EXPORTER,))
    # Each signal has the same limit in a service's spool.
    fuller = aggregate("max", select(SPOOL_BYTES), BY_SERVICE)
    room = aggregate("max", select(SPOOL_CAPACITY), BY_SERVICE)
    much = f"> {wanted.thresholds.queue_share:g}"
    return Alert(
        name="QueueFilling",
        expr=f"{size} / ({capacity} > 0) {much}\nor {fuller} / ({room} > 0) {much}",
        area="pipeline",
        severity="warning",
        hold=windows.soon,
        summary="{{ if $labels.exporter }}The Collector's queue for {{ $labels.exporter }}"
        "{{ else }}The spool of {{ $labels.service_name }}{{ end }} is filled to "
        f"{value('humanizePercentage')}; "
        "{{ if $labels.exporter }}when it is full, it rejects telemetry"
        "{{ else }}when it is full, the oldest items are dropped{{ end }}.",
        value=value("humanizePercentage"),
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _refused(windows: Windows) -> Alert:
    refused = [
        rise(series, RECEIVED_ONCE, over=windows.scraped, by=(RECEIVER,))
        for hop in others.HOPS
        for series in (hop.refused, hop.failed)
    ]
    return Alert(
        name="TelemetryRefused",
        expr=f"{together(refused, (RECEIVER,))} > 0",
        area="pipeline",
        severity="warning",
        hold=windows.soon,
        summary=f"The Collector rejected {number()} items from {label(RECEIVER)}; their senders "
        "keep them, or retry for a while.",
        value=f"{number()} items",
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _dropped(windows: Windows) -> Alert:
    """Return the alert about items dropped by the Collector, or by a service before its export."""
    over = windows.scraped
    given_up = [rise(hop.send_failed, SENT_ONCE, over=over, by=(EXPORTER,)) for hop in others.HOPS]
    own = [
        rise(metric, differs(ERROR_TYPE), over=over)
        for signal in (SPAN_METRICS, LOG_METRICS)
        for metric in (signal.processed, signal.exported)
    ]
    return Alert(
        name="TelemetryDropped",
        expr=f"{together(given_up, (EXPORTER,))} > 0\nor {together(own, BY_SERVICE)} > 0",
        area="pipeline",
        severity="critical",
        summary=f"{number()} items of telemetry were dropped by "
        "{{ if $labels.exporter }}the Collector's {{ $labels.exporter }}"
        "{{ else }}{{ $labels.service_name }}{{ end }}.",
        value=f"{number()} items",
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _rejecting(windows: Windows) -> Alert:
    """Return the alert about items discarded by a backend, or deltas that cannot be added up."""
    by = (JOB, REASON)
    risen = [rise(series, over=windows.scraped, by=by) for series in _REFUSED_BY_STORES]
    deltas = differs(others.DELTA_ERROR)
    risen.append(rise(others.DELTA_POINTS, deltas, over=windows.scraped, by=by))
    return Alert(
        name="StoreRejects",
        expr=f"{together(risen, by)} > 0",
        area="pipeline",
        severity="warning",
        summary=f"{label(JOB)} discarded {number()} items"
        "{{ with $labels.reason }} ({{ . }}){{ end }}.",
        value=f"{number()} items",
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _cardinality(wanted: Wanted) -> Alert:
    """Of all series of a service, and of the values of a label."""
    most, service = wanted.thresholds, prometheus_label(others.SERVICE_NAME)
    every = aggregate("count", f"{{{differs(others.SERVICE_NAME)}}}", BY_SERVICE)
    several = []
    for metric, attribute in _LABELS:
        part = "count" if metric is not others.SPAN_CALLS else ""
        each = aggregate(
            "count", select(metric, differs(attribute), part=part), (*BY_SERVICE, attribute)
        )
        values = aggregate("count", each, BY_SERVICE)
        name = prometheus_label(attribute)
        several.append(f'label_replace({values}, "{LABEL}", "{name}", "", "")')
    whole = "\nor ".join(several)
    return Alert(
        name="CardinalityHigh",
        expr=f"{every} > {most.service_series}\nor ({whole}) > {most.label_values}",
        area="pipeline",
        severity="warning",
        summary=f"{{{{ with $labels.{LABEL} }}}}The label {{{{ . }}}} of "
        f"{{{{ $labels.{service} }}}} has {number()} values{{{{ else }}}}"
        f"{{{{ $labels.{service} }}}} has {number()} series{{{{ end }}}}; each takes memory of "
        "Prometheus and of the Collector.",
        value=number(),
        dashboard=board(links.PIPELINE),
        query=log_lines(),
    )


def _disk(wanted: Wanted, windows: Windows) -> list[Alert]:
    """Of any file system of the machine that the Collector sees: the data are on one of them."""
    by = (others.MOUNT,)
    used, free = (
        aggregate("sum", select(others.HOST_FILES, equals(others.STATE, state)), by)
        for state in (others.USED, others.FREE)
    )
    share = f"{used} / ({used} + {free})"
    at_end = f"predict_linear({select(others.HOST_FILES, equals(others.STATE, others.FREE))}"
    at_end = aggregate("sum", f"{at_end}[{windows.trend}], 24 * 3600)", by)
    most = wanted.thresholds
    filling = f"{share} > {most.disk_trend_share:g}\nand {at_end} < 0"
    full = f"{share} > {most.disk_share:g}"
    where = label(others.MOUNT)
    return [
        _disk_alert("critical", full, windows.soon, f"The file system {where} is"),
        _disk_alert(
            "warning",
            filling,
            windows.trend_hold,
            f"The file system {where} will be full within a day; it is",
        ),
    ]


def _disk_alert(severity: Severity, expr: str, hold: str, subject: str) -> Alert:
    return Alert(
        name="DiskFilling",
        expr=expr,
        area="pipeline",
        severity=severity,
        # Also of its recorded value, so that there are two.
        labels={"severity": severity},
        hold=hold,
        summary=f"{subject} {value('humanizePercentage')} used: without room, backends stop to "
        "store.",
        value=value("humanizePercentage"),
        dashboard=board(links.RUNTIME),
        query=_ERROR_LINES,
    )


def _lost(windows: Windows) -> Alert:
    """Return the alert about uncounted losses: the sums of adjacent hops differ."""
    return Alert(
        name="TelemetryLost",
        expr=f"{select(others.LEDGER_DIFFERENCE)} > 0",
        area="pipeline",
        severity="critical",
        hold=windows.settled,
        summary=f"{number()} {label(others.TOLD_OF)} came into the hop {label(others.HOP)} within "
        "half an hour, and neither left it nor were counted as dropped.",
        value=f"{number()} items",
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )


def _watchdog() -> Alert:
    return Alert(
        name="Watchdog",
        expr="vector(1)",
        area="pipeline",
        severity="none",
        summary="Fires always: its absence means that alerts are not delivered.",
        value=value(),
        dashboard=board(links.PIPELINE),
        query=_ERROR_LINES,
    )
