"""Pipeline: does all that is told arrive, and are those well who carry and keep it?"""

from typing import Final, NamedTuple

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    ENCODER_FALLBACKS,
    ERROR_TYPE,
    LOG_METRICS,
    POINTS_EXPORTED,
    PROCESS_UPTIME,
    SIGNAL,
    SPAN_METRICS,
    SPOOL_ITEMS,
    SignalMetrics,
)
from dashboards import links, others
from dashboards.board import Row, assemble
from dashboards.boards import _parts
from dashboards.boards._parts import OWN, PARTS, QUIET, or_nothing
from dashboards.legends import label
from dashboards.others import EXPORTER, JOB, REASON, RECEIVER, Hop, Series
from dashboards.panels import Panel, is_well, lines, prom
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
    """One kind of telemetry, from the service to its store."""

    name: str
    # What the service calls it where it waits on disk, and what the ledger does.
    signal: str
    told_of: str
    own: SignalMetrics
    through: Hop
    store: str
    received: Series
    discarded: tuple[Series, ...]


_SPANS: Final = _Signal(
    "spans",
    "traces",
    others.OF_SPANS,
    SPAN_METRICS,
    others.SPANS_THROUGH,
    "Tempo",
    others.TEMPO_RECEIVED,
    (others.TEMPO_DISCARDED, others.TEMPO_GENERATOR_DISCARDED),
)
_LOGS: Final = _Signal(
    "log lines",
    "logs",
    others.OF_LOGS,
    LOG_METRICS,
    others.LOGS_THROUGH,
    "Loki",
    others.LOKI_RECEIVED,
    (others.LOKI_DISCARDED,),
)
# Of the ledger (alerts/ledger.py).
_UNSETTLED: Final = (
    "What waits is not missing. For half an hour after a part was away it says nothing, which is 0."
)
_REFUSED_SAMPLES: Final = (
    others.PROMETHEUS_OUT_OF_ORDER,
    others.PROMETHEUS_OUT_OF_BOUNDS,
    others.PROMETHEUS_TOO_OLD,
    others.PROMETHEUS_INVALID,
)


def board() -> Dashboard:
    return assemble(
        links.PIPELINE,
        "Whether all that the service tells arrives in the stores, and whether those who carry "
        "and keep it are well.",
        [
            _is_it_well(),
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


# -- all of it ---------------------------------------------------------------------------


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


def _is_it_well() -> Row:
    up = series(others.UP, matches(JOB, PARTS))
    return Row(
        "Is it well?",
        [
            is_well(
                "How many of the five parts are up?",
                "Collector, Prometheus, Loki, Tempo and Alertmanager, as Prometheus reaches them.",
                "short",
                prom(aggregate("sum", up)),
                warn=5,
                bad=4,
            ),
            is_well(
                "How old is the newest metric?",
                "Time since the service's last metric was stored: it sends one each second.",
                "s",
                prom(f"time() - max(timestamp({series(PROCESS_UPTIME)}))"),
                warn=15,
                bad=60,
                no_value="nothing for 5 minutes",
            ),
            is_well(
                "How full is the fullest queue?",
                "Of the service's and of the Collector's. A full one drops or refuses.",
                "percentunit",
                prom(_fullest_queue()),
                warn=0.2,
                bad=0.8,
            ),
            is_well(
                "How much was refused for a moment?",
                "Items that the Collector refused in the time shown: their senders try again.",
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
                "How much did the service lose?",
                "Spans and log lines that it dropped, or gave up sending, in the time shown.",
                "short",
                prom(_sum_of_all(_lost_in_service())),
                warn=1,
                bad=100,
                over_range=True,
            ).decimals(0),
            is_well(
                "How much did the Collector lose?",
                f"Items that it could not handle, or gave up sending, in the time shown. {QUIET}",
                "short",
                prom(_sum_of_all(_lost_in_collector())),
                warn=1,
                bad=100,
                over_range=True,
            ).decimals(0),
            is_well(
                "How much did the stores throw away?",
                "Spans, lines and samples that Tempo, Loki or Prometheus took and did not keep, "
                f"in the time shown. {QUIET}",
                "short",
                prom(_sum_of_all(_lost_in_stores())),
                warn=1,
                bad=100,
                over_range=True,
            ).decimals(0),
            is_well(
                "How much vanished without a word?",
                "What came to a hop in half an hour, and neither left it nor was told to be lost. "
                f"{_UNSETTLED}",
                "short",
                prom(or_zero(total(others.LEDGER_DIFFERENCE))),
                warn=1,
                bad=100,
            ).decimals(0),
        ],
        height=4,
        widths=(6,) * 8,
    )


# -- each signal's way ----------------------------------------------------------------------


def _way(signal: _Signal) -> Row:
    name, own, hop = signal.name, signal.own, signal.through
    return Row(
        f"Do all {name} arrive?",
        [
            lines(
                f"Do as many {name} arrive as are made?",
                "A second, at each step: made by the service, sent by it, accepted and sent by the "
                f"Collector, received and stored by {signal.store}. The steps tell of themselves "
                "at different times, so short waves differ; a lasting gap is a loss. The first two "
                "are of the chosen services, the others of all who send.",
                "short",
                [
                    prom(rate(own.created), "made"),
                    prom(rate(own.exported, _ARRIVED), "sent by the service"),
                    prom(rate(hop.accepted), "accepted by the Collector"),
                    prom(rate(hop.sent), "sent by the Collector"),
                    prom(rate(signal.received), f"received by {signal.store}"),
                    prom(_stored(signal.told_of), f"stored by {signal.store}"),
                ],
            ).fill_opacity(0),
            lines(
                f"How many {name} wait in the service?",
                "In its queue, at the most loaded process, which drops the oldest when it is full; "
                "and on disk, while the Collector is away.",
                "short",
                [
                    prom(total(SPOOL_ITEMS, equals(SIGNAL, signal.signal)), "on disk"),
                    prom(aggregate("max", series(own.queue_size)), "waiting"),
                    prom(aggregate("max", series(own.queue_capacity)), "room"),
                ],
            ),
            _missing(name, signal.told_of),
            _lost(signal),
            lines(
                f"Which {name} did the Collector refuse?",
                "A second: refused, which their sender sends again, or failed.",
                "short",
                [prom(rate(hop.refused), "refused"), prom(rate(hop.failed), "failed")],
            ),
            _not_sent(name, hop),
            _discarded(signal),
            _fallbacks(signal),
        ],
        widths=(12, 6, 6, 5, 5, 5, 5, 4),
    )


def _stored(told_of: str) -> str:
    return total(others.LEDGER_STORED, equals(others.TOLD_OF, told_of))


def _missing(name: str, told_of: str) -> Panel:
    """The difference of the ledger, which must be 0."""
    return lines(
        f"How many {name} are missing?",
        f"By hop, of what came to it in half an hour: must be 0. {_UNSETTLED}",
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
        f"Which {signal.name} did the service lose?",
        "A second: dropped from a full queue, or given up after all tries, by the reason.",
        "short",
        [
            prom(rate(signal.own.processed, _GIVEN_UP, by=by), f"dropped: {label(ERROR_TYPE)}"),
            prom(rate(signal.own.exported, _GIVEN_UP, by=by), f"given up: {label(ERROR_TYPE)}"),
        ],
    )


def _not_sent(name: str, hop: Hop) -> Panel:
    by = (EXPORTER,)
    return lines(
        f"Which {name} could the Collector not send?",
        "A second, by exporter: given up because the store will never take them, or refused by "
        f"a full queue, which its sender learns. {QUIET}",
        "short",
        [
            prom(
                or_nothing(rate(hop.send_failed, SENT_ONCE, by=by)), f"given up {label(EXPORTER)}"
            ),
            prom(
                or_nothing(rate(hop.enqueue_failed, SENT_ONCE, by=by)),
                f"queue full {label(EXPORTER)}",
            ),
        ],
    )


def _discarded(signal: _Signal) -> Panel:
    return lines(
        f"Which {signal.name} did {signal.store} throw away?",
        "A second, by the reason. The Collector counts them as sent: only the store knows. "
        f"{QUIET}",
        "short",
        [
            prom(or_nothing(rate(one, by=(REASON,))), f"thrown away {label(REASON)}")
            for one in signal.discarded
        ],
    )


def _fallbacks(signal: _Signal) -> Panel:
    return lines(
        f"How many {signal.name} did the fallback encode?",
        "A second, encoded by the official encoder because ours could not, at several times the "
        "cost. None is lost. The service logs the reason once a minute: report it as a bug.",
        "short",
        [prom(rate(ENCODER_FALLBACKS, equals(SIGNAL, signal.signal)), "fallbacks")],
    )


def _points() -> Row:
    hop = others.POINTS_THROUGH
    return Row(
        "Do all metrics arrive?",
        [
            lines(
                "Do as many metric points arrive as are sent?",
                "A second: sent by the service, accepted by the Collector, the host's among them, "
                "sent on by it, and taken by Prometheus, where one histogram's point becomes many "
                "samples.",
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
                "How many samples are kept of them?",
                "Samples a second, with those that it scrapes.",
                "short",
                [
                    prom(
                        rate(others.PROMETHEUS_APPENDED, OWN, by=(others.KIND_LABEL,)),
                        label(others.KIND_LABEL),
                    )
                ],
            ),
            _missing("metric points", others.OF_POINTS),
            lines(
                "Which metric points came late?",
                "A second that the service failed to send, by the reason: none is lost, the next "
                "export brings the sum. "
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
                "Which metric points did the Collector refuse?",
                "A second, by receiver. Refused ones are sent again by their sender.",
                "short",
                [
                    prom(rate(one, RECEIVED_ONCE, by=(RECEIVER,)), f"{what}: {label(RECEIVER)}")
                    for one, what in ((hop.refused, "refused"), (hop.failed, "failed"))
                ],
            ),
            _not_sent("metric points", hop),
            lines(
                "Which samples did Prometheus throw away?",
                "A second: older than what it has, too old, or with names that it does not take. "
                "An exemplar that comes again is refused, and that is as it should be.",
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
    )
