"""JSON of providers: parsed as far as a tolerant reader can, rendered for them strictly."""

import json
from typing import Any, Final

from pydantic_core import from_json, to_json

# As of pydantic's parser. What is deeper could be read by the other one, but not be rendered.
_MAX_DEPTH: Final = 200


def parse(data: bytes) -> tuple[Any, bool]:
    """Return the value, and whether it is strict JSON. Raise ValueError.

    Not strict are NaN and infinite numbers, and strings with half a surrogate pair: some providers
    cut an emoji in two.
    """
    try:
        return from_json(data, allow_inf_nan=False), True
    except ValueError:
        try:
            found = json.loads(data)
        except RecursionError:
            raise _too_deep() from None
        if _is_deeper(found, _MAX_DEPTH):
            raise _too_deep() from None
        return found, False


def _too_deep() -> ValueError:
    return ValueError("nested too deeply")


def _is_deeper(found: Any, limit: int) -> bool:
    """Whether lists and objects are nested in more than `limit` levels."""
    level = [found]
    for _ in range(limit + 1):
        level = [inner for each in level for inner in _items(each)]
        if not level:
            return False
    return True


def _items(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return list(found.values())
    return found if isinstance(found, list) else []


def partial_object(text: str) -> dict[str, Any]:
    """Return the object that a text begins with; an empty one if it begins with none."""
    try:
        found = from_json(text, allow_partial=True)
    except ValueError:  # also for half a surrogate pair
        try:
            found = parse(text.encode("utf-8", "replace"))[0]
        except ValueError:
            return {}
    return found if isinstance(found, dict) else {}


def render(value: Any) -> bytes:
    """Return strict JSON: what JSON lacks is null, half a surrogate pair is replaced."""
    try:
        return to_json(value, inf_nan_mode="null")
    except ValueError:
        return to_json(repaired(value), inf_nan_mode="null")


def repaired(value: Any) -> Any:
    """Return a copy without halves of surrogate pairs."""
    match value:
        case str():
            return joined_surrogates(value)
        case dict():
            return {joined_surrogates(str(key)): repaired(each) for key, each in value.items()}
        case list():
            return [repaired(each) for each in value]
    return value


def joined_surrogates(text: str) -> str:
    """Return the text with pairs of surrogates as one character and others replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def has_infinity(text: bytes) -> bool:
    """Whether a text that pydantic rendered has a number that JSON lacks."""
    if b"Infinity" not in text and b"NaN" not in text:
        return False
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        return True
    return False
