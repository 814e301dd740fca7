"""Attributes as OpenTelemetry takes them: without those that nobody knows."""

from collections.abc import Mapping

from opentelemetry.util.types import AttributeValue


def known(found: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    """`found` without the values that are None."""
    return {name: value for name, value in found.items() if value is not None}
