"""PromQL of the rules, built from registered names."""

from collections.abc import Iterable
from typing import Final

from chatscope.names import Metric, prometheus_label
from dashboards.others import JOB, SERVICE_NAME, UP, Series
from dashboards.queries import aggregate, differs, differs_from, equals, matches, together

__all__ = ["aggregate", "differs", "differs_from", "equals", "matches", "together"]

BY_SERVICE: Final = (SERVICE_NAME,)
# A counter is new if it did not exist for this time before its first sample; one that was only
# missing during an outage, with the Collector, is not new.
_UNKNOWN: Final = "1h"
# Nor is a counter new if Prometheus itself was down before.
_WATCHED: Final = f"{UP.prometheus}{{{equals(JOB, 'prometheus')}}}"


def select(metric: Metric | Series, *where: str, part: str = "") -> str:
    """Return a selector over all services; `part` is a histogram's bucket, sum or count."""
    name = f"{metric.prometheus}_{part}" if part else metric.prometheus
    return f"{name}{{{', '.join(where)}}}" if where else name


def rise(
    metric: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
    part: str = "",
) -> str:
    """Return the increase of a counter, including the first value of a new series.

    A series of errors starts with its first error, at 1: `increase` alone never counts that one.
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
    """Return `sum`, `max`, … of an expression, by all labels except some."""
    labels = ", ".join(prometheus_label(attribute) for attribute in left_out)
    return f"{function} without ({labels}) ({expression})"


def increase(
    metric: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
) -> str:
    """Return the increase of a counter whose first value is negligible."""
    return aggregate("sum", f"increase({select(metric, *where)}[{over}])", by)


def rate(
    metric: Metric | Series,
    *where: str,
    over: str,
    by: Iterable[str] = BY_SERVICE,
    part: str = "",
) -> str:
    """Return the rate per second."""
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
    """Return a ratio; no value if the whole is 0."""
    return f"{part}\n/ ({whole} > 0)"


def within(seconds: float) -> str:
    """Return a matcher of the bucket with that bound, in both notations of a whole number."""
    text = f"{seconds:g}"
    return matches("le", f"{text}([.]0)?") if "." not in text else equals("le", text)


def on(attributes: Iterable[str]) -> str:
    return f"on ({', '.join(prometheus_label(attribute) for attribute in attributes)})"
