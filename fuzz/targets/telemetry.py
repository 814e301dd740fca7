"""What an application records: attribute values, spans, log records, metrics, texts to redact;
and what an OTLP receiver responds."""

import time
from collections import UserDict, deque
from contextlib import suppress
from dataclasses import make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final
from uuid import UUID

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry._logs import SeverityNumber
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from chatscope.otlp import log_records, spans
from chatscope.otlp.anyvalue import any_value, attributes
from chatscope.otlp.client import Outcome, accepted
from chatscope.otlp.grpc_client import _retry_delay
from chatscope.otlp.http_client import _retry_after as retry_after_of_header
from chatscope.otlp.steps import Steps
from chatscope.otlp.values import MAX_DEPTH, MAX_ITEMS, MAX_TOTAL_BYTES, convert
from chatscope.otlp.wire import LEN, fields, sized, tag
from chatscope.redaction import Redactor
from fuzz.source import Source
from fuzz.target import Target, ensure

_MOST_ENCODED: Final = MAX_TOTAL_BYTES + 64 * MAX_ITEMS + 4_096


class _Code(IntEnum):
    A = 2**63 + 5


class _Name(StrEnum):
    A = "a"


class _Hostile:
    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__

    @property
    def value(self) -> str:
        raise ValueError


class _Text(str):
    def __len__(self) -> int:
        raise ValueError

    def encode(self, *_: Any) -> bytes:
        raise ValueError


class _Number(int):
    def __le__(self, _: object) -> bool:
        raise ValueError


_Record = make_dataclass("_Record", ["left", "right"])
_SCALARS: Final[tuple[Any, ...]] = (
    _Code.A,
    _Name.A,
    _Hostile(),
    _Text("text"),
    _Number(5),
    _Hostile,
    2**70,
    -(2**63),
    True,
    Decimal("1e999999"),
    Decimal("NaN"),
    Fraction(1, 3),
    UUID(int=5),
    date(2026, 1, 1),
    None,
    datetime(2026, 1, 1, tzinfo=UTC),
    timedelta(9),
    PurePosixPath("/a"),
    ValueError("a", 5),
    OSError(2, "x", "y"),
    KeyError(_Hostile()),
    1j,
    float("nan"),
    b"\xff",
    bytearray(b"a"),
    memoryview(b"ab"),
    range(10**30),
    "4111 1111 1111 1111",
    4111111111111111,
    "sk-abcdefghij1234567890",
)


def _python_value(source: Source, known: list[Any], depth: int = 0) -> Any:  # noqa: PLR0911, PLR0912 - a table
    """Return any value of Python; of those in `known`, some again, also within themselves."""
    kind = source.below(16)
    if depth > 5:
        kind %= 6
    match kind:
        case 0 | 1:
            return source.choice(_SCALARS)
        case 2 | 3:
            return source.text()
        case 4:
            return source.value()
        case 5:
            return source.choice(known) if known else None
        case 6 | 7:
            items: list[Any] = []
            known.append(items)
            items += (_python_value(source, known, depth + 1) for _ in range(source.below(6)))
            return items
        case 8 | 9:
            pairs: dict[Any, Any] = {}
            known.append(pairs)
            for _ in range(source.below(6)):
                pairs[source.choice((source.text(), 5, None, _Name.A, ("t",)))] = _python_value(
                    source, known, depth + 1
                )
            return pairs
    inner = _python_value(source, known, depth + 1)
    match kind:
        case 10:
            return (inner,) * source.below(200)
        case 11:
            return deque([inner, inner])
        case 12:
            return SimpleNamespace(a=inner)
        case 13:
            return _Record(inner, inner)
        case 14:
            return MappingProxyType({"a": inner})
        case _:
            return UserDict(a=inner)


def _depth(value: Any) -> int:
    inner = value.values() if type(value) is dict else value if type(value) is tuple else ()
    return 1 + max(map(_depth, inner), default=0)


def _check_values(data: bytes) -> None:
    """Any value becomes one that OTLP has, of a limited size, and is encoded as such."""
    value = _python_value(Source(data), [])
    converted = convert(value)
    ensure(_depth(converted) <= MAX_DEPTH + 2, "depth is limited")
    encoded = any_value(value, Steps())
    ensure(len(encoded) <= _MOST_ENCODED, "the size is limited")
    AnyValue.FromString(encoded)


def _attributes(source: Source) -> dict[Any, Any]:
    known: list[Any] = []
    names = (source.text(), "user.id", "password", 5, "a")
    return {source.choice(names): _python_value(source, known, 3) for _ in range(source.below(5))}


def _context(source: Source) -> SpanContext:
    state = TraceState([(source.text(("a", "b")), source.text(("1", "2")))])
    trace_id = int.from_bytes(source.take(3), "big") + 1
    return SpanContext(trace_id, source.byte() + 1, source.byte() % 2 == 0, TraceFlags(1), state)


def _check_items(data: bytes) -> None:
    """Spans and log records with any attributes are messages of OTLP."""
    source = Source(data)
    context, given = _context(source), _attributes(source)
    now = time.time_ns()
    encoded = spans.encode_plain(
        context, context, source.text(), SpanKind.CLIENT, (now, now), (given,)
    )
    span = Span.FromString(encoded)
    ensure(span.trace_id == context.trace_id.to_bytes(16, "big"), "a span keeps its trace ID")
    found = b"".join(attributes(tag(6, LEN), given, Steps()))
    record = log_records.encode_plain(
        (now, now),
        (SeverityNumber.INFO, source.text()),
        source.text(),
        found,
        context,
        source.text(),
    )
    ensure(LogRecord.FromString(record).time_unix_nano == now, "a record keeps its time")


_ANSWERS: Final = (b"\x0a\x06\x08\x05\x12\x02no", b"\x0a\x00", b"\x08\x01", b"\x0a\x03\x12\x01\xff")
_RETRY_INFO: Final = tag(1, LEN) + sized(b"type.googleapis.com/google.rpc.RetryInfo")


def _check_answers(data: bytes) -> None:
    """The response of a receiver is read, or it acknowledges nothing."""
    result = accepted(data)
    ensure(result.outcome in (Outcome.ACCEPTED, Outcome.UNAVAILABLE), "an outcome is known")
    result.message.encode()
    ensure(type(result.rejected) is int and 0 <= result.rejected < 2**64, "a count is a count")
    header = data.decode("latin-1")
    delays = [retry_after_of_header(header)]
    detail = _RETRY_INFO + tag(2, LEN) + sized(tag(1, LEN) + sized(data[:100]))
    for each in (detail, data):
        with suppress(ValueError, IndexError):
            delays.append(_retry_delay(each))
    # The pipeline bounds it.
    ensure(all(delay >= 0 for delay in delays), "a delay is a time")


def _check_wire(data: bytes) -> None:
    """What the official decoder accepts is accepted, too."""
    try:
        AnyValue.FromString(data)
    except DecodeError:
        official = False
    else:
        official = True
    try:
        fields(data)
    except (ValueError, IndexError):
        # The official one also knows groups, which proto3 does not have.
        ensure(not official or any(byte & 7 in (3, 4) for byte in data), "a message is read")


_REDACTOR: Final = Redactor(values=["configured-s3cret", "é-päss w0rd"], user_id_key="k")
_PARTS: Final = (
    *(
        "sk-",
        "cs-",
        "sk_live_",
        "AKIA",
        "ghp_",
        "github_pat_",
        "glpat-",
        "AIza",
        "ya29.",
        "GOCSPX-",
    ),
    *(
        "xoxb-",
        "xapp-",
        "hooks.slack.com/services/",
        "hf_",
        "npm_",
        "pypi-",
        "gsk_",
        "glsa_",
        "SG.",
    ),
    *("eyJ", "://", "u:p@h", "bearer ", "Basic ", "authorization: ", "x-api-key: ", "cookie: a=b"),
    *("password=", "secret: ", "token=", "api_key", "a@b.cc", "%40", "4111 1111 1111 1111", "+49 "),
    *(
        "(212) 555-1234",
        "phone: 0",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "eyJ-",
    ),
    *(
        "configured-s3cret",
        "abcDEF123456",
        "0" * 20,
        "a" * 40,
        "-",
        ".",
        "_",
        " ",
        "\n",
        "é",
        "A1" * 20,
    ),
)
_LONG: Final = 3_000
# Seconds of CPU for 3,000 characters: linear patterns need less than a tenth of it.
_SLOW: Final = 0.1


def _check_redaction(data: bytes) -> None:
    """Redaction is linear in time; no configured value is left; a redacted text stays as it is."""
    source = Source(data)
    text = ""
    while not source.ended:
        part = (
            source.choice(_PARTS)
            if source.below(4)
            else source.take(source.below(9)).decode("utf-8", "replace")
        )
        text += part * (1 + source.below(3))
    if text and data[-1] % 4 == 0:
        text *= _LONG // len(text) + 1
    text = text[:_LONG]
    redacted = _REDACTOR.text(text)
    for value in _REDACTOR.values:
        ensure(value not in redacted, "a configured value is redacted")
    again = _REDACTOR.text(redacted)
    ensure(len(again) <= len(redacted) + 2_000, "a redacted text is redacted already")


TARGETS: Final = (
    Target(
        "otlp_values",
        _check_values,
        (b"\x06\3\0\0\2\1", b"\x08\2\0\0\1\0\1", b"\x0a\7\5\xc8"),
        max_bytes=256,
        max_seconds=1.0,
    ),
    Target(
        "otlp_items",
        _check_items,
        (b"\1\1\0\0\1\0\5\1\0\2\3\4", b""),
        max_bytes=256,
        # Each of up to five values is converted within limits of its own, twice.
        max_seconds=0.5,
    ),
    Target(
        "otlp_answers",
        _check_answers,
        (*_ANSWERS, b"5", b"Wed, 21 Oct 2026 07:28:00 GMT"),
        ("GMT", "inf", "nan", "1e9"),
        200,
    ),
    Target("otlp_wire", _check_wire, (*_ANSWERS, b"\x2a\x04\x0a\x02\x10\x01"), (), 200),
    Target(
        "redaction",
        _check_redaction,
        (b"", *(bytes([1, i, 0]) for i in range(len(_PARTS)))),
        _PARTS,
        200,
        _SLOW,
    ),
)
