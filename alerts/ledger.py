"""The ledger's rules: for each signal and hop what came in, what left it, and what is missing.

Exact, as `increase` is not: it makes of some samples what it would be in all of the time. What
came in is counted up to a moment ago and what left until now, since parts tell of themselves at
different times. Under steady traffic more leaves than came in, by as much as comes in such a
moment; a smaller loss than that is seen when the traffic rests.
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

# Seconds, as PromQL adds no times. A loss is seen for so long.
_OVER: Final = 1800
# Two scrapes, 15 s apart, and the way between two parts.
_LAG: Final = 30
# What left is counted from earlier on, so that all that came in is among it.
_EARLIER: Final = 60
# A counter that was not told for so long was not there.
_SEEN: Final = 3600
# A part that is younger has told of less than the account is about.
_ACCOUNT: Final = _OVER + 2 * _EARLIER
# In a queue for so long, it waits for a store that is away.
_WAITS: Final = "1m"
# Of what is scraped each 15 s.
_RATE: Final = "1m"
_STORES: Final = "loki|tempo|prometheus"
_PARTS: Final = f"collector|{_STORES}"
_ARRIVED: Final = equals(ERROR_TYPE, "")

Counter = tuple[Metric | Series, Sequence[str]]


class _Step(NamedTuple):
    """What came in must have left, or somebody told that it was given up."""

    signal: str
    hop: str
    came_in: Counter
    left: Sequence[Counter]


def _way(
    signal: str, own: SignalMetrics, through: Hop, exporter: str, stored: Series
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
        _Step(signal, "collector", accepted, [sent, (through.send_failed, to_store)]),
        _Step(signal, "store", sent, [(stored, ())]),
    ]


def _points() -> list[_Step]:
    """A point that could not be sent is no loss, and what Prometheus acknowledged is stored: it
    counts samples, those that it scrapes among them."""
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
_STEPS: Final = (
    *_way(*_SPANS, others.TEMPO_ACCEPTED),
    *_way(*_LOGS, others.LOKI_RECEIVED),
    *_points(),
)


def groups(interval: str) -> list[dict[str, Any]]:
    """What came in and what left, each by signal and hop; then what to make of it."""
    rules: list[Rule] = []
    for step in _STEPS:
        labels = {others.TOLD_OF: step.signal, others.HOP: step.hop}
        came_in = _total(step.came_in, over=_OVER, until=_LAG)
        left = together([_total(counter, over=_OVER + _EARLIER) for counter in step.left])
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
        # 0 where it says nothing.
        record(others.LEDGER_DIFFERENCE.prometheus, f"{missing} * on () group_left () {settled}"),
    ]
    return [group("ledger", rules, interval)]


def _stored() -> dict[str, str]:
    """By signal, for each second; of points, those that Prometheus acknowledged."""
    spans = f"{_rate(others.TEMPO_ACCEPTED)} - {or_zero(_rate(others.TEMPO_DISCARDED))}"
    logs = f"{_rate(others.LOKI_RECEIVED)} - {or_zero(_rate(others.LOKI_DISCARDED))}"
    points = _rate(others.POINTS_THROUGH.sent, equals(EXPORTER, others.PAST_QUEUE_OUT))
    return {others.OF_SPANS: spans, others.OF_LOGS: logs, others.OF_POINTS: points}


def _total(counter: Counter, *, over: int, until: int = 0) -> str:
    """How much a counter rose, to the last item, where processes began and ended meanwhile too."""
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
    """1 while something waits, and as long as a part was away or began within the account."""
    started = select(others.PART_STARTED, matches(JOB, _STORES))
    up = select(others.UP, matches(JOB, _PARTS))
    reasons = [
        f"max(min_over_time({select(others.EXPORT_QUEUE_SIZE)}[{_WAITS}])) > bool 0",
        f"max(max_over_time({select(SPOOL_ITEMS)}[{_WAITS}])) > bool 0",
        f"min(min_over_time({up}[{_ACCOUNT}s])) < bool 1",
        f"min(time() - {started}) < bool {_ACCOUNT}",
        f"min({select(others.COLLECTOR_UPTIME)}) < bool {_ACCOUNT}",
    ]
    return together(reasons, function="max")
