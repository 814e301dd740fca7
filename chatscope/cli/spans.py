"""The spans of a trace in the JSON of Tempo, as plain typed values."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatscope.cli.backend import nanoseconds, text

Attribute = str | int | float | bool | list["Attribute"] | dict[str, "Attribute"] | None
_ID_BYTES: Final = (8, 16)


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened inside a span; the time in nanoseconds."""

    name: str
    timestamp: int
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class SpanLink:
    """A span elsewhere that this one refers to; IDs in hex digits."""

    trace_id: str
    span_id: str
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Span:
    """One span of a trace: IDs in hex digits (`parent` empty for a root), times in nanoseconds.

    `kind` is SERVER, CLIENT, INTERNAL …; `status` is UNSET, OK or ERROR.
    """

    trace_id: str
    span_id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    scope: str
    status: str
    status_message: str
    attributes: dict[str, Attribute]
    resource: dict[str, Attribute]
    events: list[SpanEvent] = field(default_factory=list)
    links: list[SpanLink] = field(default_factory=list)

    @property
    def service(self) -> str:
        """The name of the service that recorded it."""
        return str(self.resource.get("service.name") or "")


def spans(trace: Mapping[str, Any]) -> list[Span]:
    """Return the spans of a trace, the earliest first. Raise what `known_form` converts.

    Version 1 of Tempo's API has `batches`, version 2 `resourceSpans` inside of `trace`.
    """
    batches = trace.get("batches") or (trace.get("trace") or {}).get("resourceSpans") or ()
    found = [
        _span(span, scope.get("scope", {}).get("name", ""), attributes(batch.get("resource", {})))
        for batch in batches
        for scope in batch.get("scopeSpans") or ()
        for span in scope.get("spans") or ()
    ]
    return sorted(found, key=lambda span: span.start)


def attributes(raw: Mapping[str, Any]) -> dict[str, Attribute]:
    """Return the attributes of an object of OTLP's JSON."""
    return {
        text(pair["key"]): _value(pair.get("value", {})) for pair in raw.get("attributes") or ()
    }


def _span(raw: Mapping[str, Any], scope: str, resource: dict[str, Attribute]) -> Span:
    status = raw.get("status", {})
    return Span(
        trace_id=_hex(raw["traceId"]),
        span_id=_hex(raw["spanId"]),
        parent=_hex(raw.get("parentSpanId", "")),
        name=text(raw.get("name", "")),
        kind=raw.get("kind", "").removeprefix("SPAN_KIND_"),
        start=nanoseconds(raw["startTimeUnixNano"]),
        end=nanoseconds(raw["endTimeUnixNano"]),
        scope=text(scope),
        status=status.get("code", "UNSET").removeprefix("STATUS_CODE_"),
        status_message=text(status.get("message", "")),
        attributes=attributes(raw),
        resource=resource,
        events=[
            SpanEvent(
                text(event.get("name", "")),
                nanoseconds(event["timeUnixNano"]),
                attributes(event),
            )
            for event in raw.get("events") or ()
        ],
        links=[
            SpanLink(_hex(link["traceId"]), _hex(link["spanId"]), attributes(link))
            for link in raw.get("links") or ()
        ],
    )


def _value(raw: Mapping[str, Any]) -> Attribute:
    if "intValue" in raw:
        return int(raw["intValue"])
    if "arrayValue" in raw:
        return [_value(item) for item in raw["arrayValue"].get("values", [])]
    if "kvlistValue" in raw:
        return attributes({"attributes": raw["kvlistValue"].get("values", [])})
    for kind in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        if kind in raw:
            return _scalar(raw[kind])
    return None


def _scalar(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float):
        raise TypeError(f"{type(value).__name__} is no value of an attribute")
    return value


def _hex(identifier: str) -> str:
    """Return an ID in hex digits: protobuf's JSON has bytes in base64, OTLP's in hex digits."""
    if len(text(identifier)) in (0, 16, 32):
        return identifier
    try:
        decoded = base64.b64decode(identifier, validate=True)
    except binascii.Error:
        return identifier
    return decoded.hex() if len(decoded) in _ID_BYTES else identifier
