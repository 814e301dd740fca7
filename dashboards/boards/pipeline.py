"""Pipeline: telemetry from the services to the backends, and the components on its path."""

from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import Dashboard, DynamicConfigValue

from chatscope.names import (
    ENCODER_FALLBACKS,
    ERROR_TYPE,
    LOG_METRICS,
    POINTS_EXPORTED,
    SIGNAL,
    SPAN_METRICS,
    SPOOL_ITEMS,
    SignalMetrics,
)
from dashboards import answers, links, others
from dashboards.board import Row, assemble
from dashboards.boards import _parts
from dashboards.boards._parts import OWN, PARTS, QUIET, or_nothing
from dashboards.legends import label
from dashboards.others import EXPORTER, JOB, REASON, RECEIVER, Hop, Series
from dashboards.panels import Panel, is_well, lines, measured, prom
from dashboards.queries import (
    RECEIVED_ONCE,
    SENT_ONCE,
    aggregate,
    differs,
    equals,
    increase,
    matches,
    or_zero,
    rate,
    series,
    together,
    total,
)

_GIVEN_UP: Final = differs(ERROR_TYPE)
_ARRIVED: Final = equals(ERROR_TYPE, "")


class _Signal(NamedTuple):
    """One signal, from the service to its backend."""

    title: str
    # Its names in the service's spool and in the ledger.
    signal: str
    told_of: str
    own: SignalMetrics
    through: Hop
    exporter: str
    store: str
    received: Series
    discarded: tuple[Series, ...]


_SPANS: Final = _Signal(
    "Spans",
    "traces",
    others.OF_SPANS,
    SPAN_METRICS,
    others.SPANS_THROUGH,
    others.TO_TEMPO,
    "Tempo",
    others.TEMPO_RECEIVED,
    (others.TEMPO_DISCARDED, others.TEMPO_GENERATOR_DISCARDED),
)
_LOGS: Final = _Signal(
    "Logs",
    "logs",
    others.OF_LOGS,
    LOG_METRICS,
    others.LOGS_THROUGH,
    others.TO_LOKI,
    "Loki",
    others.LOKI_RECEIVED,
    (others.LOKI_DISCARDED,),
)
# Series of the ledger (alerts/ledger.py).
_UNSETTLED: Final = (
    "Queued items are not missing. For half an hour after an outage of a component the "
    "difference is shown as 0."
)
# The hops of the ledger in order, with their ends.
_HOPS: Final = {
    "service": "inside the service",
    "wire": "service to Collector",
    "collector": "inside the Collector",
    "store": "Collector to backend",
}
_REFUSED_SAMPLES: Final = (
    others.PROMETHEUS_OUT_OF_ORDER,
    others.PROMETHEUS_OUT_OF_BOUNDS,
    others.PROMETHEUS_TOO_OLD,
    others.PROMETHEUS_INVALID,
)


def board() -> Dashboard:
    return assemble(
        links.PIPELINE,
        "Telemetry at each hop from the services to the backends, and the health of the stack.",
        [
            _health(),
            Row("Delivery", [_account()], height=13),
            _way(_SPANS),
            _way(_LOGS),
            _points(),
            _parts.collector(),
            _parts.stores(),
            _parts.prometheus(),
            _parts.loki(),
            _parts.tempo(),
        ],
    )


# -- all signals ---------------------------------------------------------------------------


def _sum_of_all(expressions: list[str]) -> str:
    return " + ".join(or_zero(expression) for expression in expressions)


def _lost_in_service() -> list[str]:
    lost: list[str] = []
    for own in (SPAN_METRICS, LOG_METRICS):
        lost += [increase(own.processed, _GIVEN_UP), increase(own.exported, _GIVEN_UP)]
    return lost


def _lost_in_collector() -> list[str]:
    return [increase(hop.send_failed, SENT_ONCE) for hop in others.HOPS]


def _lost_in_stores() -> list[str]:
    return [increase(one) for one in (*_SPANS.discarded, *_LOGS.discarded, *_REFUSED_SAMPLES)]


def _fullest_queue() -> str:
    queues = [
        f"max({series(of.queue_size)} / {series(of.queue_capacity)})"
        for of in (SPAN_METRICS, LOG_METRICS)
    ]
    queues.append(
        f"max({series(others.EXPORT_QUEUE_SIZE)} / {series(others.EXPORT_QUEUE_CAPACITY)})"
    )
    return together(queues, function="max")


def _health() -> Row:
    up = series(others.UP, matches(JOB, PARTS))
    lost = [*_lost_in_service(), *_lost_in_collector(), *_lost_in_stores()]
    return Row(
        "Health",
        [
            is_well(
                "Components up",
                "Of Collector, Prometheus, Loki, Tempo and Alertmanager, as Prometheus scrapes "
                "them.",
                "short",
                prom(aggregate("sum", up)),
                warn=5,
                bad=4,
                over_range=True,
            ),
            answers.last_sample(),
            is_well(
                "Fullest queue",
                "Of the queues of the services and of the Collector. A full queue drops or "
                "rejects.",
                "percentunit",
                prom(_fullest_queue()),
                warn=0.2,
                bad=0.8,
                over_range=True,
            ).decimals(0),
            is_well(
                "Rejected items",
                "Spans, log records and metric points that the Collector rejected in the time "
                "shown: their senders try again.",
                "short",
                prom(
                    _sum_of_all(
                        [
                            increase(one, RECEIVED_ONCE)
                            for hop in others.HOPS
                            for one in (hop.refused, hop.failed)
                        ]
                    )
                ),
                warn=1,
                bad=1000,
                over_range=True,
            ).decimals(0),
            is_well(
                "Dropped items",
                "Spans, log records and samples that a service, the Collector or a backend dropped "
                f"in the time shown, and counted. {QUIET}",
                "short",
                prom(_sum_of_all(lost)),
                warn=1,
                bad=100,
                over_range=True,
            ).decimals(0),
            is_well(
                "Missing items",
                "Items that came into a hop in the last half hour, and neither left it nor were "
                f"counted as dropped. {_UNSETTLED}",
                "short",
                prom(or_zero(total(others.LEDGER_DIFFERENCE))),
                warn=1,
                bad=100,
                over_range=True,
            ).decimals(0),
        ],
        height=4,
    )


def _account() -> table.Panel:
    """Return the ledger (alerts/ledger.py) as a table."""
    by = (others.TOLD_OF, others.HOP)

    def ordered(metric: Series) -> str:
        """Add a number for the order of hops, because a table is sorted by a column."""
        value = total(metric, by=by)
        for n, hop in enumerate(_HOPS, 1):
            value = f'label_replace({value}, "step", "{n} {_HOPS[hop]}", "{others.HOP}", "{hop}")'
        return value

    panel = measured(
        "Delivery by hop",
        "Items of the last half hour at each hop: how many came in, how many left (sent on, "
        "stored, or counted as dropped), and how many are missing. Out may be higher than in: it "
        f"is counted over a slightly longer time. {_UNSETTLED}",
        {others.TOLD_OF: "Signal", "step": "Hop"},
        {
            "In": (ordered(others.LEDGER_IN), "short"),
            "Out": (ordered(others.LEDGER_OUT), "short"),
            "Missing": (ordered(others.LEDGER_DIFFERENCE), "short"),
        },
        hidden=(others.HOP,),
    )
    steps = [{"value": None, "color": "green"}, {"value": 1, "color": "red"}]
    return panel.override_by_name(
        "Missing",
        [
            DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}),
            DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ],
    )


# -- the path of each signal ----------------------------------------------------------------


def _way(signal: _Signal) -> Row:
    title, own, hop = signal.title, signal.own, signal.through
    return Row(
        f"{title}: details",
        [
            lines(
                f"{title} by step",
                "Per second at each step: created and sent by the service, accepted and sent by "
                f"the Collector, received and stored by {signal.store}. The steps are sampled at "
                "different times, so short waves differ; a lasting gap is a loss. The first two "
                "are of the chosen services, the others of all senders.",
                "short",
                [
                    prom(rate(own.created), "created"),
                    prom(rate(own.exported, _ARRIVED), "sent by the service"),
                    prom(
                        rate(hop.accepted, equals(RECEIVER, others.OTLP)),
                        "accepted by the Collector",
                    ),
                    prom(
                        rate(hop.sent, equals(EXPORTER, signal.exporter)),
                        "sent by the Collector",
                    ),
                    prom(rate(signal.received), f"received by {signal.store}"),
                    prom(_stored(signal.told_of), f"stored by {signal.store}"),
                ],
            ).fill_opacity(0),
            lines(
                f"{title} queued",
                "In the queue of the fullest process, which drops the oldest when it is full; and "
                "on disk, while the Collector is unreachable.",
                "short",
                [
                    prom(total(SPOOL_ITEMS, equals(SIGNAL, signal.signal)), "on disk"),
                    prom(aggregate("max", series(own.queue_size)), "queued"),
                    prom(aggregate("max", series(own.queue_capacity)), "capacity"),
                ],
            ),
            _missing(title, signal.told_of),
            _lost(signal),
            lines(
                f"{title} rejected",
                "Per second, by the Collector: rejected, which their sender sends again, or "
                "failed.",
                "short",
                [prom(rate(hop.refused), "rejected"), prom(rate(hop.failed), "failed")],
            ),
            _not_sent(title, hop),
            _discarded(signal),
            _fallbacks(signal),
        ],
        widths=(12, 6, 6, 6, 6, 6, 6, 24),
        folded=True,
    )


def _stored(told_of: str) -> str:
    return total(others.LEDGER_STORED, equals(others.TOLD_OF, told_of))


def _missing(title: str, told_of: str) -> Panel:
    """Return the difference of the ledger, which must be 0."""
    return lines(
        f"{title} missing",
        f"By hop, of what came into it in the last half hour: must be 0. {_UNSETTLED}",
        "short",
        [
            prom(
                total(others.LEDGER_DIFFERENCE, equals(others.TOLD_OF, told_of), by=(others.HOP,)),
                label(others.HOP),
            )
        ],
    )


def _lost(signal: _Signal) -> Panel:
    by = (ERROR_TYPE,)
    return lines(
        f"{signal.title} dropped",
        "Per second, by the service: dropped from a full queue, or not sent after all retries, by "
        "the reason.",
        "short",
        [
            prom(rate(signal.own.processed, _GIVEN_UP, by=by), f"dropped: {label(ERROR_TYPE)}"),
            prom(rate(signal.own.exported, _GIVEN_UP, by=by), f"not sent: {label(ERROR_TYPE)}"),
        ],
    )


def _not_sent(title: str, hop: Hop) -> Panel:
    by = (EXPORTER,)
    return lines(
        f"{title} not sent",
        "Per second, by exporter of the Collector: dropped because the backend will never accept "
        f"them, or rejected by a full queue, after which their sender tries again. {QUIET}",
        "short",
        [
            prom(or_nothing(rate(hop.send_failed, SENT_ONCE, by=by)), f"dropped {label(EXPORTER)}"),
            prom(
                or_nothing(rate(hop.enqueue_failed, SENT_ONCE, by=by)),
                f"queue full {label(EXPORTER)}",
            ),
        ],
    )


def _discarded(signal: _Signal) -> Panel:
    return lines(
        f"{signal.title} discarded",
        f"Per second, by {signal.store}, by the reason. The Collector counts them as sent. {QUIET}",
        "short",
        [
            prom(or_nothing(rate(one, by=(REASON,))), f"discarded {label(REASON)}")
            for one in signal.discarded
        ],
    )


def _fallbacks(signal: _Signal) -> Panel:
    return lines(
        f"{signal.title} fallback",
        "Per second, encoded by the SDK's encoder because the fast one could not, at several times "
        "the cost. None is lost. The service logs the reason once a minute: report it as a bug.",
        "short",
        [prom(rate(ENCODER_FALLBACKS, equals(SIGNAL, signal.signal)), "fallbacks")],
    )


def _points() -> Row:
    hop = others.POINTS_THROUGH
    return Row(
        "Metrics: details",
        [
            lines(
                "Points by step",
                "Per second: sent by the service, accepted by the Collector (with those of the "
                "host), sent on by it, and accepted by Prometheus, where one histogram point "
                "becomes many samples.",
                "short",
                [
                    prom(rate(POINTS_EXPORTED, _ARRIVED), "sent by the service"),
                    prom(
                        rate(hop.accepted, RECEIVED_ONCE, by=(RECEIVER,)),
                        f"accepted from {label(RECEIVER)}",
                    ),
                    prom(
                        rate(hop.sent, equals(EXPORTER, others.TO_PROMETHEUS)),
                        "sent by the Collector",
                    ),
                    prom(_stored(others.OF_POINTS), "stored by Prometheus"),
                ],
            ).fill_opacity(0),
            lines(
                "Samples stored",
                "Per second, with those that Prometheus scrapes.",
                "short",
                [
                    prom(
                        rate(others.PROMETHEUS_APPENDED, OWN, by=(others.KIND_LABEL,)),
                        label(others.KIND_LABEL),
                    )
                ],
            ),
            _missing("Points", others.OF_POINTS),
            lines(
                "Points delayed",
                "Per second that the service failed to send, by the reason: none is lost, the next "
                "export has the sum. "
                f"{QUIET}",
                "short",
                [
                    prom(
                        or_nothing(rate(POINTS_EXPORTED, _GIVEN_UP, by=(ERROR_TYPE,))),
                        f"failed {label(ERROR_TYPE)}",
                    )
                ],
            ),
            lines(
                "Points rejected",
                "Per second, by the Collector's receiver. Their sender sends them again.",
                "short",
                [
                    prom(rate(one, RECEIVED_ONCE, by=(RECEIVER,)), f"{what}: {label(RECEIVER)}")
                    for one, what in ((hop.refused, "rejected"), (hop.failed, "failed"))
                ],
            ),
            _not_sent("Points", hop),
            lines(
                "Samples discarded",
                "Per second: older than the newest sample, too old, or with invalid names. An "
                "exemplar that arrives twice is rejected, which is normal.",
                "short",
                [
                    prom(rate(one, OWN), what)
                    for one, what in zip(
                        (*_REFUSED_SAMPLES, others.PROMETHEUS_REFUSED_EXEMPLARS),
                        ("out of order", "out of bounds", "too old", "invalid", "exemplars"),
                        strict=True,
                    )
                ],
            ),
        ],
        widths=(12, 6, 6, 6, 6, 6, 6),
        folded=True,
    )
