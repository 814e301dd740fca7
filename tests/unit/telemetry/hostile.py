"""Values that applications attach to spans, log records and metrics, with the expected results."""

import enum
import http
import re
import socket
import threading
from array import array
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx2
import numpy as np
from pydantic import AnyUrl, BaseModel, Field, SecretStr
from starlette.datastructures import URL

from chatscope.otlp.values import (
    CYCLE,
    MAX_ITEMS,
    MAX_TEXT_BYTES,
    TOO_DEEP,
)

_HERE = __name__


class Case(NamedTuple):
    """A value, created for each use, and the expected result."""

    name: str
    make: Callable[[], Any]
    wanted: Any


def _blocked(*_: object, **__: object) -> NoReturn:
    """A method that must not be called; if it is, the test's timeout ends it."""
    threading.Event().wait()
    raise AssertionError


class _Key:
    __str__ = __repr__ = _blocked


class _Int(int):
    __str__ = __repr__ = __index__ = __int__ = __eq__ = __hash__ = _blocked


class _Str(str):
    __slots__ = ()
    __str__ = __repr__ = __len__ = encode = isascii = _blocked


class _Float(float):
    __float__ = __str__ = __repr__ = _blocked


class _List(list[Any]):
    __iter__ = __len__ = __repr__ = _blocked


class _Dict(dict[str, Any]):
    items = keys = __iter__ = __len__ = __repr__ = _blocked


class _Number(enum.IntEnum):
    ONE = 1


class _Text(enum.StrEnum):
    A = "a"


class _Named(enum.Enum):
    RED = object()


class _Flags(enum.Flag):
    A = 1
    B = 2


class _IntFlags(enum.IntFlag):
    A = 1
    B = 2


@dataclass
class _Data:
    shown: Any
    hidden: str = field(default="secret", repr=False)


@dataclass(slots=True)
class _Slots:
    shown: int


@dataclass
class _Masked:
    password: str

    def __repr__(self) -> str:
        return "_Masked(***)"


@dataclass
class _Property:
    shown: int

    @property
    def computed(self) -> NoReturn:
        _blocked()


class _Point(NamedTuple):
    x: int
    y: Any


class _Attrs:
    """A class as made by the attrs library, which is not installed here."""

    __attrs_attrs__ = (
        SimpleNamespace(name="shown", repr=True),
        SimpleNamespace(name="hidden", repr=False),
    )

    def __init__(self) -> None:
        self.shown = 1
        self.hidden = "secret"

    exec(compile("def __repr__(self): return ''", "<attrs generated repr x>", "exec"))  # noqa: S102


class _Model(BaseModel):
    name: str
    password: SecretStr = SecretStr("secret")
    address: AnyUrl = AnyUrl("https://user:secret@example.org/")
    hidden: str = Field("secret", repr=False)
    excluded: str = Field("secret", exclude=True)


class _MaskedModel(BaseModel):
    password: str = "secret"

    def __repr__(self) -> str:
        return "_MaskedModel(***)"


class _Blocking:
    """An object whose methods must not be called."""

    __str__ = __repr__ = __format__ = __bool__ = __len__ = __iter__ = _blocked
    __eq__ = __hash__ = __int__ = __float__ = __index__ = __getattr__ = _blocked
    __copy__ = __deepcopy__ = __reduce__ = __bytes__ = __fspath__ = _blocked
    __class__ = property(_blocked)


class _Raising:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class _Ending:
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class _Long:
    def __str__(self) -> str:
        return "x" * 1_000_000

    __repr__ = __str__


class _NoText:
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307


class _Zone(tzinfo):
    utcoffset = tzname = dst = _blocked


class _Meta(type):
    """A metaclass whose classes can be neither hashed nor compared."""

    __eq__ = _blocked
    __hash__ = None  # type: ignore[assignment]


class _OfMeta(metaclass=_Meta):
    pass


class _OwnError(Exception):
    __str__ = _blocked


def _object_array() -> Any:
    found = np.empty(2, object)
    found[0], found[1] = _Blocking(), 1
    return found


def _generator() -> Iterator[int]:
    raise AssertionError("a generator was consumed")
    yield 1


def _self_list() -> Any:
    found: list[Any] = [1]
    found.append(found)
    return found


def _self_dict() -> Any:
    found: dict[str, Any] = {"a": 1}
    found["self"] = found
    return found


def _two_keys() -> Any:
    found: dict[str, Any] = {}
    found["a"] = found["b"] = [found, found]
    return found


def _self_object() -> Any:
    found = _Data(None)
    found.shown = [found]
    return found


def _shared_parent() -> Any:
    parent: dict[str, Any] = {"children": []}
    parent["children"] = [{"parent": parent} for _ in range(100)]
    return parent


def _nested(levels: int) -> Any:
    found: Any = "end"
    for _ in range(levels):
        found = [found]
    return found


def _diamonds() -> Any:
    """Return forty levels of two references each: 2**40 paths, without a cycle."""
    found: Any = "end"
    for _ in range(40):
        found = [found, found]
    return found


def _cut(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    mark = f"… [cut: {len(text)} characters]"
    return text[: limit - len(mark.encode())] + mark


def _deep() -> Any:
    wanted: Any = TOO_DEEP
    for _ in range(20):
        wanted = (wanted,)
    return wanted


def marker(kind: type) -> str:
    """Return the expected text for an object of an unknown class."""
    return f"<{kind.__module__}.{kind.__qualname__} object>"


SAME = [True, False, 0, -1, 2**63 - 1, -(2**63), 0.5, float("inf"), "", "ß😀", "nul \0", b"\xff"]

CASES: list[Case] = [
    *(Case(f"same {found!r}", lambda found=found: found, found) for found in SAME),  # type: ignore[misc]
    Case("nan", lambda: float("nan"), float("nan")),
    Case("HTTPStatus", lambda: http.HTTPStatus.NOT_FOUND, 404),
    Case("AddressFamily", lambda: socket.AF_INET, int(socket.AF_INET)),
    Case("IntEnum", lambda: _Number.ONE, 1),
    Case("StrEnum", lambda: _Text.A, "a"),
    Case("Enum", lambda: _Named.RED, "_Named.RED"),
    Case("Flag", lambda: _Flags.A | _Flags.B, "_Flags.A|B"),
    Case("IntFlag", lambda: _IntFlags.A | _IntFlags.B, 3),
    Case("int subclass", lambda: _Int(7), 7),
    Case("large int subclass", lambda: _Int(2**63), str(2**63)),
    Case("str subclass", lambda: _Str("a"), "a"),
    Case("float subclass", lambda: _Float(0.5), 0.5),
    Case("list subclass", lambda: _List([1]), (1,)),
    Case("dict subclass", lambda: _Dict(a=1), {"a": 1}),
    Case("65 bits", lambda: 2**64, str(2**64)),
    Case("5,000 digits", lambda: 10**5000, "<16610 bits>"),
    Case("numpy int", lambda: np.int64(-5), -5),
    Case("numpy unsigned", lambda: np.uint64(2**64 - 1), str(2**64 - 1)),
    Case("numpy float64", lambda: np.float64(0.5), 0.5),
    Case("numpy float32", lambda: np.float32(0.5), 0.5),
    Case("numpy longdouble", lambda: np.longdouble(0.5), 0.5),
    Case("numpy bool", lambda: np.bool_(True), True),
    Case("numpy str", lambda: np.str_("a"), "a"),
    Case("numpy date", lambda: np.datetime64("2024-01-02"), "2024-01-02"),
    Case("numpy array", lambda: np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
    Case(
        "huge numpy array",
        lambda: np.zeros((2000, 1000)),
        "<numpy.ndarray of shape (2000, 1000), float64>",
    ),
    Case("numpy objects", _object_array, (marker(_Blocking), 1)),
    Case("complex", lambda: 1 + 2j, "(1+2j)"),
    Case("Decimal", lambda: Decimal("1.50"), "1.50"),
    Case("huge Decimal", lambda: Decimal("1" * 100_000), "<Decimal near 1E+99999>"),
    Case("Fraction", lambda: Fraction(1, 3), "1/3"),
    Case("datetime", lambda: datetime(2024, 1, 2, 3, tzinfo=UTC), "2024-01-02T03:00:00+00:00"),
    Case(
        "datetime with a zone",
        lambda: datetime(2024, 7, 2, 3, tzinfo=ZoneInfo("Europe/Paris")),
        "2024-07-02T03:00:00+02:00",
    ),
    Case(
        "datetime with a foreign zone",
        lambda: datetime(2024, 1, 2, 3, tzinfo=_Zone()),
        f"2024-01-02T03:00:00 {marker(_Zone)}",
    ),
    Case("date", lambda: date(2024, 1, 2), "2024-01-02"),
    Case("time", lambda: time(3, 4, tzinfo=timezone(timedelta(hours=1))), "03:04:00+01:00"),
    Case("timedelta", lambda: timedelta(seconds=90), "0:01:30"),
    Case("UUID", lambda: UUID(int=1), str(UUID(int=1))),
    Case("Path", lambda: Path("/a/b"), "/a/b"),
    Case("IP address", lambda: ip_address("10.0.0.1"), "10.0.0.1"),
    Case("pattern", lambda: re.compile("a+"), "a+"),
    Case("starlette URL", lambda: URL("http://u:secret@h/p"), "http://u:***@h/p"),
    Case("httpx URL", lambda: httpx2.URL("http://u:secret@h/p"), "http://u:***@h/p"),
    Case("bytearray", lambda: bytearray(b"ab"), b"ab"),
    Case("memoryview", lambda: memoryview(b"abcd")[::2], b"ac"),
    Case("many bytes", lambda: b"x" * 5_000_000, "<5000000 bytes>"),
    Case("set", lambda: {1}, (1,)),
    Case("frozenset", lambda: frozenset({"a"}), ("a",)),
    Case("deque", lambda: deque([1, 2]), (1, 2)),
    Case("array", lambda: array("d", [0.5]), (0.5,)),
    Case("range", lambda: range(10**9), "range(0, 1000000000)"),
    Case("keys", {"a": 1}.keys, ("a",)),
    Case("generator", _generator, "<generator object>"),
    Case("class", lambda: int, "<class 'int'>"),
    Case("function", lambda: _generator, "<function object>"),
    Case("Counter", lambda: Counter("aab"), {"a": 2, "b": 1}),
    Case("OrderedDict", lambda: OrderedDict(a=1), {"a": 1}),
    Case("defaultdict", lambda: defaultdict(int, a=1), {"a": 1}),
    Case("UserDict", lambda: UserDict(a=1), {"a": 1}),
    Case("UserList", lambda: UserList([1]), (1,)),
    Case("mapping proxy", lambda: MappingProxyType({"a": 1}), {"a": 1}),
    Case("namespace", lambda: SimpleNamespace(a=1), {"a": 1}),
    Case("named tuple", lambda: _Point(1, [2]), {"x": 1, "y": (2,)}),
    Case("dataclass", lambda: _Data(1), {"shown": 1}),
    Case("dataclass with slots", lambda: _Slots(1), {"shown": 1}),
    Case("dataclass that masks itself", lambda: _Masked("secret"), marker(_Masked)),
    Case("dataclass with a property", lambda: _Property(1), {"shown": 1}),
    Case("attrs", _Attrs, {"shown": 1}),
    Case(
        "pydantic model",
        lambda: _Model(name="a"),
        {"name": "a", "password": "*" * 10, "address": "https://user:***@example.org/"},
    ),
    Case("pydantic model that masks itself", _MaskedModel, marker(_MaskedModel)),
    Case("SecretStr", lambda: SecretStr("secret"), "*" * 10),
    Case("exception", lambda: ValueError("bad"), "ValueError: bad"),
    Case("exception with values", lambda: KeyError("a", 1), "KeyError: ('a', 1)"),
    Case("OSError", lambda: OSError(2, "No", "f"), "FileNotFoundError: [Errno 2] No: 'f'"),
    Case(
        "OSError of a foreign object",
        lambda: OSError(2, "No", _Blocking()),
        "FileNotFoundError: (2, 'No')",
    ),
    Case("own exception", lambda: _OwnError(17), "_OwnError: 17"),
    Case(
        "other keys",
        lambda: {1: "a", (1, 2): "b", None: "c", _Number.ONE: "d", b"x": "e"},
        {"1": "d", "(1, 2)": "b", "None": "c", "b'x'": "e"},
    ),
    Case("blocking key", lambda: {"a": {_Key(): 1}}, {"a": {marker(_Key): 1}}),
    Case("list in itself", _self_list, (1, CYCLE)),
    Case("dict in itself", _self_dict, {"a": 1, "self": CYCLE}),
    Case("two keys", _two_keys, {"a": (CYCLE, CYCLE), "b": (CYCLE, CYCLE)}),
    Case("object in itself", _self_object, {"shown": (CYCLE,)}),
    Case("shared parent", _shared_parent, {"children": ({"parent": CYCLE},) * 100}),
    Case("deep", lambda: _nested(100), _deep()),
    Case("long list", lambda: [0] * 10_000, (*[0] * MAX_ITEMS, "… [cut: 10000 items]")),
    Case("object", object, "<object object>"),
    Case("blocks", _Blocking, marker(_Blocking)),
    Case("raises", _Raising, marker(_Raising)),
    Case("class that cannot be hashed", _OfMeta, f"{marker(_OfMeta)[:-1]}: TypeError>"),
    Case(
        "numpy axis of length 0",
        lambda: np.empty((10**9, 0)),
        "<numpy.ndarray of shape (1000000000, 0), float64>",
    ),
    Case(
        "numpy bytes",
        lambda: np.zeros(1, "S9000000"),
        "<numpy.ndarray of shape (1,), bytes72000000>",
    ),
    Case("ends the process", _Ending, marker(_Ending)),
    Case("a megabyte", _Long, marker(_Long)),
    Case("no text", _NoText, marker(_NoText)),
    Case("long text", lambda: "x" * 5_000_000, _cut("x" * 5_000_000)),
    Case("lone surrogate", lambda: "a\ud800b", "a\\ud800b"),
    Case("surrogate pair", lambda: "\ud83d\ude00", "😀"),
]


# Large results, which are checked by size instead.
LARGE: list[Case] = [
    Case("diamonds", _diamonds, None),
    Case("many long texts", lambda: ["x" * 200_000] * 4_000, None),
    Case("many long keys", lambda: {"x" * 100_000 + str(n): n for n in range(1_000)}, None),
    Case("wide and long", lambda: [["ß" * 1_000] * 1_000] * 1_000, None),
]
