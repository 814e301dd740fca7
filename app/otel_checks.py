"""Checks of single values, as the OpenTelemetry SDK and gRPC parse them.

A check raises ValueError, with the reason where there is more to say than what is accepted. None
imports OpenTelemetry.
"""

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from app.problems import is_utf8, shown

# A path, and names that gRPC resolves: https://github.com/grpc/grpc/blob/master/doc/naming.md
_GRPC_SCHEMES: Final = ("dns", "unix", "unix-abstract", "ipv4", "ipv6")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d+)")
# gRPC fails every call whose metadata has other characters.
_METADATA_KEY: Final = re.compile(r"[0-9a-z_.-]+")

Check = Callable[[str], None]


@dataclass(frozen=True)
class Variable:
    """How one variable is checked; `check` raises ValueError with the reason, if there is more to
    say than what is accepted."""

    check: Check
    accepts: str
    secret: bool = False


def mismatch(certificate: str, key: str) -> str | None:
    """Return why a private key is not that of a certificate, both files in PEM; None if it is."""
    try:
        # An empty password, so that nobody is asked for one on a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, lambda: "")
    except ssl.SSLError as error:
        return error.reason or str(error)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def one_of(*values: str, any_case: bool = False) -> Variable:
    """Accept one of these values, in lower case unless `any_case`."""
    accepted = ", ".join(values[:-1]) + f" or {values[-1]}" if len(values) > 1 else values[0]

    def check(value: str) -> None:
        if (value.lower() if any_case else value) not in values:
            raise ValueError

    return Variable(check, accepted)


def number(accepts: str, *, whole: bool, least: float, most: float) -> Variable:
    """Accept a number from `least` to `most`."""

    def check(text: str) -> None:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ValueError from None
        if not least <= value <= most:
            raise ValueError

    return Variable(check, accepts)


def endpoint(value: str) -> None:
    """Accept what an exporter over gRPC or HTTP connects to."""
    scheme, separator, rest = value.partition(":")
    if scheme.lower() in _GRPC_SCHEMES and separator and rest:
        return
    if "://" not in value:
        if not (match := _HOST_AND_PORT.fullmatch(value)) or int(match[2]) > 65_535:
            raise ValueError("neither a URL nor host:port")
        return
    parts = urlsplit(value)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials belong into OTEL_EXPORTER_OTLP_HEADERS")
    if any(character.isspace() for character in value):
        raise ValueError("a URL has no white space")
    if parts.port == 0:  # reading it raises ValueError for one that is not a number up to 65535
        raise ValueError("a port is a number from 1 to 65535")


def headers(value: str) -> None:
    """Accept headers as the SDK parses them, and as gRPC sends them."""
    for item in filter(None, (item.strip() for item in value.split(","))):
        name, separator, text = item.partition("=")
        name, text = unquote(name).strip().lower(), unquote(text).strip()
        if not separator:
            raise ValueError("an item without =")
        if not _METADATA_KEY.fullmatch(name):
            raise ValueError("a name has characters that gRPC does not send")
        if not (text.isascii() and text.isprintable()) or any(c in item for c in '";\\'):
            raise ValueError(f"the value of {name} has characters that cannot be sent")


def pairs(value: str) -> None:
    """Accept key=value, separated by commas, with percent-encoded values."""
    for item in filter(None, (item.strip() for item in value.split(","))):
        name, separator, text = item.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"{shown(item)!r} is no key=value")
        if not is_utf8(unquote(text, errors="surrogateescape")):
            raise ValueError(f"{shown(item)!r} does not decode to UTF-8")


def _regular_file(path: str) -> None:
    if not os.path.isfile(path):
        raise ValueError("it is no file" if os.path.exists(path) else "there is no such file")
    if not os.access(path, os.R_OK):
        raise ValueError("it cannot be read")


def certificates(path: str) -> None:
    """Accept a file with certificates in PEM."""
    _regular_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ValueError("it has no PEM certificate") from error


def private_key(path: str) -> None:
    """Accept a file with a private key in PEM."""
    _regular_file(path)
    with open(path, "rb") as file:
        if b"PRIVATE KEY-----" not in file.read():
            raise ValueError("it has no PEM private key")


def regular_expressions(value: str) -> None:
    """Accept regular expressions, separated by commas."""
    for pattern in value.split(","):
        try:
            re.compile(pattern.strip())
        except re.error as error:
            raise ValueError(f"{shown(pattern)!r}: {error}") from error


def entry_points(group: str, *built_in: str) -> Check:
    """Check a comma-separated list of names that installed packages register."""

    def check(value: str) -> None:
        # Reading the metadata of every installed package takes a while.
        from importlib.metadata import entry_points  # noqa: PLC0415

        names = [name.strip() for name in value.split(",")]
        unknown = [name for name in names if name not in built_in]
        installed = {point.name for point in entry_points(group=group)} if unknown else set()
        if missing := [name for name in unknown if name not in installed]:
            raise ValueError(f"{shown(missing[0])!r} is not installed")

    return check


def status_codes(value: str) -> None:
    """Accept names of gRPC's status codes, separated by commas."""
    import grpc  # noqa: PLC0415

    for name in filter(None, (name.strip() for name in value.split(","))):
        if name.upper() not in grpc.StatusCode.__members__:
            raise ValueError(f"{shown(name)!r} is no status code of gRPC")


def unchanged(value: str) -> None:
    """Accept no value at all."""
    raise ValueError("the service installs its own provider")
