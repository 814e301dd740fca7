"""Ended spans in OTLP wire format.

Source: opentelemetry/proto/trace/v1/trace.proto
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from .anyvalue import LongText, attributes, utf8
from .redacting import forget_with
from .steps import Steps
from .values import PlainAttributes
from .wire import I32, I64, LEN, VARINT, fixed32, fixed64, sized, tag, varint

_TRACE_ID: Final = tag(1, LEN) + b"\x10"
_SPAN_ID: Final = tag(2, LEN) + b"\x08"
_TRACE_STATE: Final = tag(3, LEN)
_PARENT_SPAN_ID: Final = tag(4, LEN) + b"\x08"
_NAME: Final = tag(5, LEN)
_START: Final = tag(7, I64)
_END: Final = tag(8, I64)
_ATTRIBUTE: Final = tag(9, LEN)
_DROPPED_ATTRIBUTES: Final = tag(10, VARINT)
_EVENT: Final = tag(11, LEN)
_DROPPED_EVENTS: Final = tag(12, VARINT)
_LINK: Final = tag(13, LEN)
_DROPPED_LINKS: Final = tag(14, VARINT)
_STATUS: Final = tag(15, LEN)
_NO_STATUS: Final = _STATUS + sized(b"")
# Longer names are likely to be unique.
_SHORT_NAME: Final = 64
# For short computations, which are not divided into steps.
_SHORT: Final = Steps()

_EVENT_TIME: Final = tag(1, I64)
_EVENT_NAME: Final = tag(2, LEN)
_EVENT_ATTRIBUTE: Final = tag(3, LEN)
_EVENT_DROPPED: Final = tag(4, VARINT)
_LINK_ATTRIBUTE: Final = tag(4, LEN)
_LINK_DROPPED: Final = tag(5, VARINT)
_LINK_FLAGS: Final = tag(6, I32)

# SpanFlags: bits 8 and 9 say whether the parent's or the link's context is remote.
_LOCAL: Final = fixed32(0x100)
_REMOTE: Final = fixed32(0x300)
_FLAGS_LOCAL: Final = tag(16, I32) + _LOCAL
_FLAGS_REMOTE: Final = tag(16, I32) + _REMOTE
_KINDS: Final = {
    kind: tag(6, VARINT) + varint(number)
    for number, kind in enumerate(
        (SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER),
        start=1,
    )
}
# Enumerations hash and find their members in Python.
_SERVER: Final = SpanKind.SERVER
_SERVER_KIND: Final = _KINDS[_SERVER]


def encode_span(span: ReadableSpan, later: list[LongText] | None = None) -> bytes:
    """Encode one ended span as a `Span` message; with `later`, without its long attributes.

    Raises ValueError for a span without a context or with an ID out of range.
    """
    context, parent, status = span.context, span.parent, span.status
    if context is None:
        raise ValueError("a span without a context cannot be exported")
    steps = Steps()
    times = (span.start_time or 0, span.end_time or 0)
    parts = _begin(context, parent, span.name, span.kind, times)
    parts += attributes(_ATTRIBUTE, span.attributes, steps, later)
    _add_count(parts, _DROPPED_ATTRIBUTES, span.dropped_attributes)
    for event in span.events:
        parts += (_EVENT, sized(_encode_event(event, steps)))
        steps.pause()
    _add_count(parts, _DROPPED_EVENTS, span.dropped_events)
    for link in span.links:
        parts += (_LINK, sized(_encode_link(link, steps)))
        steps.pause()
    _add_count(parts, _DROPPED_LINKS, span.dropped_links)
    if status is not None:
        is_unset = status.status_code is StatusCode.UNSET and not status.description
        parts.append(_NO_STATUS if is_unset else _STATUS + sized(_encode_status(status)))
    parts.append(_FLAGS_REMOTE if parent is not None and parent.is_remote else _FLAGS_LOCAL)
    return b"".join(parts)


def encode_plain(
    context: SpanContext,
    parent: SpanContext | None,
    name: str,
    kind: SpanKind,
    times: tuple[int, int],
    sets: tuple[Mapping[str, Any], ...],
) -> bytes:
    """Encode a span without events, links and status from its fields.

    `times` are its start and end in ns; `sets` are attributes that need no conversion.
    """
    parts = _begin(context, parent, name, kind, times)
    for each in sets:
        if type(each) is not PlainAttributes:
            parts += attributes(_ATTRIBUTE, each, _SHORT)
            continue
        if not each.in_span:
            each.in_span = b"".join(attributes(_ATTRIBUTE, each, _SHORT))
        parts.append(each.in_span)
    parts.append(_NO_STATUS)
    parts.append(_FLAGS_REMOTE if parent is not None and parent.is_remote else _FLAGS_LOCAL)
    return b"".join(parts)


def _begin(
    context: SpanContext,
    parent: SpanContext | None,
    name: Any,
    kind: SpanKind,
    times: tuple[int, int],
) -> list[bytes]:
    """Encode the fields in front of the attributes."""
    trace_id, span_id, state = context.trace_id, context.span_id, context.trace_state
    return [
        _TRACE_ID,
        trace_id.to_bytes(16, "big"),
        _SPAN_ID,
        span_id.to_bytes(8, "big"),
        _TRACE_STATE + sized(_trace_state(state)) if state else b"",
        b"" if parent is None else _PARENT_SPAN_ID + parent.span_id.to_bytes(8, "big"),
        _short_name(name)
        if type(name) is str and len(name) <= _SHORT_NAME
        else _NAME + sized(utf8(name)),
        _SERVER_KIND if kind is _SERVER else _KINDS[kind],
        _START,
        fixed64(times[0]),
        _END,
        fixed64(times[1]),
    ]


@lru_cache(maxsize=1024)
def _short_name(name: str) -> bytes:
    return _NAME + sized(utf8(name))


forget_with(_short_name.cache_clear)


def _encode_event(event: Event, steps: Steps) -> bytes:
    parts = [_EVENT_TIME, fixed64(event.timestamp), _EVENT_NAME, sized(utf8(event.name))]
    parts += attributes(_EVENT_ATTRIBUTE, event.attributes, steps)
    _add_count(parts, _EVENT_DROPPED, event.dropped_attributes)
    return b"".join(parts)


def _encode_link(link: Link, steps: Steps) -> bytes:
    context: SpanContext = link.context
    parts = [
        _TRACE_ID,
        context.trace_id.to_bytes(16, "big"),
        _SPAN_ID,
        context.span_id.to_bytes(8, "big"),
    ]
    if context.trace_state:
        parts += (_TRACE_STATE, sized(_trace_state(context.trace_state)))
    parts += attributes(_LINK_ATTRIBUTE, link.attributes, steps)
    _add_count(parts, _LINK_DROPPED, link.dropped_attributes)
    parts += (_LINK_FLAGS, _REMOTE if context.is_remote else _LOCAL)
    return b"".join(parts)


def _encode_status(status: Status) -> bytes:
    code = status.status_code.value
    description = status.description
    message = b"\x12" + sized(utf8(description)) if description else b""
    return message + b"\x18" + varint(code) if code else message


def _trace_state(state: TraceState) -> bytes:
    return utf8(",".join([f"{key}={value}" for key, value in state.items()]))


def _add_count(parts: list[bytes], field: bytes, count: int) -> None:
    if count:
        parts += (field, varint(count))
