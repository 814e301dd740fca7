"""Values that satisfy a JSON schema, chosen by a seeded generator.

Supported is what structured output and tools use: types, enumerations, references, combinations,
and limits on numbers, texts and lists. Patterns of texts are not.
"""

import json
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, TypeGuard

# Optional properties are omitted, and lists are as short as possible, in deeper levels.
_MAX_DEPTH: Final = 4
_MAX_REFERENCES: Final = 32
# A schema that needs more levels, or more work, is refused: it may be endless.
_DEEPEST: Final = 32
_MAX_WORK: Final = 20_000  # characters, values and keywords
_LARGEST_NUMBER: Final = 2**53  # which is exact as a float
_MAX_ITEMS: Final = 100
_MAX_CHARACTERS: Final = 10_000
_WORDS: Final = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island")
# Texts for common names of properties.
_NAMED: Final = {
    "city": ("Vienna", "Lisbon", "Oslo", "Kyoto"),
    "location": ("Vienna, Austria", "Lisbon, Portugal", "Oslo, Norway"),
    "country": ("Austria", "Portugal", "Norway", "Japan"),
    "name": ("Ada", "Grace", "Alan", "Edsger"),
    "title": ("Quarterly report", "Release notes", "Travel plan"),
    "currency": ("EUR", "USD", "JPY"),
    "unit": ("celsius", "kilometers"),
    "order": ("A-1042", "A-2210", "A-3187"),
    "id": ("A-1042", "A-2210", "A-3187"),
    "product": ("Lumen 2 lamp", "Aria headphones", "Trail 5 shoes"),
    "reason": ("arrived damaged", "wrong size", "delivered late"),
    "summary": ("The parcel arrived late and the box was damaged.", "Asks for a smaller size."),
    "customer": ("Ada", "Grace", "Alan", "Edsger"),
    "email": ("ada@example.com", "grace@example.com"),
    "status": ("packed", "shipped", "delivered"),
    "topic": ("delivery", "refund", "product"),
    "query": ("latest release", "weather tomorrow", "train connections"),
}
_FORMATS: Final = {
    "date": "2026-01-31",
    "time": "12:30:00Z",
    "date-time": "2026-01-31T12:30:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}


class SchemaTooLarge(ValueError):
    """A schema needs a larger value than is made."""


class SchemaValues:
    """Makes values for one schema, in bounded time. Keywords with invalid values are ignored."""

    def __init__(self, schema: Mapping[str, Any], random: Random) -> None:
        self._root = schema
        self._random = random
        self._work = 0

    def value(self) -> Any:
        """Return a value that satisfies the schema. Raise SchemaTooLarge."""
        return self._value(self._root, "", 0)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > _MAX_WORK:
            raise SchemaTooLarge

    def _fixed(self, value: Any) -> Any:
        """Return a value that the schema contains."""
        self._spend(len(json.dumps(value)))
        return value

    def _value(self, schema: Any, name: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise SchemaTooLarge
        self._spend(1 + len(name))
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return self._fixed(schema["const"])
        if isinstance(choices := schema.get("enum"), list) and choices:
            return self._fixed(self._random.choice(choices))
        makers: dict[str, Callable[[], Any]] = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: self._array(schema, name, depth),
            "integer": lambda: self._integer(schema),
            "number": lambda: self._number(schema),
            "boolean": lambda: self._random.random() < 0.5,
            "null": lambda: None,
        }
        return makers.get(self._type(schema, depth), lambda: self._text(schema, name))()

    def _resolved(self, schema: Any, depth: int) -> dict[str, Any]:
        """Return a schema with its references and combinations merged into it."""
        merged: dict[str, Any] = {}
        pending = [schema]
        for _ in range(_MAX_REFERENCES):
            if not pending:
                break
            each = pending.pop()
            if not isinstance(each, Mapping):
                continue
            self._spend(len(each))
            rest = dict(each)
            if isinstance(reference := rest.pop("$ref", None), str):
                pending.append(self._referenced(reference))
            for combination in ("anyOf", "oneOf"):
                if isinstance(options := rest.pop(combination, None), list) and options:
                    pending.append(self._option(options, depth))
            if isinstance(every := rest.pop("allOf", None), list):
                self._spend(len(every))
                pending += every
            _merge(merged, rest)
        return merged

    def _option(self, options: list[Any], depth: int) -> Any:
        """Return one of several schemas; in deeper levels null, or the last one, which ends a
        recursion more likely than the first."""
        self._spend(len(options))
        nulls = [each for each in options if _is_null(each)]
        others = [each for each in options if not _is_null(each)]
        if depth >= _MAX_DEPTH:
            return (nulls or others)[-1]
        return self._random.choice(others or nulls)

    def _referenced(self, reference: str) -> Any:
        self._spend(len(reference))
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if key and isinstance(found, Mapping):
                found = found.get(key, {})
        return found

    def _type(self, schema: Mapping[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            self._spend(len(kind))
            kinds = [each for each in kind if isinstance(each, str) and each != "null"]
            return "null" if not kinds or (depth >= _MAX_DEPTH + 1 and "null" in kind) else kinds[0]
        if isinstance(kind, str):
            return kind
        if "properties" in schema:
            return "object"
        return "array" if "items" in schema or "prefixItems" in schema else "string"

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        listed = schema.get("required")
        listed = listed if isinstance(listed, list) else []
        self._spend(len(properties) + len(listed))
        required = dict.fromkeys(name for name in listed if isinstance(name, str))
        names = list(properties) if depth < _MAX_DEPTH else [n for n in properties if n in required]
        names += [name for name in required if name not in properties]
        others = schema.get("additionalProperties")
        found = {name: self._value(properties.get(name, others), name, depth + 1) for name in names}
        for number in range(max(0, _count(schema, "minProperties", 0) - len(found))):
            found[f"key_{number + 1}"] = self._value(others, "", depth + 1)
        return found

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        prefix = schema.get("prefixItems")
        prefix = prefix if isinstance(prefix, list) else []
        least = _count(schema, "minItems", 0)
        wanted = max(least, len(prefix), 1 if depth < _MAX_DEPTH else 0)
        length = min(wanted, _count(schema, "maxItems", _MAX_ITEMS), _MAX_ITEMS)
        items: list[Any] = []
        for number in range(length):
            item = prefix[number] if number < len(prefix) else schema.get("items", {})
            items.append(
                self._item(item, name, depth, items, unique=bool(schema.get("uniqueItems")))
            )
        return items

    def _item(self, schema: Any, name: str, depth: int, before: list[Any], *, unique: bool) -> Any:
        value = self._value(schema, name, depth + 1)
        for _ in range(_MAX_ITEMS if unique else 0):
            if value not in before:
                break
            value = self._value(schema, name, depth + 1)
        return value

    def _integer(self, schema: Mapping[str, Any]) -> int:
        low, high = _limits(schema, 1, 100)
        step = schema.get("multipleOf")
        step = int(step) if _is(step) and step >= 1 else 1
        first, last = math.ceil(low / step), math.floor(high / step)
        if _is(schema.get("exclusiveMinimum")) and first * step == schema["exclusiveMinimum"]:
            first += 1
        if _is(schema.get("exclusiveMaximum")) and last * step == schema["exclusiveMaximum"]:
            last -= 1
        return self._random.randint(first, max(first, last)) * step

    def _number(self, schema: Mapping[str, Any]) -> float:
        low, high = _limits(schema, 0.0, 100.0)
        step = schema.get("multipleOf")
        if _is(step) and step > 0:
            return self._integer({**schema, "multipleOf": 1} if step < 1 else schema) * 1.0
        value = round(low + (high - low) * self._random.uniform(0.25, 0.75), 2)
        return value if low < value < high else (low + high) / 2

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        found = _FORMATS.get(str(schema.get("format")))
        if found is not None:
            return found
        known = _NAMED.get(name.lower().rpartition("_")[2])
        words = [self._random.choice(_WORDS) for _ in range(3)]
        text = self._random.choice(known) if known else " ".join(words)
        least = min(_count(schema, "minLength", 0), _MAX_CHARACTERS)
        self._spend(least)
        while len(text) < least:
            text += " " + self._random.choice(_WORDS)
        return text[: _count(schema, "maxLength", len(text))]


def _merge(merged: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        before = merged.get(key)
        if key == "properties" and isinstance(before, dict) and isinstance(value, dict):
            merged[key] = {**before, **value}
        elif key == "required" and isinstance(before, list) and isinstance(value, list):
            merged[key] = [*before, *value]
        else:
            merged.setdefault(key, value)


def _limits(schema: Mapping[str, Any], low: float, high: float) -> tuple[float, float]:
    """Return the limits of a number; where one is missing, one near to the other."""
    below = [schema[n] for n in ("minimum", "exclusiveMinimum") if _is(schema.get(n))]
    above = [schema[n] for n in ("maximum", "exclusiveMaximum") if _is(schema.get(n))]
    least, most = max(below, default=None), min(above, default=None)
    if least is None:
        least = low if most is None or low <= most else most - (high - low)
    if most is None:
        most = high if least <= high else least + (high - low)
    return least, most


def _is(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number with which one can reckon."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER
    )


def _is_null(schema: object) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _count(schema: Mapping[str, Any], name: str, default: int) -> int:
    value = schema.get(name)
    return max(0, int(value)) if _is(value) and value == int(value) else default
