"""Replace the value conversion of the OpenTelemetry SDK by one with limits.

The SDK's own conversion recurses endlessly into an object that refers to itself, raises what the
`__str__` of an object raises, and keeps subclasses of int and values that protobuf refuses. It has
no public interface for another one, so `install` replaces private names, for all providers of the
process. The result for values that the OpenTelemetry API allows is the same.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from opentelemetry import attributes as sdk_attributes
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.metrics._internal import instrument as sdk_instrument
from opentelemetry.sdk.metrics._internal.measurement import Measurement
from opentelemetry.sdk.trace import Span
from opentelemetry.util.types import Attributes

from chatscope import names
from chatscope.exception_texts import attributes_of
from chatscope.otlp.values import convert, number, register

_PROBE: Any = {"a": [{"b": True}], "c": 2**64}
_CONVERTED = {"a": ({"b": True},), "c": str(2**64)}


def install() -> None:
    """Replace the SDK's conversion; a second call does nothing.

    Raises RuntimeError where the installed SDK converts values elsewhere.
    """
    places: tuple[tuple[Any, str, Any], ...] = (
        (sdk_attributes, "_clean_attribute_value", _clean),
        (sdk_instrument, "Measurement", _Measurement),
        (Span, "record_exception", _record_exception),
    )
    for place, name, ours in places:
        setattr(place, name, ours)
    if dict(BoundedAttributes(attributes=_PROBE)) != _CONVERTED:
        raise RuntimeError("opentelemetry-sdk is not supported in this version: see sdk_values.py")


def _clean(found: Any, max_text: int | None) -> Any:
    if type(found) is BoundedAttributes:
        found = found._dict
    converted = convert(found, max_text)
    if type(converted) is not dict and _is_mapping(type(found)):
        # The SDK asks for a mapping where it gives one; the class of this one is unknown.
        return {"object": converted}
    return converted


def _is_mapping(kind: type) -> bool:
    with suppress(Exception):  # a class that cannot be hashed
        return issubclass(kind, Mapping)
    return False


def _record_exception(
    span: Span,
    exception: BaseException,
    attributes: Attributes = None,
    timestamp: int | None = None,
    escaped: bool = False,
) -> None:
    """Add the event of an exception, with limits, to a span."""
    shown = {**attributes_of(exception), names.EXCEPTION_ESCAPED: str(bool(escaped))}
    span.add_event("exception", {**shown, **(attributes or {})}, timestamp)


class _Measurement(Measurement):
    """A measurement with a number and attributes that can be exported."""

    def __post_init__(self) -> None:
        value, attributes = self.value, self.attributes
        if type(value) is not float:
            object.__setattr__(self, "value", number(value))
        if attributes is not None:
            object.__setattr__(self, "attributes", _clean(attributes, None))
            if type(self.attributes) is not dict:
                object.__setattr__(self, "attributes", None)


register(BoundedAttributes, lambda found: found._dict)
