"""The ledger's rules: items that entered and left each hop, by signal, and their difference.

Exact, unlike `increase`, which extrapolates from the samples. Incoming items are counted up to a
moment ago and outgoing ones until now, because components export at different times. Under steady
traffic more items leave than came in, by the number that arrives in that moment; a smaller loss is
visible when the traffic stops.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from alerts.promql import aggregate, differs, equals, matches, rate, select, together
from alerts.rules import Rule, group, record
from chatscope.names import (
    ERROR_TYPE,
    LOG_METRICS,
    POINTS_EXPORTED,
    SPAN_METRICS,
    SPOOL_ITEMS,
    Metric,
    SignalMetrics,
)
from dashboards import others
from dashboards.others import EXPORTER, JOB, PROCESSOR, RECEIVER, Hop, Series
from dashboards.queries import or_zero

# In seconds, because PromQL cannot add durations: how long a loss is visible.
_OVER: Final = 1800
# Two scrapes, 15 s apart, and the transfer between two components.
_LAG: Final = 30
# The count of outgoing items starts earlier, so that it includes all incoming ones.
_EARLIER: Final = 60
# A counter without a sample for this time did not exist.
_SEEN: Final = 3600
# A younger component has exported less than the account covers.
_ACCOUNT: Final = _OVER + 2 * _EARLIER
# Items that are queued for this time wait for an unreachable backend.
_WAITS: Final = "1m"
# For metrics that are scraped every 15 s.
_RATE: Final = "1m"
_STORES: Final = "loki|tempo|prometheus"
_PARTS: Final = f"collector|{_STORES}"
_ARRIVED: Final = equals(ERROR_TYPE, "")

Counter = tuple[Metric | Series, Sequence[str]]


class _Step(NamedTuple):
    """One hop of one signal: each incoming item must have left it or been counted as dropped."""

    signal: str
    hop: str
    came_in: Counter
    left: Sequence[Counter]
    # Promql: items that a hop drops on purpose.
    sampled_out: Sequence[str] = ()


def _way(
    signal: str,
    own: SignalMetrics,
    through: Hop,
    exporter: str,
    stored: Series,
    sampled_out: Sequence[str] = (),
) -> list[_Step]:
    accepted = (through.accepted, (equals(RECEIVER, others.OTLP),))
    to_store = (equals(EXPORTER, exporter),)
    sent = (through.sent, to_store)
    dropped = (own.processed, (differs(ERROR_TYPE),))
    return [
        _Step(
            signal,
            "service",
            (own.created, ()),
            [(own.exported, ()), dropped],
        ),
        _Step(signal, "wire", (own.exported, (_ARRIVED,)), [accepted]),
        _Step(signal, "collector", accepted, [sent, (through.send_failed, to_store)], sampled_out),
        _Step(signal, "store", sent, [(stored, ())]),
    ]


def _points() -> list[_Step]:
    """Return the hops of metric points: failed attempts are no loss, and points that Prometheus
    acknowledged are stored; it counts samples, scraped ones included."""
    through = others.POINTS_THROUGH
    processed = (others.POINTS_PROCESSED, (matches(PROCESSOR, others.LAST_OF_POINTS),))
    queued = (equals(EXPORTER, others.TO_PROMETHEUS),)
    sent = (through.sent, queued)
    given_up = [(through.send_failed, queued), (through.enqueue_failed, queued)]
    acknowledged = (through.sent, (equals(EXPORTER, others.PAST_QUEUE_OUT),))
    accepted = (through.accepted, (equals(RECEIVER, others.OTLP),))
    return [
        _Step(others.OF_POINTS, "wire", (POINTS_EXPORTED, (_ARRIVED,)), [accepted]),
        _Step(others.OF_POINTS, "collector", processed, [sent, *given_up]),
        _Step(others.OF_POINTS, "store", sent, [acknowledged]),
    ]


_SPANS: Final = (others.OF_SPANS, SPAN_METRICS, others.SPANS_THROUGH, others.TO_TEMPO)
_LOGS: Final = (others.OF_LOGS, LOG_METRICS, others.LOGS_THROUGH, others.TO_LOKI)


def _sampled_out() -> str:
    """Return the spans that gateways with tail sampling received and did not send: those of
    dropped traces, and of traces that wait for their decision."""
    received = (others.SPANS_THROUGH.accepted, (equals(RECEIVER, others.FROM_AGENTS),))
    kept = (others.SPANS_THROUGH.sent, (equals(EXPORTER, others.SPANS_TO_KAFKA),))
    over = _OVER + _EARLIER
    difference = f"{_total(received, over=over)} - {_total(kept, over=over)}"
    return f"(clamp_min({difference}, 0) and on () {select(others.TRACES_WAITING)})"


def groups(interval: str) -> list[dict[str, Any]]:
    """Return the sums of incoming and outgoing items by signal and hop, and their difference."""
    rules: list[Rule] = []
    steps = (
        *_way(*_SPANS, others.TEMPO_ACCEPTED, [_sampled_out()]),
        *_way(*_LOGS, others.LOKI_RECEIVED),
        *_points(),
    )
    for step in steps:
        labels = {others.TOLD_OF: step.signal, others.HOP: step.hop}
        came_in = _total(step.came_in, over=_OVER, until=_LAG)
        leaving = [_total(counter, over=_OVER + _EARLIER) for counter in step.left]
        left = together([*leaving, *step.sampled_out])
        rules += [
            record(others.LEDGER_IN.prometheus, came_in, **labels),
            record(others.LEDGER_OUT.prometheus, or_zero(left), **labels),
        ]
    rules += [
        record(others.LEDGER_STORED.prometheus, stored, **{others.TOLD_OF: signal})
        for signal, stored in _stored().items()
    ]
    missing = f"clamp_min({others.LEDGER_IN.prometheus} - {others.LEDGER_OUT.prometheus}, 0)"
    settled = f"({others.LEDGER_UNSETTLED.prometheus} == bool 0)"
    rules += [
        record(others.LEDGER_UNSETTLED.prometheus, _unsettled()),
        # 0 while the difference has no meaning.
        record(others.LEDGER_DIFFERENCE.prometheus, f"{missing} * on () group_left () {settled}"),
    ]
    return [group("ledger", rules, interval)]


def _stored() -> dict[str, str]:
    """Return stored items per second, by signal; for points, those that Prometheus acknowledged."""
    spans = f"{_rate(others.TEMPO_ACCEPTED)} - {or_zero(_rate(others.TEMPO_DISCARDED))}"
    logs = f"{_rate(others.LOKI_RECEIVED)} - {or_zero(_rate(others.LOKI_DISCARDED))}"
    points = _rate(others.POINTS_THROUGH.sent, equals(EXPORTER, others.PAST_QUEUE_OUT))
    return {others.OF_SPANS: spans, others.OF_LOGS: logs, others.OF_POINTS: points}


def _total(counter: Counter, *, over: int, until: int = 0) -> str:
    """Return the exact increase of a counter, including processes that started or ended."""
    metric, where = counter
    selector = select(metric, *where)
    now = f"last_over_time({selector}[{over}s]{_ago(until)})"
    before = f"last_over_time({selector}[{_SEEN}s]{_ago(over + until)})"
    return aggregate("sum", f"\n  {now} - {before} >= 0\n  or {now}\n")


def _rate(counter: Series, *where: str) -> str:
    return rate(counter, *where, over=_RATE, by=())


def _ago(seconds: int) -> str:
    return f" offset {seconds}s" if seconds else ""


def _unsettled() -> str:
    """Return 1 during a backlog, and if a component was down or started within the account."""
    started = select(others.PART_STARTED, matches(JOB, _STORES))
    up = select(others.UP, matches(JOB, _PARTS))
    reasons = [
        f"max(min_over_time({select(others.EXPORT_QUEUE_SIZE)}[{_WAITS}])) > bool 0",
        f"max(max_over_time({select(SPOOL_ITEMS)}[{_WAITS}])) > bool 0",
        f"max(min_over_time({select(others.KAFKA_LAG)}[{_WAITS}])) > bool 0",
        f"min(min_over_time({up}[{_ACCOUNT}s])) < bool 1",
        f"min(time() - {started}) < bool {_ACCOUNT}",
        f"min({select(others.COLLECTOR_UPTIME)}) < bool {_ACCOUNT}",
    ]
    return together(reasons, function="max")
