"""What OTLP refuses besides attribute values: names, descriptions and sums.

The exporters call this on their own thread, so it calls no code of the application. Attribute
values were converted when they were set (`values.py`, `sdk_values.py`). A text that UTF-8 cannot
encode, such as half a surrogate pair, makes the SDK's encoder raise, and the whole batch is lost.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from math import inf
from operator import is_
from typing import Any, Final

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import Metric, MetricsData
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Status

from .values import MAX_INT, MIN_INT, text

_SURELY_FITS: Final = 10_000


def span(found: ReadableSpan) -> ReadableSpan:
    """Return the same object where nothing has to be changed."""
    # Without the view that the SDK makes anew each time.
    before = found._attributes
    own, events, links = _attributes(before), found.events, found.links
    status, scope = found.status, _scope(found.instrumentation_scope)
    if (
        own is before
        and scope is found.instrumentation_scope
        and _fits(found.name)
        and (status.description is None or _fits(status.description))
        and all(_fits(each.name) and _names_fit(each.attributes) for each in events)
        and all(_names_fit(each.attributes) for each in links)
    ):
        return found
    return ReadableSpan(
        name=text(found.name),
        context=found.context,
        parent=found.parent,
        resource=found.resource,
        attributes=own,
        events=[Event(text(e.name), _attributes(e.attributes), e.timestamp) for e in events],
        links=[Link(each.context, _attributes(each.attributes)) for each in links],
        kind=found.kind,
        status=Status(status.status_code, status.description and text(status.description)),
        start_time=found.start_time,
        end_time=found.end_time,
        instrumentation_scope=scope,
    )


def record(found: ReadableLogRecord) -> ReadableLogRecord:
    """Return the same object where nothing has to be changed."""
    log, scope = found.log_record, _scope(found.instrumentation_scope)
    own = _attributes(log.attributes)
    if own is not log.attributes:
        log = copy(log)
        log.attributes = own
        found = replace(found, log_record=log)
    if scope is not found.instrumentation_scope:
        found = replace(found, instrumentation_scope=scope)
    return found


def text_size(batch: Sequence[Any]) -> int:
    """Return about how many bytes the texts of spans or log records take, without encoding them."""
    return sum(_weight(each) for item in batch for each in _texts(item))


def _texts(item: Any) -> Iterator[Any]:
    if isinstance(item, ReadableLogRecord):
        yield item.log_record.body
        yield item.log_record.attributes
    elif isinstance(item, ReadableSpan):
        yield item._attributes
        for each in (*item.events, *item.links):
            yield each.attributes


def _weight(found: Any) -> int:
    kind = type(found)
    if kind is str or kind is bytes:
        return len(found)
    if kind is tuple:
        return sum(map(_weight, found))
    inside = found if kind is dict else getattr(found, "_dict", None)
    if inside is None:
        return 0
    weight = 0
    for name, value in inside.items():
        kind = type(value)
        weight += len(name)
        if kind is str:
            weight += len(value)
        elif kind is tuple or kind is dict or kind is bytes:
            weight += _weight(value)
    return weight


def metrics(found: MetricsData) -> MetricsData:
    """Turn sums that exceed 64 bits into floats: one of them would end all metrics."""
    return MetricsData(
        [
            replace(
                resource,
                scope_metrics=[
                    replace(
                        each,
                        scope=_scope(each.scope),
                        metrics=[_metric(metric) for metric in each.metrics],
                    )
                    for each in resource.scope_metrics
                ],
            )
            for resource in found.resource_metrics
        ]
    )


def _metric(found: Metric) -> Metric:
    data: Any = found.data
    if found.description and not _fits(found.description):
        found = replace(found, description=text(found.description))
    points = [_point(each) for each in data.data_points]
    if all(map(is_, points, data.data_points)):
        return found
    return replace(found, data=replace(data, data_points=points))


def _point(found: Any) -> Any:
    number = getattr(found, "value", 0)
    if type(number) is not int or MIN_INT <= number <= MAX_INT:
        return found
    return replace(found, value=_float(number))


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf


def _scope(found: Any) -> Any:
    fits = found is None or _fits(found.name)
    return found if fits else InstrumentationScope(text(found.name), found.version)


def _attributes(found: Mapping[str, Any] | None) -> Any:
    """Return the same object where all names can be encoded."""
    if _names_fit(found):
        return found
    return {text(name): value for name, value in (found or {}).items()}


def _names_fit(found: Mapping[str, Any] | None) -> bool:
    # Asked of each span and record: the SDK's own mapping takes a lock for each look into it.
    inside: Mapping[str, Any] = getattr(found, "_dict", found) or {}
    return all(map(_fits, inside))


def _fits(found: object) -> bool:
    """Whether it is a text that can be encoded as it is."""
    if type(found) is not str:
        return False
    return (len(found) <= _SURELY_FITS and found.isascii()) or text(found) == found
