"""Reading of parsed JSON, with errors that name the parameter and what is accepted."""

import json as json_library
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from app.domain.errors import InvalidRequest

_MAX_SHOWN: Final = 40
_MAX_INTEGER: Final = 2**63


class Value:
    """A value of a request, and its path, such as `input[0].content`."""

    __slots__ = ("json", "path")

    def __init__(self, json: Any, path: str = "") -> None:
        self.json = json
        self.path = path

    def error(self, problem: str) -> InvalidRequest:
        """Return the error for this value; `problem` is a sentence about "it"."""
        return InvalidRequest(
            f"Invalid '{self.path or 'body'}': {problem}{self._shown()}", param=self.path or None
        )

    def unsupported(self, accepted: Iterable[str]) -> InvalidRequest:
        """Return the error for a value of a list of names; `accepted` are all of them."""
        names = ", ".join(f"'{name}'" for name in accepted)
        return self.error(f"it is not supported; accepted: {names}")

    def at(self, name: str) -> "Value":
        """Return a member of an object; its value is None if it is missing."""
        path = f"{self.path}.{name}" if self.path else name
        return Value(self.fields().get(name), path)

    def get(self, name: str) -> "Value | None":
        """Return a member of an object; None if it is missing or null."""
        member = self.at(name)
        return None if member.json is None else member

    def need(self, name: str) -> "Value":
        """Return a member of an object that must be there."""
        member = self.at(name)
        if member.json is None:
            raise InvalidRequest(f"Invalid '{member.path}': it is required", param=member.path)
        return member

    def fields(self) -> dict[str, Any]:
        """Return the value, which must be an object."""
        if not isinstance(self.json, dict):
            raise self.error("it must be an object")
        return self.json

    def items(self) -> Iterator["Value"]:
        """Return the items of the value, which must be a list."""
        if not isinstance(self.json, list):
            raise self.error("it must be a list")
        # Not all of them at once: an error in the first one should not take long.
        return (Value(item, f"{self.path}[{index}]") for index, item in enumerate(self.json))

    def some_items(self) -> Iterator["Value"]:
        """Return the items of the value, which must be a list that is not empty."""
        if self.json == []:
            raise self.error("it must not be empty")
        return self.items()

    def text(self) -> str:
        """Return the value, which must be a string."""
        if not isinstance(self.json, str):
            raise self.error("it must be a text")
        return self.json

    def one_of(self, accepted: Collection[str]) -> str:
        """Return the value, which must be one of these strings."""
        text = self.text()
        if text not in accepted:
            raise self.unsupported(accepted)
        return text

    def boolean(self) -> bool:
        """Return the value, which must be true or false."""
        if not isinstance(self.json, bool):
            raise self.error("it must be true or false")
        return self.json

    def integer(self, minimum: int) -> int:
        """Return the value, which must be an integer."""
        if not isinstance(self.json, int) or isinstance(self.json, bool):
            raise self.error(f"it must be an integer >= {minimum}")
        if not minimum <= self.json < _MAX_INTEGER:
            raise self.error(f"it must be an integer >= {minimum}")
        return self.json

    def number(self) -> float:
        """Return the value, which must be a number."""
        if not isinstance(self.json, int | float) or isinstance(self.json, bool):
            raise self.error("it must be a number")
        if not -_MAX_INTEGER < self.json < _MAX_INTEGER:  # nor NaN
            raise self.error("it must be a finite number")
        return self.json

    def _shown(self) -> str:
        value = self.json
        match value:
            case bool() | float():
                pass
            case str() if len(value) <= _MAX_SHOWN:
                pass
            case int() if abs(value) < _MAX_INTEGER:
                pass
            case _:
                return ""
        return f" (got {json_library.dumps(value, ensure_ascii=False)})"


def optional_text(parent: Value, name: str) -> str | None:
    """Return a member that must be a string if it is there."""
    return member.text() if (member := parent.get(name)) else None


def optional_number(parent: Value, name: str) -> float | None:
    """Return a member that must be a number if it is there."""
    return member.number() if (member := parent.get(name)) else None


def optional_integer(parent: Value, name: str, minimum: int) -> int | None:
    """Return a member that must be an integer if it is there."""
    return member.integer(minimum) if (member := parent.get(name)) else None


def optional_boolean(parent: Value, name: str) -> bool | None:
    """Return a member that must be true or false if it is there."""
    return member.boolean() if (member := parent.get(name)) else None


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
