"""Alerts about the service: availability, error rate, latency, saturation."""

from typing import Any, Final

from alerts.objectives import Wanted
from alerts.promql import (
    BY_SERVICE,
    aggregate,
    differs,
    differs_from,
    equals,
    on,
    quantile,
    rise,
    select,
    share,
)
from alerts.rules import (
    SERVICE_LABEL,
    Alert,
    Rule,
    board,
    group,
    log_lines,
    number,
    record,
    value,
)
from alerts.windows import DOWN_FOR, SILENT_FOR, Windows
from chatscope.genai.operation import CANCELLED
from chatscope.names import (
    ANSWER_SECONDS,
    ERROR_TYPE,
    EVENT_LOOP_LAG,
    LIMIT,
    LIMIT_VALUE,
    LLM_RESPONSE_TIME,
    PROCESS_MEMORY_USAGE,
    PROCESS_UPTIME,
    SHARED_STORE_UP,
    SOCKET_CONNECTIONS,
    prometheus_label,
)
from dashboards import links, others
from dashboards.answers import ERRORS
from dashboards.queries import keep
from dashboards.variables import SERVICE

# Errors that the service did not cause: the client disconnected, or its request was invalid.
THEIRS: Final = f"{CANCELLED}|invalid_request"
FAILED: Final = (differs(ERROR_TYPE), differs_from(ERROR_TYPE, THEIRS))
# Metric names that Grafana's Service Graph view queries, for the Collector's metrics.
_VIEW: Final = {
    "traces_spanmetrics_calls_total": others.SPAN_CALLS.prometheus,
    "traces_spanmetrics_latency_bucket": f"{others.SPAN_SECONDS.prometheus}_bucket",
}


def on_board(uid: str) -> str:
    """Return the path of a dashboard for the alert's service."""
    return board(uid, **{SERVICE.name: SERVICE_LABEL})


def groups(wanted: Wanted, windows: Windows) -> list[dict[str, Any]]:
    alerts = [_failing, _slow, _lagging, _memory, _sockets, _shared_store]
    return [
        group("availability", [_down(), _silent(windows)], windows.fast),
        group("service", [alert(wanted, windows) for alert in alerts], windows.interval),
        group("service-graph-view", [_seen_as(*names) for names in _VIEW.items()], windows.step),
    ]


# 1 while the service is ready; only for services that are expected to run.
_READY: Final = select(others.CHECKED, equals(others.STATUS_CLASS, "2xx"))


def _down() -> Alert:
    return Alert(
        name="ServiceDown",
        expr=f"{aggregate('max', _READY, BY_SERVICE)} == 0",
        area="service",
        severity="critical",
        hold=DOWN_FOR,
        summary=f"{SERVICE_LABEL} accepts no requests: no instance is ready (/readyz).",
        value="0 instances ready",
        dashboard=on_board(links.SERVICE),
        query=log_lines(),
    )


def _silent(windows: Windows) -> Alert:
    # Ready now and before the silence: a service that is down is reported as such, and one that has
    # just started, or whose checks have after an outage of the Collector, has time to be heard.
    asked = f"last_over_time({_READY}[{windows.asked}]"
    now = f"{aggregate('max', f'{asked})', BY_SERVICE)} == 1"
    before = f"{aggregate('max', f'{asked} offset {windows.silent})', BY_SERVICE)} == 1"
    told = f"count_over_time({select(PROCESS_UPTIME)}[{windows.silent}])"
    heard = aggregate("count", told, BY_SERVICE)
    return Alert(
        name="ServiceSilent",
        expr=f"{now}\nand {on(BY_SERVICE)} {before}\nunless {on(BY_SERVICE)} {heard}",
        area="service",
        severity="critical",
        hold=SILENT_FOR,
        summary=f"{SERVICE_LABEL} has sent no metrics for {windows.silent}, but is ready "
        "(/readyz): its telemetry is not delivered.",
        value=f"no sample in {windows.silent}",
        dashboard=on_board(links.SERVICE),
        query=log_lines(),
    )


def _failing(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds
    failed = rise(LLM_RESPONSE_TIME, *FAILED, over=windows.rate, part="count")
    answers = rise(LLM_RESPONSE_TIME, over=windows.rate, part="count")
    return Alert(
        name="ErrorRateHigh",
        # Minimum number: a few failures in a quiet night are not a rate.
        expr=f"{share(failed, answers)} > {most.error_share:g}\n"
        f"and {failed} >= {most.least_answers}",
        area="service",
        severity="warning",
        hold=windows.soon,
        summary=f"{value('humanizePercentage')} of the responses of {SERVICE_LABEL} fail.",
        value=value("humanizePercentage"),
        # The dashboard whose first screen shows failed responses with their reasons.
        dashboard=on_board(links.LLM),
        query=log_lines(ERRORS),
    )


def _slow(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds
    whole = equals(ERROR_TYPE, "")
    slow = quantile(0.95, LLM_RESPONSE_TIME, whole, over=windows.sample)
    answers = rise(LLM_RESPONSE_TIME, whole, over=windows.sample, part="count")
    return Alert(
        name="AnswersSlow",
        expr=f"{slow} > {most.answer_seconds:g}\nand {answers} >= {most.least_answers}",
        area="service",
        severity="warning",
        hold=windows.hold,
        summary=f"5% of the responses of {SERVICE_LABEL} take longer than "
        f"{value('humanizeDuration')}.",
        value=value("humanizeDuration"),
        dashboard=on_board(links.SERVICE),
        query=log_lines(keep(f"{prometheus_label(ANSWER_SECONDS)} > {most.answer_seconds:g}")),
    )


def _lagging(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds.event_loop_lag_seconds
    by = (*BY_SERVICE, others.INSTANCE)
    lag = quantile(0.99, EVENT_LOOP_LAG, over=windows.rate, by=by)
    return Alert(
        name="EventLoopLagHigh",
        expr=f"{aggregate('max', lag, BY_SERVICE)} > {most:g}",
        area="service",
        severity="warning",
        hold=windows.hold,
        summary=f"The event loop of {SERVICE_LABEL} lags by {value('humanizeDuration')}: something "
        "blocks it, and all responses wait.",
        value=value("humanizeDuration"),
        dashboard=on_board(links.RUNTIME),
        query=log_lines(),
    )


def _memory(wanted: Wanted, windows: Windows) -> Alert:
    used = aggregate("max", select(PROCESS_MEMORY_USAGE), BY_SERVICE)
    return Alert(
        name="MemoryHigh",
        expr=f"{used} / 1024 / 1024 > {wanted.thresholds.memory_mib:g}",
        area="service",
        severity="warning",
        hold=windows.hold,
        summary=f"A process of {SERVICE_LABEL} uses {number()} MiB of memory.",
        value=f"{number()} MiB",
        dashboard=on_board(links.RUNTIME),
        query=log_lines(),
    )


def _sockets(wanted: Wanted, windows: Windows) -> Alert:
    limit = select(LIMIT_VALUE, equals(LIMIT, "connections"))
    full = f"{select(SOCKET_CONNECTIONS)} / ignoring ({prometheus_label(LIMIT)}) {limit}"
    return Alert(
        name="SocketsNearLimit",
        expr=f"{aggregate('max', full, BY_SERVICE)} > {wanted.thresholds.socket_share:g}",
        area="service",
        severity="warning",
        hold=windows.soon,
        summary=f"{value('humanizePercentage')} of the WebSocket connections that a process of "
        f"{SERVICE_LABEL} accepts are open; at 100% new ones are rejected.",
        value=value("humanizePercentage"),
        dashboard=on_board(links.SERVICE),
        query=log_lines(),
    )


def _shared_store(_: Wanted, windows: Windows) -> Alert:
    return Alert(
        name="SharedStoreDown",
        expr=f"{aggregate('min', select(SHARED_STORE_UP), BY_SERVICE)} == 0",
        area="service",
        severity="warning",
        hold=windows.soon,
        summary=f"The server that replicas of {SERVICE_LABEL} share does not respond: limits and "
        "budgets hold in each replica only.",
        value="0",
        dashboard=on_board(links.SERVICE),
        query=log_lines(),
    )


def _seen_as(name: str, series: str) -> Rule:
    """Return a renaming of each series: a sum of counters would drop when one of them ends."""
    served = f"{series}{{{equals(others.SPAN_KIND, others.KIND_SERVER)}}}"
    service = prometheus_label(others.SERVICE_NAME)
    return record(name, f'label_replace({served}, "service", "$1", "{service}", "(.*)")')
