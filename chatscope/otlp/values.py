"""Convert any Python value to one that OTLP can carry, in bounded time.

Attribute values come from the application: enums, database rows, lazy strings, objects that refer
to themselves. The conversion runs in the thread that sets the attribute, so it must not wait, raise
or run for long. It therefore reads stored data only, through the methods of the built-in types, and
never calls a `__str__`, `__repr__`, `__iter__` or property of a class that it does not know. Depth,
number of items and bytes are limited for each call.

The rules, by type (docs/telemetry.md repeats them for users):

- str, bool, int, float, bytes and their subclasses, enums among them: the plain value;
- dict, list, tuple, set, deque and their subclasses, named tuples: their items;
- dates, Decimal, UUID, paths, URLs and other known value types: their text;
- dataclasses, attrs classes and pydantic models that print their fields: those fields;
- exceptions: type and arguments;
- a class given to `register`: the registered function's result;
- everything else: `<module.Class object>`.
"""

import gc
import re
from array import array
from collections import UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from math import prod
from pathlib import PurePath
from types import FunctionType, MappingProxyType, MemberDescriptorType, SimpleNamespace
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from .steps import Steps

# Bytes of one text: where Tempo would cut an attribute (tempo.yaml) and Loki a line (loki.yaml).
MAX_TEXT_BYTES: Final = 262_144
# Of all texts of one call; a batch of 64 such items still takes milliseconds to encode.
MAX_TOTAL_BYTES: Final = 2 * MAX_TEXT_BYTES
# Of one call, at all levels together: an embedding vector fits, a graph with shared nodes ends.
MAX_ITEMS: Final = 4_096
# A level is three nested protobuf messages, and receivers refuse more than a hundred.
MAX_DEPTH: Final = 20
TOO_DEEP: Final = f"<more than {MAX_DEPTH} levels>"
CYCLE: Final = "<cycle>"

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
# A character has at most four bytes in UTF-8.
SURELY_SHORT: Final = MAX_TEXT_BYTES // 4
# Characters that are encoded at once: in UTF-8, and with surrogate halves among them, which takes a
# hundred times as long.
_PIECE: Final = 32_768
_SLOW_PIECE: Final = 256
_CUT: Final = "… [cut: "
_LONGEST_MARK: Final = 60
# Longer integers are described by their size: writing them out takes quadratic time.
_MAX_INT_BITS: Final = 1_024
_MAX_DECIMAL_BYTES: Final = 4_096
_FEW: Final = 128
_SHORT: Final = 1_024
# Of a list that is copied without a closer look, such as `gen_ai.response.finish_reasons`.
_FEW_TEXTS: Final = 8
# Of a key, also when the values before it have used up all bytes.
_MIN_KEY_BYTES: Final = 128

T = TypeVar("T")
_Handler = Callable[["_Conversion", Any, int], Any]


def convert(found: object, max_text: int | None = None, steps: Steps | None = None) -> Any:
    """Return `found` as str, bool, int, float, bytes, None, or a tuple or dict of these.

    `max_text` limits the characters of each text further, without a mark, as the SDK's
    OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT does. `steps` are those of a longer computation.
    """
    kind = type(found)
    # A mapping may be that of all attributes: it does not count as a level.
    depth = -1 if issubclass(kind, dict | MappingProxyType) else 0
    if max_text is None and depth:
        # Samplers return the attributes of a span in a proxy.
        behind = gc.get_referents(found)[0] if kind is MappingProxyType else found
        if type(behind) is PlainAttributes:
            return dict(behind)
        if type(behind) is dict and (simple := copied(behind)) is not None:
            return simple
    return _Conversion(max_text, steps).value(found, depth)


class PlainAttributes(dict[str, str | int]):
    """Attributes that need no conversion and never change: for sets that many items share.

    Made by `plain`, which checks them.
    """

    # As fields of a log record and of a span, once they have been encoded.
    in_log_record = b""
    in_span = b""


def plain(attributes: dict[str, str | int]) -> Mapping[str, str | int]:
    """Return `attributes` marked as plain, or themselves where they need a closer look."""
    copy = copied(attributes)
    return attributes if copy is None else PlainAttributes(copy)


def describe(found: object) -> str:
    """Return `convert(found)` as one text."""
    converted = convert(found)
    return converted if type(converted) is str else text(str(converted))


def text(found: object) -> str:
    """Return a text that can be encoded as UTF-8, of at most MAX_TEXT_BYTES.

    Surrogate halves that belong together are joined, others are spelled out. A text that is cut
    ends with its original length.
    """
    if type(found) is str and len(found) <= MAX_TEXT_BYTES and found.isascii():
        return found
    if not issubclass(type(found), str):
        return describe(found)
    return _cut(cast(str, found), MAX_TEXT_BYTES)


def number(found: Any) -> float:
    """Return a number as an int of 64 bits, or else as a float; raise TypeError for none."""
    kind = type(found)
    if kind is float or (kind is int and MIN_INT <= found <= MAX_INT):
        return cast("float", found)
    converted = convert(found)
    return converted if type(converted) is int else float(found)


def register(kind: type[T], function: Callable[[T], object]) -> None:
    """Convert instances of `kind`, and of its subclasses, by `function`.

    `function` runs in the thread that sets the attribute and must not block; its result is
    converted in turn. `register(Money, str)` shows each amount as its text.
    """
    _HANDLERS[kind] = lambda conversion, found, depth: conversion.again(function(found), depth)


def copied(found: dict[Any, Any]) -> dict[str, Any] | None:
    """Copy the usual few short attributes; return None for all that needs a closer look."""
    if len(found) > _FEW:
        return None
    copy = dict(found)
    for name, each in copy.items():
        if type(name) is not str or not name or len(name) > _SHORT or not name.isascii():
            return None
        kind = type(each)
        if kind is str:
            is_plain = len(each) <= _SHORT and each.isascii()
        elif kind is int:
            is_plain = MIN_INT <= each <= MAX_INT
        elif kind is list or kind is tuple:
            is_plain = len(each) <= _FEW_TEXTS and all(map(_is_short, each))
            copy[name] = tuple(each)
        else:
            is_plain = kind is bool or kind is float or each is None
        if not is_plain:
            return None
    return copy


def _is_short(found: object) -> bool:
    return type(found) is str and len(found) <= _SHORT and found.isascii()


class _Conversion:
    """One call of `convert`, with what is left of its limits."""

    def __init__(self, max_text: int | None, steps: Steps | None) -> None:
        self._max_text = max_text
        self._items = MAX_ITEMS
        self._bytes = MAX_TOTAL_BYTES
        self._steps = steps or Steps()
        # Identities of the containers that are being converted.
        self._path: set[int] = set()

    def value(self, found: Any, depth: int) -> Any:
        kind = type(found)
        if kind is str:
            return self.text(found)
        if kind is bool or kind is float or found is None:
            return found
        if kind is int:
            return found if MIN_INT <= found <= MAX_INT else _digits(found)
        try:
            for base in kind.__mro__:
                handler = _HANDLERS.get(base)
                if handler is not None:
                    return handler(self, found, depth)
        except Exception as error:
            return _marker(kind, type(error).__name__)
        return _marker(kind)

    def again(self, found: object, depth: int) -> Any:
        """Convert the result of a registered function, which may need converting itself."""
        return TOO_DEEP if depth >= MAX_DEPTH else self.value(found, depth + 1)

    def text(self, found: str) -> str:
        length = str.__len__(found)
        if self._max_text is not None and length > self._max_text:
            found = str.__getitem__(found, slice(self._max_text))
        return self._within(found, self._bytes)

    def _within(self, found: str, left: int) -> str:
        length = str.__len__(found)
        if type(found) is str and length <= min(MAX_TEXT_BYTES, left) and found.isascii():
            self._bytes -= length
            return found
        cut = _cut(found, max(0, min(MAX_TEXT_BYTES, left)), self._steps)
        self._bytes -= len(cut.encode())
        return cut

    def binary(self, found: Any, depth: int) -> bytes | str:
        with memoryview(found) as view:
            if view.nbytes > min(MAX_TEXT_BYTES, self._bytes):
                return f"<{view.nbytes} bytes>"
            self._bytes -= view.nbytes
            return view.tobytes()

    def sequence(self, found: object, size: int, items: Iterator[Any], depth: int) -> Any:
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if id(found) in self._path:
            return CYCLE
        self._path.add(id(found))
        values: list[Any] = []
        try:
            for item in items:
                if self._items <= 0:
                    # A value that was converted before, by the SDK, keeps its mark.
                    values.append(item if _is_mark(item) else f"{_CUT}{size} items]")
                    break
                self._items -= 1
                values.append(self.value(item, depth + 1))
                self._steps.tick()
        finally:
            self._path.discard(id(found))
        return tuple(values)

    def mapping(self, found: object, items: Iterable[tuple[Any, Any]], depth: int) -> Any:
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if id(found) in self._path:
            return CYCLE
        self._path.add(id(found))
        values: dict[str, Any] = {}
        try:
            for key, item in items:
                if self._items <= 0:
                    values["…"] = "[cut]"
                    break
                if depth >= 0:
                    self._items -= 1
                # OTLP has no empty keys.
                if name := self.key(key, depth + 1):
                    values[name] = self.value(item, depth + 1)
                self._steps.tick()
        finally:
            self._path.discard(id(found))
        return values

    def key(self, found: object, depth: int) -> str:
        if not issubclass(type(found), str):
            converted = self.value(found, depth)
            found = converted if type(converted) is str else str(converted)
        return self._within(cast(str, found), max(_MIN_KEY_BYTES, self._bytes))


def _is_mark(found: object) -> bool:
    return type(found) is str and len(found) < _LONGEST_MARK and found.startswith(_CUT)


def _cut(found: str, limit: int, steps: Steps | None = None) -> str:
    """Return at most `limit` bytes of `found`, looking at no more than that many characters."""
    length = str.__len__(found)
    pieces: list[bytes] = []
    size = 0
    for piece in _utf8_pieces(found, steps or Steps()):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    else:
        return b"".join(pieces).decode()
    mark = f"{_CUT}{length} characters]"
    data = b"".join(pieces)[: max(0, limit - len(mark.encode()))]
    return data.decode("utf-8", "ignore") + mark


def _utf8_pieces(found: str, steps: Steps) -> Iterator[bytes]:
    """Encode a text piece by piece; surrogate halves without the other half are spelled out."""
    length, position = str.__len__(found), 0
    while position < length:
        # An exact str, also of a subclass.
        piece = str.__getitem__(found, slice(position, position + _PIECE))
        try:
            data = piece.encode()
        except UnicodeEncodeError:
            piece = piece[:_SLOW_PIECE]
            if len(piece) > 1 and "\ud800" <= piece[-1] <= "\udbff":
                piece = piece[:-1]  # the other half may follow
            joined = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
            data = joined.encode("utf-8", "backslashreplace")
        yield data
        position += len(piece)
        steps.pause()


def _digits(number: int) -> str:
    bits = int.bit_length(number)
    return int.__repr__(number) if bits < _MAX_INT_BITS else f"<{bits} bits>"


def _marker(kind: type, problem: str = "") -> str:
    module: Any = None
    name: Any = None
    with suppress(Exception):  # a metaclass may have code of its own
        module, name = kind.__module__, kind.__qualname__
    known = type(module) is str and type(name) is str
    path = (name if module == "builtins" else f"{module}.{name}") if known else "unknown"
    return _cut(f"<{path} object{problem and ': '}{problem}>", MAX_TEXT_BYTES)


def _plain_text(function: Callable[[Any], str]) -> _Handler:
    return lambda conversion, found, depth: conversion.text(function(found))


def _as(function: Callable[[Any], object]) -> _Handler:
    return lambda conversion, found, depth: conversion.again(function(found), depth)


def _sequence(kind: Any) -> _Handler:
    """The items as the built-in type iterates, without methods of subclasses."""
    size, iterate = kind.__len__, kind.__iter__
    return lambda conversion, found, depth: conversion.sequence(
        found, size(found), iterate(found), depth
    )


def _int(conversion: _Conversion, found: int, depth: int) -> int | str:
    number = int.__int__(found)
    return number if MIN_INT <= number <= MAX_INT else _digits(number)


def _dict(conversion: _Conversion, found: dict[Any, Any], depth: int) -> Any:
    # Copied at once: another thread may change it meanwhile.
    items = list(islice(dict.items(found), MAX_ITEMS + 1))
    return conversion.mapping(found, items, depth)


def _tuple(conversion: _Conversion, found: tuple[Any, ...], depth: int) -> Any:
    names = static_attribute(type(found), "_fields")
    if type(names) is tuple and len(names) == tuple.__len__(found):
        items = zip(names, tuple.__iter__(found), strict=True)
        return conversion.mapping(found, items, depth)
    return conversion.sequence(found, tuple.__len__(found), tuple.__iter__(found), depth)


def _proxy(conversion: _Conversion, found: MappingProxyType[Any, Any], depth: int) -> Any:
    # Its own methods call those of the mapping behind it.
    [behind] = gc.get_referents(found)
    return conversion.value(behind, depth)


def _enum(found: Enum) -> str:
    state = vars(found)
    # A combination of flags may have no name.
    name, number = state.get("_name_"), state.get("_value_")
    shown = name if type(name) is str else _digits(number) if type(number) is int else "?"
    return f"{type(found).__qualname__}.{shown}"


def _datetime(found: datetime) -> str:
    zone = datetime.tzinfo.__get__(found)
    if zone is None or type(zone).__module__.partition(".")[0] in _KNOWN_ZONES:
        return datetime.isoformat(found)
    # The offset is computed by the time zone's class.
    naive = datetime.combine(datetime.date(found), datetime.time(found))
    return f"{naive.isoformat()} {_marker(type(zone))}"


def _time(found: time) -> str:
    zone = time.tzinfo.__get__(found)
    known = zone is None or type(zone).__module__.partition(".")[0] in _KNOWN_ZONES
    return time.isoformat(found) if known else _marker(type(found))


def _decimal(found: Decimal) -> str:
    if Decimal.__sizeof__(found) <= _MAX_DECIMAL_BYTES:
        return Decimal.__str__(found)
    return f"<Decimal near 1E{Decimal.adjusted(found):+}>"


def _fraction(found: Fraction) -> str:
    return f"{_digits(found._numerator)}/{_digits(found._denominator)}"  # type: ignore[attr-defined]


def _exception(conversion: _Conversion, found: BaseException, depth: int) -> str:
    name = type(found).__qualname__
    arguments = BaseException.args.__get__(found)  # type: ignore[attr-defined]
    if issubclass(type(found), OSError) and all(
        type(each) in _OS_ARGUMENTS for each in (*arguments, *file_names(found))
    ):
        message: Any = OSError.__str__(cast(OSError, found))
    else:
        single = arguments[0] if len(arguments) == 1 else arguments
        message = conversion.again(single, depth) if arguments else ""
    return conversion.text(f"{name}: {message}" if arguments else name)


def file_names(found: object) -> tuple[object, object]:
    """Return the file names of an OSError, which its text repeats; they may be any objects."""
    return OSError.filename.__get__(found), OSError.filename2.__get__(found)


def _url(found: object) -> str:
    return _PASSWORD.sub(r"\1***@", str(found)[:MAX_TEXT_BYTES])


def _numpy_scalar(conversion: _Conversion, found: Any, depth: int) -> Any:
    plain = found.item()
    # A long double is its own item.
    return float(found) if type(plain) is type(found) else conversion.again(plain, depth)


def _numpy_array(conversion: _Conversion, found: Any, depth: int) -> Any:
    base: Any = next(base for base in type(found).__mro__ if _named(base) == ("numpy", "ndarray"))
    shape, kind = base.shape.__get__(found), base.dtype.__get__(found)
    # An axis of length 0 does not shorten the lists of the others.
    items = prod(length or 1 for length in shape)
    if items > MAX_ITEMS or base.nbytes.__get__(found) > MAX_TOTAL_BYTES:
        return conversion.text(f"<numpy.ndarray of shape {shape}, {kind.name}>")
    return conversion.again(base.tolist(found), depth)


def _pydantic(conversion: _Conversion, found: Any, depth: int) -> Any:
    kind = type(found)
    prints = (static_attribute(kind, "__repr__"), static_attribute(kind, "__str__"))
    if not all(each.__module__.startswith("pydantic") for each in prints):
        return _marker(kind)
    fields = static_attribute(kind, "__pydantic_fields__") or {}
    shown = [name for name, field in fields.items() if field.repr and not field.exclude]
    return conversion.mapping(found, _stored(found, shown), depth)


def _object(conversion: _Conversion, found: object, depth: int) -> Any:
    """An object of a class that has no handler of its own."""
    kind = type(found)
    for base in kind.__mro__:
        if named := _BY_NAME.get(_named(base)):
            return named(conversion, found, depth)
    names = _printed_fields(kind)
    if names is None:
        return _marker(kind)
    return conversion.mapping(found, _stored(found, names), depth)


def _named(kind: type) -> tuple[str, str]:
    return kind.__module__.partition(".")[0], kind.__qualname__


def _printed_fields(kind: type) -> list[str] | None:
    """The fields that the generated `__repr__` of a dataclass or attrs class prints.

    None where a class prints itself in its own way: it may hide something.
    """
    printer = static_attribute(kind, "__repr__")
    if type(printer) is not FunctionType or static_attribute(kind, "__str__") is not object.__str__:
        return None
    if printer.__globals__.get("__name__") in ("dataclasses", "reprlib"):
        fields = static_attribute(kind, "__dataclass_fields__") or {}
        return [name for name, field in fields.items() if field.repr]
    if printer.__code__.co_filename.startswith("<attrs generated"):
        return [
            field.name for field in static_attribute(kind, "__attrs_attrs__") or () if field.repr
        ]
    return None


def _stored(found: object, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The values that an instance holds, without running properties."""
    try:
        state = object.__getattribute__(found, "__dict__")
    except AttributeError:
        state = {}
    for name in names:
        slot = static_attribute(type(found), name)
        if type(slot) is MemberDescriptorType:
            yield name, slot.__get__(found)
        elif name in state:
            yield name, state[name]


def static_attribute(kind: type, name: str) -> Any:
    """Return a class's attribute without running descriptors; None without one."""
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


_KNOWN_ZONES: Final = frozenset({"datetime", "zoneinfo", "pytz", "dateutil", "pendulum"})
_OS_ARGUMENTS: Final = frozenset({str, bytes, int, type(None)})
_PASSWORD: Final = re.compile(r"(://[^/?#@:]*:)[^/?#@]*@")

_SEQUENCES: Final[tuple[type, ...]] = (
    list,
    set,
    frozenset,
    deque,
    array,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)
_HANDLERS: Final[dict[type, _Handler]] = {
    str: lambda conversion, found, depth: conversion.text(found),
    int: _int,
    float: lambda conversion, found, depth: float.__float__(found),
    complex: _plain_text(complex.__repr__),
    bytes: _Conversion.binary,
    bytearray: _Conversion.binary,
    memoryview: _Conversion.binary,
    dict: _dict,
    tuple: _tuple,
    **{kind: _sequence(kind) for kind in _SEQUENCES},
    UserDict: _as(lambda found: vars(found).get("data")),
    UserList: _as(lambda found: vars(found).get("data")),
    UserString: _as(lambda found: vars(found).get("data")),
    SimpleNamespace: _as(vars),
    MappingProxyType: _proxy,
    range: _plain_text(range.__repr__),
    type: _plain_text(type.__repr__),
    re.Pattern: _as(lambda found: found.pattern),
    Enum: _plain_text(_enum),
    BaseException: _exception,
    datetime: _plain_text(_datetime),
    date: _plain_text(date.isoformat),
    time: _plain_text(_time),
    timedelta: _plain_text(timedelta.__str__),
    Decimal: _plain_text(_decimal),
    Fraction: _plain_text(_fraction),
    UUID: _plain_text(UUID.__str__),
    PurePath: _plain_text(PurePath.__str__),
    object: _object,
}
# By top-level package and name: nothing of these is imported for their sake. The texts are those of
# value types, or of lazy translations, and quick to make.
_BY_NAME: Final[Mapping[tuple[str, str], _Handler]] = {
    ("numpy", "generic"): _numpy_scalar,
    ("numpy", "ndarray"): _numpy_array,
    ("pydantic", "BaseModel"): _pydantic,
    ("pydantic", "_SecretBase"): _plain_text(lambda found: "**********"),
    **{
        (package, name): _plain_text(_url)
        for package, name in (
            ("yarl", "URL"),
            ("httpx", "URL"),
            ("httpx2", "URL"),
            ("starlette", "URL"),
            ("pydantic", "_BaseUrl"),
            ("pydantic", "_BaseMultiHostUrl"),
            ("pydantic_core", "Url"),
            ("pydantic_core", "MultiHostUrl"),
        )
    },
    ("ipaddress", "_IPAddressBase"): _plain_text(str),
    ("zoneinfo", "ZoneInfo"): _plain_text(str),
    ("django", "Promise"): _plain_text(str),
    ("babel", "LazyProxy"): _plain_text(str),
}
