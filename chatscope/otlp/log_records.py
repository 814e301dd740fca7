"""Log records in OTLP wire format.

Source: opentelemetry/proto/logs/v1/logs.proto
"""

from typing import Any, Final

from .anyvalue import any_value, attributes, utf8
from .steps import Steps
from .wire import I32, I64, LEN, VARINT, fixed32, fixed64, sized, tag, varint

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
_FLAGS: Final = [tag(8, I32) + fixed32(flags) for flags in range(256)]


def encode_log_record(readable: Any) -> bytes:
    """Encode one `ReadableLogRecord` or `ReadWriteLogRecord` as a `LogRecord` message.

    The SDK has no public module for its log classes yet, hence the missing type.
    """
    record = readable.log_record
    steps = Steps()
    parts: list[bytes] = []
    if record.timestamp:
        parts += (_TIME, fixed64(record.timestamp))
    if record.severity_number is not None and record.severity_number.value:
        parts.append(_SEVERITY_NUMBERS[record.severity_number.value])
    if record.severity_text:
        parts += (_SEVERITY_TEXT, sized(utf8(record.severity_text)))
    # An empty body is present, with no value in it.
    parts += (_BODY, sized(any_value(record.body, steps)))
    parts += attributes(_ATTRIBUTE, record.attributes, steps)
    if dropped := readable.dropped_attributes:
        parts += (_DROPPED_ATTRIBUTES, varint(dropped))
    if record.trace_flags:
        parts.append(_FLAGS[record.trace_flags & 0xFF])
    if record.trace_id:
        parts += (_TRACE_ID, record.trace_id.to_bytes(16, "big"))
    if record.span_id:
        parts += (_SPAN_ID, record.span_id.to_bytes(8, "big"))
    if record.observed_timestamp:
        parts += (_OBSERVED_TIME, fixed64(record.observed_timestamp))
    if record.event_name:
        parts += (_EVENT_NAME, sized(utf8(record.event_name)))
    return b"".join(parts)
