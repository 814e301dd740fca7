"""Where OTLP goes: one signal's endpoint, credentials and limits, from `OTEL_EXPORTER_OTLP_*`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from .proxy import bypasses_proxy
from .variables import (
    PREFIX,
    VARIABLES,
    Headers,
    InvalidVariable,
    Protocol,
    is_resolved_by_grpc,
    key_mismatch,
    parse_endpoint,
    parse_header,
    show,
)

# The standard has no such variable, and a secret in the environment reaches every child process.
HEADERS_FILE: Final = "CHATSCOPE_OTLP_HEADERS_FILE"
_DEFAULT_TIMEOUT: Final = 10.0  # s
_PORTS: Final = {Protocol.GRPC: 4317, Protocol.HTTP: 4318}

T = TypeVar("T")


class Signal(StrEnum):
    """The three signals, as named in `OTEL_*` variables and URLs."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class OtlpSettingsError(ValueError):
    """Invalid settings; `problems` has all of them, each with a text of its own."""

    def __init__(self, problems: Iterable[InvalidVariable]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(map(str, self.problems)))


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
    headers: Headers = ()
    # More headers, `name=value` a line; read again when the file changes.
    headers_file: Path | None = None
    gzip: bool = False
    timeout: float = _DEFAULT_TIMEOUT

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "https"

    @property
    def target(self) -> str:
        """What a gRPC channel connects to."""
        if is_resolved_by_grpc(self.url):
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

    `endpoint` and `headers_file` are used where no variable names one; that of the file is
    CHATSCOPE_OTLP_HEADERS_FILE. Raises OtlpSettingsError with all problems; a variable is checked
    also where another one of the signal's own has priority.
    """
    reader = _Reader(environment)
    named = environment.get(HEADERS_FILE, "").strip()
    file = Path(named).expanduser() if named else headers_file
    found = {signal: reader.read(signal, endpoint, file) for signal in Signal}
    reader.check_headers_file(file, HEADERS_FILE if named else "the headers file")
    if reader.problems:
        # A variable without a signal's name is read once for each signal.
        raise OtlpSettingsError(dict.fromkeys(reader.problems))
    return found


class _Reader:
    """Reads the variables, and collects those that are invalid."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.problems: list[InvalidVariable] = []
        # An empty variable counts as unset.
        self._given = {
            name: value for name in VARIABLES if (value := environment.get(name, "").strip())
        }
        self._parsed: dict[str, Any] = {}
        for name, value in self._given.items():
            self._parse(name, value)

    def read(
        self, signal: Signal, endpoint: str | None, headers_file: Path | None
    ) -> EndpointSettings:
        protocol = self._value(signal, "PROTOCOL", Protocol.GRPC)
        self._check_key(signal)
        return EndpointSettings(
            signal=signal,
            protocol=protocol,
            url=self._url(signal, protocol, endpoint),
            certificate=self._value(signal, "CERTIFICATE", None),
            client_key=self._value(signal, "CLIENT_KEY", None),
            client_certificate=self._value(signal, "CLIENT_CERTIFICATE", None),
            headers=self._value(signal, "HEADERS", ()),
            headers_file=headers_file,
            gzip=self._value(signal, "COMPRESSION", False),
            timeout=self._value(signal, "TIMEOUT", _DEFAULT_TIMEOUT),
        )

    def check_headers_file(self, path: Path | None, name: str) -> None:
        if path is None:
            return
        try:
            read_headers(path)
        except (OSError, ValueError) as error:
            reason = (error.strerror or "") if isinstance(error, OSError) else str(error)
            accepts = "a file with name=value on each line"
            self.problems.append(InvalidVariable(name, show(str(path)), accepts, reason))

    def _parse(self, name: str, value: str) -> None:
        variable = VARIABLES[name]
        try:
            value.encode()
            self._parsed[name] = variable.parse(value)
        except UnicodeEncodeError:
            self.problems.append(variable.problem(name, value, "it is not UTF-8"))
        except ValueError as error:
            self.problems.append(variable.problem(name, value, str(error)))

    def _name(self, signal: Signal, name: str) -> str:
        """Return the variable that counts: the signal's own where it is given."""
        own = f"{PREFIX}{signal.upper()}_{name}"
        return own if own in self._given else f"{PREFIX}{name}"

    def _value(self, signal: Signal, name: str, default: T) -> T:
        found: T = self._parsed.get(self._name(signal, name), default)
        return found

    def _url(self, signal: Signal, protocol: Protocol, endpoint: str | None) -> str:
        variable = self._name(signal, "ENDPOINT")
        default = f"http://localhost:{_PORTS[protocol]}"
        value = self._parsed.get(variable) or self._default_endpoint(endpoint) or default
        if is_resolved_by_grpc(value):
            if protocol is not Protocol.GRPC:
                self._add_endpoint(variable, value, f"only gRPC resolves it, not {protocol}")
            return value
        if "://" not in value:
            value = f"{'http' if self._value(signal, 'INSECURE', False) else 'https'}://{value}"
        if protocol is Protocol.GRPC:
            parts = urlsplit(value)
            return f"{parts.scheme}://{parts.netloc}"
        # A signal's own endpoint is used as it is.
        return value if variable != f"{PREFIX}ENDPOINT" else f"{value.rstrip('/')}/v1/{signal}"

    def _default_endpoint(self, endpoint: str | None) -> str | None:
        try:
            return parse_endpoint(endpoint) if endpoint else None
        except ValueError as error:
            self._add_endpoint("endpoint", endpoint or "", str(error))
            return None

    def _add_endpoint(self, name: str, value: str, reason: str) -> None:
        self.problems.append(VARIABLES[f"{PREFIX}ENDPOINT"].problem(name, value, reason))

    def _check_key(self, signal: Signal) -> None:
        """A client key and its certificate are given together, and belong together."""
        names = [self._name(signal, name) for name in ("CLIENT_KEY", "CLIENT_CERTIFICATE")]
        key, certificate = names
        given = [name for name in names if name in self._given]
        if len(given) == 1:
            [missing] = set(names) - set(given)
            self._add(given[0], "a key and its certificate, or neither", f"{missing} is not set")
        elif key in self._parsed and certificate in self._parsed:
            reason = key_mismatch(self._parsed[certificate], self._parsed[key])
            if reason:
                self._add(key, f"the PEM key, without a password, of {certificate}", reason)

    def _add(self, name: str, accepts: str, reason: str) -> None:
        self.problems.append(InvalidVariable(name, show(self._given[name]), accepts, reason))


def read_headers(path: Path) -> Headers:
    """Read a headers file: `name=value` a line; empty lines and `#` comments are skipped.

    Raises OSError, or ValueError for another line, which it does not repeat.
    """
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    return tuple(_header(line) for line in lines if line and not line.startswith("#"))


def _header(line: str) -> tuple[str, str]:
    name, separator, value = line.partition("=")
    if not separator:
        raise ValueError("a line without =")
    return parse_header(name, value)
