"""Parse the variables `OTEL_EXPORTER_OTLP_*`, each on its own.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/. Timeouts are in seconds, as in
the OpenTelemetry SDK for Python.
"""

import os
import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import unquote, urlsplit

PREFIX: Final = "OTEL_EXPORTER_OTLP_"
HEADERS: Final = "HEADERS"
# Names that gRPC resolves: https://github.com/grpc/grpc/blob/master/doc/naming.md
_GRPC_SCHEMES: Final = ("dns", "unix", "unix-abstract", "ipv4", "ipv6")
# The specification counts milliseconds here, the SDK for Python seconds: 10000 would be almost
# three hours.
_LONGEST_TIMEOUT: Final = 600.0  # s
_LONGEST_SHOWN: Final = 200

_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d+)")
# gRPC fails every call whose metadata has other characters.
_HEADER_NAME: Final = re.compile(r"[0-9a-z_.-]+")
# The values of W3C Baggage, whose format the variable has, carry these percent-encoded only.
_NOT_IN_A_VALUE: Final = re.compile(r'[";\\]')
_CREDENTIALS: Final = re.compile(r"^([^/]*//)?.*@", re.DOTALL)

Headers = tuple[tuple[str, str], ...]


class Protocol(StrEnum):
    """The transports that are implemented."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


@dataclass(frozen=True)
class InvalidVariable:
    """A variable whose value is not accepted; `value` has no secrets in it."""

    variable: str
    value: str
    accepts: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.variable} must be {self.accepts} (got {self.value!r}{reason})"


@dataclass(frozen=True)
class Variable:
    """How one variable is parsed; ValueError says more than `accepts` where it has a message."""

    parse: Callable[[str], Any]
    accepts: str

    def problem(self, name: str, value: str, reason: str = "") -> InvalidVariable:
        """Describe an invalid value without the secrets in it."""
        shown = "***" if name.endswith(HEADERS) else show(value)
        return InvalidVariable(name, shown, self.accepts, reason)


def show(value: str) -> str:
    """Return a value as a message repeats it: printable, shortened, without credentials."""
    text = _CREDENTIALS.sub(r"\1***@", value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def is_resolved_by_grpc(endpoint: str) -> bool:
    """Return whether an endpoint is a name that only gRPC resolves, not a URL."""
    scheme, separator, rest = endpoint.partition(":")
    return scheme in _GRPC_SCHEMES and bool(separator and rest)


def parse_header(name: str, value: str) -> tuple[str, str]:
    """Return a header that both gRPC and HTTP can send.

    Raises ValueError for another one, whose value it does not repeat.
    """
    name, value = name.strip().lower(), value.strip()
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("a name has characters that gRPC does not send")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"the value of {name} has characters that cannot be sent")
    return name, value


def parse_endpoint(value: str) -> str:
    """Check an endpoint: a URL, `host:port`, or a name that gRPC resolves."""
    if is_resolved_by_grpc(value):
        return value
    if "://" not in value:
        if not (match := _HOST_AND_PORT.fullmatch(value)) or int(match[2]) > 65_535:
            raise ValueError("neither a URL nor host:port")
        return value
    if any(character.isspace() for character in value):
        raise ValueError("a URL has no white space")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("not a valid URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL")
    if "@" in parts.netloc:
        raise ValueError(f"credentials belong in {PREFIX}{HEADERS}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    return value


def _parse_headers(value: str) -> Headers:
    return tuple(_parse_pair(pair) for pair in value.split(",") if pair.strip())


def _parse_pair(pair: str) -> tuple[str, str]:
    name, separator, value = pair.partition("=")
    if not separator:
        raise ValueError("an item without =")
    header = parse_header(unquote(name), unquote(value))
    if _NOT_IN_A_VALUE.search(value):
        raise ValueError(f"the value of {header[0]} has characters that must be percent-encoded")
    return header


def _parse_seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise ValueError from None
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ValueError
    return seconds


def _regular_file(value: str) -> Path:
    if not os.path.isfile(value):
        raise ValueError("it is not a file" if os.path.exists(value) else "there is no such file")
    if not os.access(value, os.R_OK):
        raise ValueError("it cannot be read")
    return Path(value)


def _parse_certificates(value: str) -> Path:
    path = _regular_file(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise ValueError("it has no PEM certificate") from None
    return path


def _parse_key(value: str) -> Path:
    path = _regular_file(value)
    if b"PRIVATE KEY-----" not in path.read_bytes():
        raise ValueError("it has no PEM private key")
    return path


def key_mismatch(certificate: Path, key: Path) -> str:
    """Return why a private key is not that of a certificate; nothing if it is."""
    try:
        # An encrypted key would ask for its password at the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(certificate, key, _no_password)
    except ssl.SSLError as error:
        return error.reason or str(error)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted")


def _one_of(values: Iterable[str], value: str) -> str:
    if value not in values:
        raise ValueError
    return value


def _is(yes: str, no: str, value: str) -> bool:
    return _one_of((yes, no), value.lower()) == yes


_BY_NAME: Final = {
    "ENDPOINT": Variable(parse_endpoint, "http://host[:port], https://host[:port] or host:port"),
    "PROTOCOL": Variable(
        lambda value: Protocol(_one_of(list(Protocol), value)), "grpc or http/protobuf"
    ),
    HEADERS: Variable(_parse_headers, "a comma list of name=value, percent-encoded"),
    "COMPRESSION": Variable(partial(_is, "gzip", "none"), "gzip or none"),
    "TIMEOUT": Variable(_parse_seconds, f"a number of seconds above 0, up to {_LONGEST_TIMEOUT:g}"),
    "INSECURE": Variable(partial(_is, "true", "false"), "true or false"),
    "CERTIFICATE": Variable(_parse_certificates, "a file with PEM certificates"),
    "CLIENT_CERTIFICATE": Variable(_parse_certificates, "a file with PEM certificates"),
    "CLIENT_KEY": Variable(_parse_key, "a file with a PEM private key"),
}
VARIABLES: Final = {
    **{
        f"{PREFIX}{signal}{name}": variable
        for signal in ("", "TRACES_", "METRICS_", "LOGS_")
        for name, variable in _BY_NAME.items()
    },
    f"{PREFIX}METRICS_TEMPORALITY_PREFERENCE": Variable(
        lambda value: _one_of(("cumulative",), value.lower()),
        "cumulative: Prometheus stores no delta sums, and a lost one cannot be made up",
    ),
}
