"""Attributes as OpenTelemetry accepts them: without None."""

from collections.abc import Mapping

from opentelemetry.util.types import AttributeValue


def known(found: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    """Return the attributes whose values are not None."""
    return {name: value for name, value in found.items() if value is not None}
