"""Log records in OTLP wire format.

Source: opentelemetry/proto/logs/v1/logs.proto
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import SpanContext

from .anyvalue import LongText, any_value, attributes, utf8
from .redacting import forget_with
from .steps import Steps
from .values import PlainAttributes, copied
from .wire import I32, I64, LEN, VARINT, fixed32, fixed64, sized, tag, varint

_STRING: Final = tag(1, LEN)  # of the body, an `AnyValue`
_TIME: Final = tag(1, I64)
_OBSERVED_TIME: Final = tag(11, I64)
_SEVERITY_TEXT: Final = tag(3, LEN)
_BODY: Final = tag(5, LEN)
_ATTRIBUTE: Final = tag(6, LEN)
_DROPPED_ATTRIBUTES: Final = tag(7, VARINT)
_TRACE_ID: Final = tag(9, LEN) + b"\x10"
_SPAN_ID: Final = tag(10, LEN) + b"\x08"
_EVENT_NAME: Final = tag(12, LEN)
_SEVERITY_NUMBERS: Final = [tag(2, VARINT) + varint(number) for number in range(25)]
# Texts of severities whose encoding is kept.
_MOST_SEVERITIES: Final = 64
_severities: dict[str | None, tuple[SeverityNumber | None, bytes]] = {}
forget_with(_severities.clear)
_FLAGS: Final = [tag(8, I32) + fixed32(flags) for flags in range(256)]


def encode_log_record(readable: Any, later: list[LongText] | None = None) -> bytes:
    """Encode one `ReadableLogRecord` or `ReadWriteLogRecord` as a `LogRecord` message.

    With `later` it lacks its long attributes, which are added to that.
    The SDK has no public module for its log classes yet, hence the missing type.
    """
    record = readable.log_record
    steps = Steps()
    # An empty body is present, with no value in it.
    body = sized(any_value(record.body, steps))
    encoded = attributes(_ATTRIBUTE, record.attributes, steps, later)
    if dropped := readable.dropped_attributes:
        encoded += (_DROPPED_ATTRIBUTES, varint(dropped))
    return _encode(
        (record.timestamp, record.observed_timestamp),
        _severity(record.severity_number, record.severity_text),
        body,
        b"".join(encoded),
        (record.trace_id, record.span_id, record.trace_flags),
        record.event_name,
    )


def encode_plain(
    times: tuple[int | None, int],
    severity: tuple[SeverityNumber | None, str | None],
    body: str,
    encoded_attributes: bytes,
    span: SpanContext,
    event_name: str | None,
) -> bytes:
    """Encode a record from its fields.

    `times` are those of the event and of its observation, in ns; `encoded_attributes` are what
    `plain_attributes` returned.
    """
    text = utf8(body)
    return _encode(
        times,
        _severity(*severity),
        sized(_STRING + sized(text)),
        encoded_attributes,
        (span.trace_id, span.span_id, span.trace_flags),
        event_name,
    )


def plain_attributes(pairs: Mapping[str, Any] | None) -> bytes | None:
    """Encode the attributes of a record if they need no conversion; None if they do."""
    if not pairs:
        return b""
    kind = type(pairs)
    if kind is PlainAttributes:
        shared = cast("PlainAttributes", pairs)
        if not shared.in_log_record:
            shared.in_log_record = b"".join(attributes(_ATTRIBUTE, shared, Steps()))
        return shared.in_log_record
    if kind is not dict:
        return None
    copy = copied(cast("dict[str, Any]", pairs))
    return None if copy is None else b"".join(attributes(_ATTRIBUTE, copy, Steps()))


def _encode(
    times: tuple[int | None, int | None],
    severity: bytes,
    body: bytes,
    encoded_attributes: bytes,
    span: tuple[int | None, int | None, int | None],
    event_name: str | None,
) -> bytes:
    timestamp, observed_timestamp = times
    trace_id, span_id, flags = span
    return b"".join(
        (
            _TIME + fixed64(timestamp) if timestamp else b"",
            severity,
            _BODY,
            body,
            encoded_attributes,
            _FLAGS[flags & 0xFF] if flags else b"",
            _TRACE_ID + trace_id.to_bytes(16, "big") if trace_id else b"",
            _SPAN_ID + span_id.to_bytes(8, "big") if span_id else b"",
            _OBSERVED_TIME + fixed64(observed_timestamp) if observed_timestamp else b"",
            _EVENT_NAME + sized(utf8(event_name)) if event_name else b"",
        )
    )


def _severity(number: SeverityNumber | None, text: str | None) -> bytes:
    """Encode both fields; the numbers of equal texts are few."""
    found = _severities.get(text)
    if found is not None and found[0] is number:
        return found[1]
    encoded = b""
    if number is not None and number.value:
        encoded = _SEVERITY_NUMBERS[number.value]
    if text:
        encoded += _SEVERITY_TEXT + sized(utf8(text))
    if len(_severities) < _MOST_SEVERITIES:
        _severities[text] = (number, encoded)
    return encoded
