"""Protocol Buffers wire format: the primitives that OTLP messages consist of.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from .steps import Steps

# Wire types.
VARINT: Final = 0
I64: Final = 1
LEN: Final = 2
I32: Final = 5

fixed64: Final[Callable[[int], bytes]] = Struct("<Q").pack
sfixed64: Final[Callable[[int], bytes]] = Struct("<q").pack
fixed32: Final[Callable[[int], bytes]] = Struct("<I").pack
double: Final[Callable[[float], bytes]] = Struct("<d").pack

_TABLE_SIZE: Final = 4096


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_TABLE: Final = tuple(_varint(number) for number in range(_TABLE_SIZE))


def varint(number: int) -> bytes:
    """Encode a non-negative integer below 2**64."""
    return _TABLE[number] if number < _TABLE_SIZE else _varint(number)


def int64(number: int) -> bytes:
    """Encode a signed integer as two's complement varint, as `int64` fields require."""
    return varint(number if number >= 0 else number + (1 << 64))


def sint32(number: int) -> bytes:
    """Encode a signed integer in zigzag form, as `sint32` fields require."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def tag(field: int, wire_type: int) -> bytes:
    """Encode the key of a field."""
    return varint(field << 3 | wire_type)


def sized(data: bytes) -> bytes:
    """Prefix `data` with its length."""
    return varint(len(data)) + data


Fields = dict[int, list[int | bytes]]


def fields(data: bytes, steps: Steps | None = None) -> Fields:
    """Parse a message's varint and length-delimited fields; the others are skipped.

    Raises ValueError or IndexError for bytes that are not a message.
    """
    found: Fields = {}
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _read_varint(data, position)
            found.setdefault(number, []).append(value)
            continue
        if kind == LEN:
            size, position = _read_varint(data, position)
            found.setdefault(number, []).append(data[position : position + size])
        elif kind in (I32, I64):
            size = 4 if kind == I32 else 8
        else:
            raise ValueError(f"unexpected wire type {kind}")
        position += size
        if position > len(data) or not number:
            raise ValueError("a field is longer than its message, or has the number 0")
        if steps is not None:
            steps.tick()
    return found


def message_field(found: Fields, number: int) -> bytes:
    """The last length-delimited field of this number; empty without one."""
    value = found.get(number, [b""])[-1]
    return value if isinstance(value, bytes) else b""


def number_field(found: Fields, number: int) -> int:
    """The last varint field of this number; 0 without one."""
    value = found.get(number, [0])[-1]
    return value if isinstance(value, int) else 0


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint is longer than 64 bits")
