"""Queries (PromQL, LogQL, TraceQL), built from registered names.

A query for one of the service's metrics selects the chosen service, and the chosen model and route
if the metric has them; `everything=True` disables this.
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

# At least four times the interval between two samples, so that each rate has two samples.
RATE: Final = "$__rate_interval"
# The dashboard's whole time range.
RANGE: Final = "$__range"

# -- conditions ------------------------------------------------------------------------


def equals(attribute: str, value: str) -> str:
    return f'{prometheus_label(attribute)}="{value}"'


def differs(attribute: str, value: str = "") -> str:
    """Return a matcher; without a value, the attribute must exist."""
    return f'{prometheus_label(attribute)}!="{value}"'


def matches(attribute: str, pattern: str) -> str:
    return f'{prometheus_label(attribute)}=~"{pattern}"'


def differs_from(attribute: str, pattern: str) -> str:
    return f'{prometheus_label(attribute)}!~"{pattern}"'


# Points of the Collector except those that it sends to itself through the queue for metrics.
RECEIVED_ONCE: Final = differs(RECEIVER, PAST_QUEUE_IN)
SENT_ONCE: Final = differs(EXPORTER, PAST_QUEUE_OUT)


# -- PromQL ------------------------------------------------------------------------------


def series(metric: Metric | Series, *where: str, part: str = "", everything: bool = False) -> str:
    """Return a selector; `part` is a histogram's bucket, sum or count."""
    chosen: list[str] = []
    if not everything:
        if isinstance(metric, Metric) or metric.of_service:
            chosen.append(SERVICE.matcher)
        chosen += [v.matcher for v in (MODEL, ROUTE) if v.attribute in metric.attributes]
    name = f"{metric.prometheus}_{part}" if part else metric.prometheus
    conditions = ", ".join([*chosen, *where])
    return f"{name}{{{conditions}}}" if conditions else name


def aggregate(function: str, expression: str, by: Iterable[str] = ()) -> str:
    """Return `sum`, `max`, … of an expression, by attributes."""
    labels = ", ".join(prometheus_label(attribute) for attribute in by)
    return f"{function} by ({labels}) ({expression})" if labels else f"{function}({expression})"


def together(parts: Iterable[str], by: Iterable[str] = (), *, function: str = "sum") -> str:
    """Return `function` of several expressions, any of which may be empty, by common labels.

    `or` alone would hide series with the labels of an earlier expression, so each gets a mark.
    """
    marked = [f'label_replace({part}, "part", "{n}", "", "")' for n, part in enumerate(parts)]
    return aggregate(function, "\nor ".join(marked), by)


def total(
    metric: Metric | Series, *where: str, by: Iterable[str] = (), everything: bool = False
) -> str:
    """Return the sum of current values: for gauges and up-down counters."""
    return aggregate("sum", series(metric, *where, everything=everything), by)


def rate(
    metric: Metric | Series,
    *where: str,
    by: Iterable[str] = (),
    part: str = "",
    everything: bool = False,
) -> str:
    """Return the rate per second of a counter, or of a histogram's part."""
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
    """Return the increase of a counter, or of a histogram's part, over the whole time range."""
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
    """Return a quantile of a histogram, by default over the interval between two points."""
    selected = series(histogram, *where, part="bucket", everything=everything)
    buckets = aggregate("sum", f"rate({selected}[{over}])", (*by, "le"))
    return f"histogram_quantile({q:g}, {buckets})"


def with_exemplars(recorded: str, made: str) -> str:
    """Return a query of a recorded metric, or else of its source, which has exemplars.

    Recorded series have none; Grafana requests exemplars of all series that a query names.
    """
    return f"{recorded} or {made}"


def either(first: str, second: str) -> str:
    """Return the first expression, and the second for labels that the first lacks."""
    return f"{first} or {second}"


def seconds_since_last_sample(uptime: Metric, ended: Metric) -> str:
    """Return the age of the last sample of the most silent instance; an hour at most.

    An instance that ended on purpose is silent, too: it does not count if it said so with `ended`,
    or if an instance of the same service started after its last sample. If every instance ended
    on purpose, the newest one counts.
    """
    service, instance = prometheus_label(SERVICE_NAME), INSTANCE
    now = series(uptime)
    age = f"(time() - max by ({service}, {instance}) (timestamp({now})))"
    alive = f"({now} and (time() - timestamp({now}) < 15))"
    replaced = f"({age} > on ({service}) group_left () (min by ({service}) ({alive}) + 5))"
    worst = f"{age} unless {replaced} unless on ({service}, {instance}) {series(ended)}"

    # A service without any current sample: searched in steps.
    def last(metric: Metric) -> str:
        return f"max by ({service}) (max_over_time(timestamp({series(metric)})[1h:10s]))"

    silent = f"({last(uptime)} unless ({last(ended)} >= {last(uptime)}))"
    return (
        f"max(max by ({service}) ({worst}) or (time() - {silent}))"
        f" or (time() - max({last(uptime)})) or vector(3600)"
    )


def fullness(used: Metric, limit: str) -> str:
    """Return the used share of a limit, in the process with the maximum."""
    bound = series(LIMIT_VALUE, equals(LIMIT, limit))
    return f"max({series(used)} / ignoring ({prometheus_label(LIMIT)}) {bound})"


def or_zero(expression: str) -> str:
    """Return 0 instead of no value: nothing of this kind was ever counted."""
    return f"({expression} or vector(0))"


def positive(expression: str) -> str:
    """Return no value instead of 0, which would be drawn as a line on top of a stack."""
    return f"{expression} > 0"


def ratio(part: str, whole: str) -> str:
    """Return a ratio; no value instead of NaN if the whole is 0."""
    return f"{part} / ({whole} > 0)"


# -- LogQL -------------------------------------------------------------------------------


def lines(*stages: str) -> str:
    """Return log lines of the chosen services; each stage includes its operator (`|=`, `|`)."""
    # Loki rejects a selector whose matchers all match empty values, as "all" does.
    stream = f'{{{SERVICE.matcher}, {prometheus_label(SERVICE_NAME)}!=""}}'
    return " ".join([stream, *stages])


def keep(condition: str) -> str:
    """Return the stage that filters lines by structured metadata: see `equals` and others."""
    return f"| {condition}"


def search() -> list[str]:
    """Return the stages for the text fields: a text, and the beginnings of IDs."""
    wanted = f"`${{{CONVERSATION.name}:regex}}.*`"
    ids = " or ".join(
        f"{prometheus_label(name)}=~{wanted}" for name in (CONNECTION_ID, GEN_AI_CONVERSATION_ID)
    )
    return [
        f"|= `${{{TEXT.name}:raw}}`",
        keep(f"{TRACE_ID}=~`${{{TRACE.name}:regex}}.*`"),
        keep(ids),
    ]


def same_body() -> str:
    """Return the stage that gives lines that differ only in IDs and numbers the same `body`."""
    numbers = r"[0-9a-f]{8}[0-9a-f-]*|[0-9]+([.][0-9]+)?"
    return f'| label_format {BODY}=`{{{{ regexReplaceAll "{numbers}" __line__ "#" | trunc 200 }}}}`'


def count_lines(*stages: str, by: Iterable[str] = (), over: str = "$__auto") -> str:
    """Return a sum of line counts: Loki rejects a result of more than 500 series."""
    return aggregate("sum", f"count_over_time({lines(*stages)} [{over}])", by)


# -- TraceQL -----------------------------------------------------------------------------


def spans(*conditions: str) -> str:
    """Return spans of the chosen services that meet all TraceQL conditions."""
    chosen = f'resource.{SERVICE_NAME} =~ "${SERVICE.name}"'
    return "{ " + " && ".join([chosen, *conditions]) + " }"


def newest(query: str) -> str:
    """Return the matching spans of the newest traces.

    Without the hint Tempo returns the first matches that it finds.
    """
    return f"{query} with (most_recent=true)"


def of_route() -> str:
    """Return the TraceQL condition for the chosen routes; spans without a route do not meet it."""
    return f'span.{ROUTE.attribute} =~ "${ROUTE.name}"'
