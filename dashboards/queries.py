"""The text of queries (PromQL, LogQL, TraceQL), put together from registered names.

A query for one of the service's metrics keeps to the chosen service, and to the chosen model and
route where the metric has them; `everything=True` asks for all of them.
"""

from collections.abc import Iterable
from typing import Final

from chatscope.names import (
    CONNECTION_ID,
    GEN_AI_CONVERSATION_ID,
    LIMIT,
    LIMIT_VALUE,
    Metric,
    prometheus_label,
)
from dashboards.others import (
    BODY,
    EXPORTER,
    INSTANCE,
    PAST_QUEUE_IN,
    PAST_QUEUE_OUT,
    RECEIVER,
    SERVICE_NAME,
    TRACE_ID,
    Series,
)
from dashboards.variables import CONVERSATION, MODEL, ROUTE, SERVICE, TEXT, TRACE

# At least four times the time between two samples, so that each rate has its two.
RATE: Final = "$__rate_interval"
# All that the board shows.
RANGE: Final = "$__range"

# -- conditions ------------------------------------------------------------------------


def equals(attribute: str, value: str) -> str:
    return f'{prometheus_label(attribute)}="{value}"'


def differs(attribute: str, value: str = "") -> str:
    """Without a value: the attribute is there."""
    return f'{prometheus_label(attribute)}!="{value}"'


def matches(attribute: str, pattern: str) -> str:
    return f'{prometheus_label(attribute)}=~"{pattern}"'


def differs_from(attribute: str, pattern: str) -> str:
    return f'{prometheus_label(attribute)}!~"{pattern}"'


# Of what the Collector counts, without what it hands to itself past the queue of its metrics.
RECEIVED_ONCE: Final = differs(RECEIVER, PAST_QUEUE_IN)
SENT_ONCE: Final = differs(EXPORTER, PAST_QUEUE_OUT)


# -- PromQL ------------------------------------------------------------------------------


def series(metric: Metric | Series, *where: str, part: str = "", everything: bool = False) -> str:
    """A selector; `part` is a histogram's bucket, sum or count."""
    chosen: list[str] = []
    if not everything:
        if isinstance(metric, Metric) or metric.of_service:
            chosen.append(SERVICE.matcher)
        chosen += [v.matcher for v in (MODEL, ROUTE) if v.attribute in metric.attributes]
    name = f"{metric.prometheus}_{part}" if part else metric.prometheus
    conditions = ", ".join([*chosen, *where])
    return f"{name}{{{conditions}}}" if conditions else name


def aggregate(function: str, expression: str, by: Iterable[str] = ()) -> str:
    """`sum`, `max`, … of an expression, by attributes."""
    labels = ", ".join(prometheus_label(attribute) for attribute in by)
    return f"{function} by ({labels}) ({expression})" if labels else f"{function}({expression})"


def together(parts: Iterable[str], by: Iterable[str] = (), *, function: str = "sum") -> str:
    """`function` of expressions of which each may find nothing, by labels that all of them have.

    `or` alone would hide what has the labels of one before it, so each is marked first.
    """
    marked = [f'label_replace({part}, "part", "{n}", "", "")' for n, part in enumerate(parts)]
    return aggregate(function, "\nor ".join(marked), by)


def total(
    metric: Metric | Series, *where: str, by: Iterable[str] = (), everything: bool = False
) -> str:
    """The sum of what is now: for gauges and up-down counters."""
    return aggregate("sum", series(metric, *where, everything=everything), by)


def rate(
    metric: Metric | Series,
    *where: str,
    by: Iterable[str] = (),
    part: str = "",
    everything: bool = False,
) -> str:
    """Of a counter, or of a histogram's part, for each second."""
    selected = series(metric, *where, part=part, everything=everything)
    return aggregate("sum", f"rate({selected}[{RATE}])", by)


def increase(
    metric: Metric | Series,
    *where: str,
    by: Iterable[str] = (),
    part: str = "",
    everything: bool = False,
    over: str = RANGE,
) -> str:
    """Of a counter, or of a histogram's part, over the time that the board shows."""
    selected = series(metric, *where, part=part, everything=everything)
    return aggregate("sum", f"increase({selected}[{over}])", by)


def quantile(
    q: float,
    histogram: Metric | Series,
    *where: str,
    by: Iterable[str] = (),
    over: str = RATE,
    everything: bool = False,
) -> str:
    """Of a histogram, over the time between two points unless told."""
    selected = series(histogram, *where, part="bucket", everything=everything)
    buckets = aggregate("sum", f"rate({selected}[{over}])", (*by, "le"))
    return f"histogram_quantile({q:g}, {buckets})"


def with_exemplars(recorded: str, made: str) -> str:
    """A query of what a rule records, or else of the metric that it reads, which has exemplars.

    Recorded series have none; Grafana asks for those of all series that a query names.
    """
    return f"{recorded} or {made}"


def either(first: str, second: str) -> str:
    """The first where it is recorded, and the second for the labels that it lacks."""
    return f"{first} or {second}"


def seconds_since_last_sample(uptime: Metric) -> str:
    """Of the instance that is silent for longest; an hour at most, or if there was none at all.

    An instance that ended on purpose is silent as well: it does not count if an instance of the
    same service started after its last sample.
    """
    service, instance = prometheus_label(SERVICE_NAME), INSTANCE
    now = series(uptime)
    age = f"(time() - max by ({service}, {instance}) (timestamp({now})))"
    alive = f"({now} and (time() - timestamp({now}) < 15))"
    replaced = f"({age} > on ({service}) group_left () (min by ({service}) ({alive}) + 5))"
    # A service without any present sample: searched for in steps.
    earlier = f"time() - max by ({service}) (max_over_time(timestamp({now})[1h:10s]))"
    worst = f"max by ({service}) ({age} unless {replaced})"
    return f"max({worst} or ({earlier})) or vector(3600)"


def fullness(used: Metric, limit: str) -> str:
    """How much of a limit is in use, in the process where it is the most."""
    bound = series(LIMIT_VALUE, equals(LIMIT, limit))
    return f"max({series(used)} / ignoring ({prometheus_label(LIMIT)}) {bound})"


def or_zero(expression: str) -> str:
    """Nothing of a kind was ever counted: that is 0, not unknown."""
    return f"({expression} or vector(0))"


def positive(expression: str) -> str:
    """Nothing instead of 0: on a stack a part without any would be a line along its edge."""
    return f"{expression} > 0"


def ratio(part: str, whole: str) -> str:
    """Without a whole there is no ratio, rather than NaN."""
    return f"{part} / ({whole} > 0)"


# -- LogQL -------------------------------------------------------------------------------


def lines(*stages: str) -> str:
    """Log lines of the chosen services; each stage with its own sign (`|=`, `|`)."""
    # Loki refuses a selector that nothing needs to match, as "all" is.
    stream = f'{{{SERVICE.matcher}, {prometheus_label(SERVICE_NAME)}!=""}}'
    return " ".join([stream, *stages])


def keep(condition: str) -> str:
    """The stage that keeps lines by their structured metadata: see `equals` and the others."""
    return f"| {condition}"


def search() -> list[str]:
    """The stages that keep to what a person typed in; raw between backticks, as it is written."""
    wanted = f"`${{{CONVERSATION.name}:raw}}.*`"
    ids = " or ".join(
        f"{prometheus_label(name)}=~{wanted}" for name in (CONNECTION_ID, GEN_AI_CONVERSATION_ID)
    )
    return [
        f"|= `${{{TEXT.name}:raw}}`",
        keep(f"{TRACE_ID}=~`${{{TRACE.name}:raw}}.*`"),
        keep(ids),
    ]


def same_body() -> str:
    """The stage that gives lines that differ only in ids and numbers the same `body`."""
    numbers = r"[0-9a-f]{8}[0-9a-f-]*|[0-9]+([.][0-9]+)?"
    return f'| label_format {BODY}=`{{{{ regexReplaceAll "{numbers}" __line__ "#" | trunc 200 }}}}`'


def count_lines(*stages: str, by: Iterable[str] = (), over: str = "$__auto") -> str:
    """Loki refuses more than 500 series, so it is always a sum."""
    return aggregate("sum", f"count_over_time({lines(*stages)} [{over}])", by)


# -- TraceQL -----------------------------------------------------------------------------


def spans(*conditions: str) -> str:
    """Spans of the chosen services for which all conditions hold, each in TraceQL."""
    chosen = f'resource.{SERVICE_NAME} =~ "${SERVICE.name}"'
    return "{ " + " && ".join([chosen, *conditions]) + " }"


def newest(query: str) -> str:
    """Of the spans that match, those of the newest traces.

    Without the hint Tempo answers with any, those that it finds first.
    """
    return f"{query} with (most_recent=true)"


def of_route() -> str:
    """The TraceQL condition for the chosen routes; spans without a route do not meet it."""
    return f'span.{ROUTE.attribute} =~ "${ROUTE.name}"'
