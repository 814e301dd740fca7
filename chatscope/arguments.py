"""Check the arguments of public functions that must not raise; report those that are invalid."""

from typing import TypeVar

from chatscope.guard import warnings

_Value = TypeVar("_Value")


def accepted(name: str, value: object, kind: type[_Value]) -> _Value | None:
    """Return an argument of the right type; None for any other, which is logged once a minute."""
    if value is None:
        return None
    kinds = (int, float) if kind is float else kind
    if isinstance(value, kinds) and not isinstance(value, bool):
        return value  # type: ignore[return-value]
    refuse(name, f"{name} must be {kind.__name__} (got {type(value).__name__})")
    return None


def refuse(name: str, message: str) -> None:
    """Log that an argument is invalid, once a minute for each `name`."""
    warnings.warn(name, message)
