"""Protocol Buffers wire format: the primitives that OTLP messages consist of.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

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
