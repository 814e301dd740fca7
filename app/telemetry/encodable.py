"""What the wire or the stores cannot take, as what they can: else one wrong text takes its whole
batch along.

A Python string may hold half a surrogate pair, which UTF-8 has no bytes for: a file's name, a
JSON escape, a piece of an answer that was cut amid an emoji. An integer may be of any size, OTLP's
has 64 bits. The SDK's encoder raises for the first in a name or a body, and every item of that
batch is lost; for both in an attribute it leaves the attribute out. Of a text of megabytes Tempo
keeps a quarter, and Loki, where it is an attribute, not even its record.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from math import inf
from operator import is_
from typing import Any, Final

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import Metric, MetricsData
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Status

# In bytes: where Tempo would cut an attribute (tempo.yaml) and Loki a line (loki.yaml).
LONGEST_TEXT: Final = 262_144
# What is no longer than this needs no look: a character has four bytes at most.
_SURELY_SHORT: Final = LONGEST_TEXT // 4
_INT64: Final = range(-(2**63), 2**63)
# Deeper than anybody reads, and far from where Python's own stack ends.
DEEPEST: Final = 20
TOO_DEEP: Final = f"<more than {DEEPEST} levels>"
_LONGEST_BITS: Final = 1024


def text(found: str) -> str:
    """`found` itself, where it can go. Halves that belong together are joined, others spelled out,
    so that what was different stays different; what is too long ends with how long it was."""
    if _is_utf8(found):
        data = found.encode()
    else:
        joined = found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        data = joined.encode("utf-8", "backslashreplace")
    if len(data) > LONGEST_TEXT:
        mark = f"… [cut: {len(data)} bytes]".encode()
        data = data[: LONGEST_TEXT - len(mark)].decode("utf-8", "ignore").encode() + mark
    return data.decode()


def value(found: Any, depth: int = 0) -> Any:
    """An attribute's value, or a body; the same object where nothing is wrong with it."""
    if isinstance(found, str):
        return text(found)
    if isinstance(found, int) and found not in _INT64:
        return _digits(found)
    if isinstance(found, int | float | bytes | None):
        return found
    if depth == DEEPEST:
        return TOO_DEEP
    return _values(found, depth + 1)


def _values(found: Any, depth: int) -> Any:
    if isinstance(found, Mapping):
        return {described(key): value(each, depth) for key, each in found.items()}
    if isinstance(found, Sequence):
        return tuple(value(each, depth) for each in found)
    return described(found)


def described(found: object) -> str:
    """`str(found)`, also where that raises."""
    try:
        return text(str(found))
    except Exception as error:
        return f"<{type(found).__name__} without a text: {type(error).__name__}>"


def attributes(found: Mapping[str, Any] | None) -> Any:
    """The same object where nothing is wrong with any of them."""
    if _all_fit(found):
        return found
    return {text(name): value(each) for name, each in (found or {}).items()}


def span(found: ReadableSpan) -> ReadableSpan:
    """The same object where nothing is wrong with it."""
    # Without the view that the SDK makes anew each time.
    before = found._attributes
    own, events, links = attributes(before), found.events, found.links
    status, scope = found.status, _scope(found.instrumentation_scope)
    if (
        own is before
        and scope is found.instrumentation_scope
        and _fits(found.name)
        and _fits(status.description)
        and all(_fits(each.name) and _all_fit(each.attributes) for each in events)
        and all(_all_fit(each.attributes) for each in links)
    ):
        return found
    return ReadableSpan(
        name=text(found.name),
        context=found.context,
        parent=found.parent,
        resource=found.resource,
        attributes=own,
        events=[Event(text(e.name), attributes(e.attributes), e.timestamp) for e in events],
        links=[Link(each.context, attributes(each.attributes)) for each in links],
        kind=found.kind,
        status=Status(status.status_code, status.description and text(status.description)),
        start_time=found.start_time,
        end_time=found.end_time,
        instrumentation_scope=scope,
    )


def record(found: ReadableLogRecord) -> ReadableLogRecord:
    """The same object where nothing is wrong with it."""
    log, scope = found.log_record, _scope(found.instrumentation_scope)
    own = attributes(log.attributes)
    if own is not log.attributes or not _fits(log.body):
        log = copy(log)
        log.body, log.attributes = value(log.body), own
        found = replace(found, log_record=log)
    if scope is not found.instrumentation_scope:
        found = replace(found, instrumentation_scope=scope)
    return found


def metrics(found: MetricsData) -> MetricsData:
    """Sums that no longer fit an integer go as floats: one of them would end all metrics."""
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
    points = [_point(each) for each in data.data_points]
    if all(map(is_, points, data.data_points)):
        return found
    return replace(found, data=replace(data, data_points=points))


def _point(found: Any) -> Any:
    changed: dict[str, Any] = {}
    if (own := attributes(found.attributes)) is not found.attributes:
        changed["attributes"] = own
    if not _fits(number := getattr(found, "value", 0)):
        changed["value"] = _float(number)
    if not all(
        _fits(each.value) and _all_fit(each.filtered_attributes) for each in found.exemplars
    ):
        changed["exemplars"] = [_exemplar(each) for each in found.exemplars]
    return replace(found, **changed) if changed else found


def _exemplar(found: Exemplar) -> Exemplar:
    return replace(
        found,
        value=found.value if _fits(found.value) else _float(found.value),
        filtered_attributes=attributes(found.filtered_attributes),
    )


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf


def _scope(found: Any) -> Any:
    fits = found is None or _fits(found.name)
    return found if fits else InstrumentationScope(text(found.name), found.version)


def _all_fit(found: Mapping[str, Any] | None) -> bool:
    # Asked of each span and line: the SDK's own mapping takes a lock for each look into it.
    inside: Mapping[str, Any] = getattr(found, "_dict", found) or {}
    for name, each in inside.items():
        kind = type(each)
        if kind is str:
            if (not each.isascii() or len(each) > _SURELY_SHORT) and not _fits(each):
                return False
        elif kind is not float and kind is not bool and not _fits(each):
            return False
        if not name.isascii() and not _fits(name):
            return False
    return True


def _fits(found: Any) -> bool:
    """Whether it can go as it is; a list or mapping is looked at only by `value`."""
    if isinstance(found, str):
        if len(found) > _SURELY_SHORT:
            return text(found) == found
        return found.isascii() or _is_utf8(found)
    if isinstance(found, int):
        return found in _INT64
    if isinstance(found, Sequence | Mapping) and not isinstance(found, bytes):
        return bool(value(found) == found)
    return True


def _is_utf8(found: str) -> bool:
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digits(number: int) -> str:
    """Python refuses to write out the very long ones."""
    return str(number) if number.bit_length() < _LONGEST_BITS else f"<{number.bit_length()} bits>"
