"""OTLP's `AnyValue` and attribute lists in wire format.

Exact `str`, `int`, `float`, `bool` and `bytes` are encoded directly; everything else is first
converted by `values.convert`, in bounded time and to a bounded size. Each text of an item, and of
nothing else, becomes bytes in `utf8`: there it is redacted, if `redact_with` was called.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .redacting import LONG, forget_with, process, redacted_bytes, redacted_in_pieces
from .steps import Steps
from .values import MAX_INT, MAX_TEXT_BYTES, MIN_INT, SURELY_SHORT, convert, text
from .wire import double, int64, varint

_TRUE: Final = b"\x10\x01"
_FALSE: Final = b"\x10\x00"
_EMPTY: Final = b""
# Attribute values repeat: routes, models, file paths. The encoded pairs of the most recent ones
# are kept; a longer text is likely to be unique.
_CACHED_PAIRS: Final = 4096
_CACHED_LENGTH: Final = 128
# More attributes, and longer texts (LONG), take long enough to let other threads run in between.
_MANY: Final = 64
# Longer texts of attributes can wait for the sending thread: with secrets in them, a kilobyte takes
# a millisecond.
_LATER_LENGTH: Final = 2_048
# Texts of a list that is encoded without a conversion.
_FEW: Final = 8
# Also small integers: status codes, ports of servers, lines. Ports of clients are larger.
_CACHED_INT: Final = 10_000
# Integers that may be the number of a payment card.
_LONG_INT: Final = 10**13
# Of an attribute: the tag of its field, its name and its text.
LongText = tuple[bytes, Any, str]
_pairs: dict[tuple[str, str | int], bytes] = {}
_keys: dict[str, bytes] = {}
# Short texts that need no redaction.
_texts: dict[str, bytes] = {}
forget_with(_pairs.clear)
forget_with(_keys.clear)
forget_with(_texts.clear)


def utf8(value: str, steps: Steps | None = None) -> bytes:
    """Encode a text of any content as UTF-8, redacted, shortened to MAX_TEXT_BYTES."""
    redaction = process.redaction
    if redaction is None:
        return raw_utf8(value)
    data = _texts.get(value)
    if data is not None:
        return data
    data = raw_utf8(value)
    if len(data) > LONG:
        return redacted_in_pieces(redaction, data, steps or Steps())
    if redaction.suspects(data):
        return redaction.redact(data.decode(), data).encode()
    if len(data) <= _CACHED_LENGTH:
        if len(_texts) >= _CACHED_PAIRS:
            _texts.clear()
        _texts[value] = data
    return data


def raw_utf8(value: str) -> bytes:
    """Do the same without redaction."""
    if len(value) <= SURELY_SHORT or (value.isascii() and len(value) <= MAX_TEXT_BYTES):
        try:
            return value.encode()
        except UnicodeEncodeError:
            pass
    return text(value).encode()


def any_value(value: Any, steps: Steps) -> bytes:
    """Encode the fields of an `AnyValue` message; no bytes at all for None."""
    kind = type(value)
    if kind is str:
        data = utf8(value, steps)
        if len(data) > LONG:
            steps.pause()
        return b"\x0a" + varint(len(data)) + data
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is int and MIN_INT <= value <= MAX_INT:
        return _integer(value, steps)
    if kind is float:
        return b"\x21" + double(value)
    if value is None:
        return _EMPTY
    is_plain = kind is tuple and len(value) <= _FEW and all(type(each) is str for each in value)
    return _encode(value if is_plain else convert(value, steps=steps), steps)


def _integer(value: int, steps: Steps) -> bytes:
    if value >= _LONG_INT and process.redaction is not None:
        shown = process.redaction.integer(value)
        if type(shown) is str:
            return any_value(shown, steps)
    return b"\x18" + int64(value)


def attributes(
    tag: bytes,
    pairs: Mapping[str, Any] | None,
    steps: Steps,
    later: list[LongText] | None = None,
) -> list[bytes]:
    """Encode `pairs` as repeated `KeyValue` fields, each introduced by `tag`.

    With `later` the long texts are added to it instead.
    """
    if not pairs:
        return []
    encoded: list[bytes] = []
    append = encoded.append
    items = _items(pairs)
    for item in items if len(pairs) <= _MANY else steps.over(items):
        kind = type(item[1])
        # Only these: True and 1.0 equal 1.
        found = _pairs.get(item) if kind is str or kind is int else None
        if found is None:
            if later is not None and kind is str and len(item[1]) > _LATER_LENGTH:
                later.append((tag, *item))
                continue
            found = pair(*item, steps)
        append(found)
    return [tag, tag.join(encoded)] if encoded else []


def _items(pairs: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    # The SDK's own mapping takes a lock for each item; its copy is a plain dict.
    copy = getattr(pairs, "copy", None)
    return copy().items() if copy is not None else pairs.items()


def pair(name: Any, value: Any, steps: Steps) -> bytes:
    """Encode one pair with its length in front, and keep it if it is likely to come again."""
    encoded = _key_value(name, _attribute_value(name, value, steps))
    kind = type(value)
    if type(name) is str and (
        (kind is str and len(value) <= _CACHED_LENGTH)
        or (kind is int and 0 <= value <= _CACHED_INT)
    ):
        if len(_pairs) >= _CACHED_PAIRS:
            _pairs.clear()
        _pairs[(name, value)] = encoded
    return encoded


def _attribute_value(name: Any, value: Any, steps: Steps) -> bytes:
    redaction = process.redaction
    if redaction is not None and type(value) is not float:
        value, is_final = redaction.attribute(name if type(name) is str else text(name), value)
        if is_final and type(value) is str:
            data = raw_utf8(value)
            return b"\x0a" + varint(len(data)) + data
    return any_value(value, steps)


def _key_value(name: Any, value: bytes) -> bytes:
    """Encode a `KeyValue` message with its length in front."""
    if type(name) is not str:
        name = text(name)
    key = _keys.get(name)
    if key is None:
        data = utf8(name)
        key = b"\x0a" + varint(len(data)) + data + b"\x12"
        if len(_keys) >= _CACHED_PAIRS:
            _keys.clear()
        if len(data) <= _CACHED_LENGTH:
            _keys[name] = key
    size = varint(len(value))
    return varint(len(key) + len(size) + len(value)) + key + size + value


def _encode(value: Any, steps: Steps) -> bytes:
    """Encode a value that `convert` has converted."""
    kind = type(value)
    if kind is tuple:
        parts: list[bytes] = []
        for item in value:
            data = _encode(item, steps)
            parts += (b"\x0a", varint(len(data)), data)
            steps.tick()
        body = b"".join(parts)
        return b"\x2a" + varint(len(body)) + body
    if kind is dict:
        parts = []
        for name, item in value.items():
            shown = item
            if process.redaction is not None:
                shown, _ = process.redaction.attribute(name, item)
            parts += (b"\x0a", _key_value(name, _encode(shown, steps)))
            steps.tick()
        body = b"".join(parts)
        return b"\x32" + varint(len(body)) + body
    if kind is bytes:
        value = redacted_bytes(value)
        return bytes(b"\x3a" + varint(len(value)) + value)
    return any_value(value, steps)
