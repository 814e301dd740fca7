"""The text of the rules' PromQL, put together from registered names."""

from collections.abc import Iterable
from typing import Final

from chatscope.names import Metric, prometheus_label
from dashboards.others import JOB, SERVICE_NAME, UP, Series
from dashboards.queries import aggregate, differs, differs_from, equals, matches, together

__all__ = ["aggregate", "differs", "differs_from", "equals", "matches", "together"]

BY_SERVICE: Final = (SERVICE_NAME,)
# For how long before its first sample a counter must have been unknown to count as new: one that
# was only away for a while, with the Collector, is not.
_UNKNOWN: Final = "1h"
# Nor is one of which nobody could know, because Prometheus itself was away.
_WATCHED: Final = f"{UP.prometheus}{{{equals(JOB, 'prometheus')}}}"


def select(metric: Metric | Series, *where: str, part: str = "") -> str:
    """A selector over all services; `part` is a histogram's bucket, sum or count."""
    name = f"{metric.prometheus}_{part}" if part else metric.prometheus
    return f"{name}{{{', '.join(where)}}}" if where else name


def rise(
    metric: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
    part: str = "",
) -> str:
    """How much a counter rose, the first count of a new series too.

    A series of errors is born with its first error, at 1: `increase` alone never sees that one.
    """
    selector = select(metric, *where, part=part)
    return aggregate(
        "sum",
        f"""
  (
    {selector}
    unless last_over_time({selector}[{_UNKNOWN}] offset {over})
    and on () {_WATCHED} offset {over}
  )
  or increase({selector}[{over}])
""",
        by,
    )


def aggregate_without(function: str, expression: str, left_out: Iterable[str]) -> str:
    """`sum`, `max`, … of an expression, by all labels but some."""
    labels = ", ".join(prometheus_label(attribute) for attribute in left_out)
    return f"{function} without ({labels}) ({expression})"


def increase(
    metric: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
) -> str:
    """How much a counter rose, where the first count of a new series is next to nothing."""
    return aggregate("sum", f"increase({select(metric, *where)}[{over}])", by)


def rate(
    metric: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
    part: str = "",
) -> str:
    """For each second."""
    return aggregate("sum", f"rate({select(metric, *where, part=part)}[{over}])", by)


def quantile(
    q: float,
    histogram: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
) -> str:
    buckets = rate(histogram, *where, over=over, by=(*by, "le"), part="bucket")
    return f"histogram_quantile({q:g}, {buckets})"


def share(part: str, whole: str) -> str:
    """Without a whole there is no share."""
    return f"{part}\n/ ({whole} > 0)"


def within(seconds: float) -> str:
    """The bucket up to that bound, in either spelling of a whole number."""
    text = f"{seconds:g}"
    return matches("le", f"{text}([.]0)?") if "." not in text else equals("le", text)


def on(attributes: Iterable[str]) -> str:
    return f"on ({', '.join(prometheus_label(attribute) for attribute in attributes)})"
