"""Where OTLP goes: one signal's endpoint, credentials and limits, from `OTEL_EXPORTER_OTLP_*`.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/. Timeouts are in seconds, as in
the OpenTelemetry SDK for Python.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from pathlib import Path
from ssl import SSLError, create_default_context
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from .proxy import bypasses_proxy

PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_TEMPORALITY: Final = f"{PREFIX}METRICS_TEMPORALITY_PREFERENCE"
_DEFAULT_TIMEOUT: Final = 10.0
_PORTS: Final = {"grpc": 4317, "http/protobuf": 4318}
# Names that gRPC resolves: https://github.com/grpc/grpc/blob/master/doc/naming.md
_GRPC_SCHEMES: Final = ("dns", "unix", "unix-abstract", "ipv4", "ipv6")

_USER: Final = re.compile(r"//[^/?#]*@")

T = TypeVar("T")


class Signal(StrEnum):
    """The three signals, as `OTEL_*` variables and URLs spell them."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class Protocol(StrEnum):
    """The transports that are implemented."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


class OtlpSettingsError(ValueError):
    """Invalid settings; `problems` has a sentence for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """One signal's receiver and how to reach it."""

    signal: Signal
    protocol: Protocol = Protocol.GRPC
    # gRPC: scheme, host and port. HTTP: the whole URL.
    url: str = "http://localhost:4317"
    certificate: Path | None = None  # CA certificates, PEM
    client_key: Path | None = None
    client_certificate: Path | None = None
    headers: tuple[tuple[str, str], ...] = ()
    # More headers, `name=value` a line; read again when the file changes.
    headers_file: Path | None = None
    gzip: bool = False
    timeout: float = _DEFAULT_TIMEOUT  # s

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "https"

    @property
    def target(self) -> str:
        """What a gRPC channel connects to."""
        if self.url.partition(":")[0] in _GRPC_SCHEMES:
            return self.url
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or (443 if self.tls else _PORTS[Protocol.GRPC])}"

    @property
    def direct(self) -> bool:
        """Whether no proxy is used: for this machine, and where `no_proxy` says so."""
        return bypasses_proxy(self.url)


def load_endpoints(
    environment: Mapping[str, str],
    *,
    endpoint: str | None = None,
    headers_file: Path | None = None,
) -> dict[Signal, EndpointSettings]:
    """Read the settings of all signals.

    `endpoint` takes the place of the default, and is used where no variable names one. Raises
    OtlpSettingsError with all problems of all signals.
    """
    problems: list[str] = []
    found = {
        signal: _Reader(environment, signal, problems).read(endpoint, headers_file)
        for signal in Signal
    }
    preference = environment.get(_TEMPORALITY, "").strip()
    if preference and preference.lower() != "cumulative":
        problems.append(
            f"{_TEMPORALITY} must be cumulative (got {preference!r}): sums outlive a lost export"
            " only when they are cumulative, and Prometheus accepts nothing else"
        )
    if problems:
        # A variable without a signal's name is read once for each signal.
        raise OtlpSettingsError(dict.fromkeys(problems))
    return found


class _Reader:
    """Reads one signal's variables and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str], signal: Signal, problems: list[str]) -> None:
        self._environment = environment
        self._signal = signal
        self._problems = problems

    def read(self, endpoint: str | None, headers_file: Path | None) -> EndpointSettings:
        protocol = self._value("PROTOCOL", Protocol, Protocol.GRPC, "grpc or http/protobuf")
        key, certificate = self._file("CLIENT_KEY"), self._file("CLIENT_CERTIFICATE")
        settings = EndpointSettings(
            signal=self._signal,
            protocol=protocol,
            url=self._url(protocol, endpoint),
            certificate=self._file("CERTIFICATE"),
            client_key=key,
            client_certificate=certificate,
            headers=self._value("HEADERS", _headers, (), "name=value pairs separated by commas"),
            headers_file=headers_file,
            gzip=self._value("COMPRESSION", _compression, False, "gzip or none"),
            timeout=self._value("TIMEOUT", _seconds, _DEFAULT_TIMEOUT, "seconds > 0"),
        )
        self._check_certificates(settings)
        self._check_headers_file(headers_file)
        return settings

    def _find(self, name: str) -> tuple[str, str]:
        """Return the variable that counts, and its value; an empty one counts as unset."""
        for variable in (f"{PREFIX}{self._signal.upper()}_{name}", f"{PREFIX}{name}"):
            if value := self._environment.get(variable, "").strip():
                return variable, value
        return "", ""

    def _value(self, name: str, parse: Callable[[str], T], default: T, accepted: str) -> T:
        variable, value = self._find(name)
        if not variable:
            return default
        try:
            return parse(value)
        except ValueError:
            shown = "a value that is not shown" if name == "HEADERS" else repr(value)
            self._problems.append(f"{variable} must be {accepted} (got {shown})")
            return default

    def _file(self, name: str) -> Path | None:
        variable, value = self._find(name)
        if not variable:
            return None
        path = Path(value)
        try:
            readable = b"-----BEGIN" in path.read_bytes()
        except OSError as error:
            self._problems.append(
                f"{variable} must be a PEM file that can be read (got {value!r}: {error.strerror})"
            )
            return None
        if not readable:
            self._problems.append(f"{variable} must be a PEM file (got {value!r})")
            return None
        return path

    def _url(self, protocol: Protocol, endpoint: str | None) -> str:
        variable, value = self._find("ENDPOINT")
        own = variable.startswith(f"{PREFIX}{self._signal.upper()}_")
        variable, value = variable or "endpoint", value or endpoint or ""
        if not value:
            value = f"http://localhost:{_PORTS[protocol]}"
        if protocol is Protocol.GRPC and value.partition(":")[0] in _GRPC_SCHEMES:
            return value
        if "://" not in value:
            insecure = self._value("INSECURE", _boolean, False, "true or false")
            value = f"{'http' if insecure else 'https'}://{value}"
        try:
            parts = urlsplit(value)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            self._problems.append(
                f"{variable} must be a URL such as http://localhost:{_PORTS[protocol]}"
                f" (got {_USER.sub('//***@', value)!r})"
            )
            return value
        if protocol is Protocol.GRPC:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        # A signal's own endpoint is used as it is.
        return value if own else f"{value.rstrip('/')}/v1/{self._signal}"

    def _check_certificates(self, settings: EndpointSettings) -> None:
        key, certificate = settings.client_key, settings.client_certificate
        if (key is None) != (certificate is None):
            missing = "CLIENT_CERTIFICATE" if certificate is None else "CLIENT_KEY"
            self._problems.append(
                f"{PREFIX}{missing} must be set, too: a client key and its certificate belong"
                " together"
            )
            return
        if settings.certificate is None and certificate is None:
            return
        try:
            context = create_default_context(cafile=settings.certificate)
            if certificate is not None:
                # An encrypted key would ask for its password at the terminal.
                context.load_cert_chain(certificate, key, password=_no_password)
        except (SSLError, OSError, ValueError) as error:
            self._problems.append(
                f"the certificates of {PREFIX}* cannot be used for {self._signal}: {error}"
            )

    def _check_headers_file(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            read_headers(path)
        except (OSError, ValueError) as error:
            self._problems.append(
                f"the headers file must have name=value on each line ({path}: {error})"
            )


def read_headers(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a headers file: `name=value` a line; empty lines and `#` comments are skipped.

    Raises OSError, or ValueError for another line, which it does not repeat.
    """
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    return tuple(_header(line) for line in lines if line and not line.startswith("#"))


def _headers(value: str) -> tuple[tuple[str, str], ...]:
    pairs = [_header(unquote(part)) for part in value.split(",") if part.strip()]
    return tuple(pairs)


def _header(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    name, value = name.strip().lower(), value.strip()
    if (
        not equals
        or not name
        or not name.isascii()
        or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise ValueError("a line is not name=value")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"the value of {name} has characters that a header cannot have")
    return name, value


def _compression(value: str) -> bool:
    if value.lower() not in ("gzip", "none"):
        raise ValueError(value)
    return value.lower() == "gzip"


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds < inf:
        raise ValueError(value)
    return seconds


def _boolean(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def _no_password() -> str:
    raise ValueError("the client key is encrypted; only a key without a password is accepted")
