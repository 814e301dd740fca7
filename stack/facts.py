"""Every port, address and size of the stack: stack.env, overridden by .env and environment."""

import hashlib
import ipaddress
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parent.parent
ENV_FILE = ROOT / "stack" / "stack.env"
# What the scaled stack has in addition.
SCALE_ENV_FILE = ROOT / "deploy" / "scale" / "scale.env"
TOPOLOGIES = ("single", "scaled")
# The user's own values, also for the service; docker compose reads the same file.
OWN_ENV_FILE = ROOT / ".env"
DEFAULT_STATE_DIR = ".chatscope"
# The default of SHUTDOWN_GRACE_SECONDS, and the time from the end of that grace period to SIGKILL;
# a test compares them with the app's.
DEFAULT_GRACE_SECONDS = 4
APP_STOP_AFTER_GRACE_SECONDS = 6
# Linux accepts 107 bytes, including the socket's name.
_LONGEST_SOCKETS_DIR = 90
# The Collector's certificate, its key, and the authority of senders.
_TLS_FILES = ("OTLP_TLS_CERT_FILE", "OTLP_TLS_KEY_FILE", "OTLP_TLS_CLIENT_CA_FILE")
# URLs of the components that listen on PUBLISH_HOST.
_PUBLISHED_URLS = {"APP_URL", "GRAFANA_URL"}


class FactsError(ValueError):
    """Invalid settings of the stack; the text has a line for each of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def load(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return all facts by name, ready to be used as environment of the components.

    `environ` replaces the shell's variables and .env. An empty variable counts as unset. STATE_DIR
    (default .chatscope in the checkout) is the directory of data, logs and sockets of the running
    stack; GRAFANA_HOME, of an unpacked Grafana; COMPONENTS_DIR, of official releases
    (stack/releases.py); RULES_DIR, of prometheus/rules and loki/rules (default the checkout).
    Raises FactsError.
    """
    environ = own_environment() if environ is None else environ
    topology = environ.get("TOPOLOGY") or TOPOLOGIES[0]
    facts = _merged(environ, topology)
    facts["TOPOLOGY"] = topology
    state_dir = _place(environ.get("STATE_DIR") or DEFAULT_STATE_DIR).resolve()
    facts["STATE_DIR"] = str(state_dir)
    facts["DATA_DIR"] = str(state_dir / "data")
    facts["SECRETS_DIR"] = str(state_dir / "run" / "secrets")
    facts["SOCKETS_DIR"] = str(sockets_dir(state_dir))
    # In gRPC's notation of a socket.
    tempo = f"unix://{facts['SOCKETS_DIR']}/tempo-otlp.sock"
    facts["TEMPO_OTLP_ENDPOINT"] = environ.get("TEMPO_OTLP_ENDPOINT") or tempo
    facts |= _tls(environ)
    if facts["OTLP_TLS_CERT_FILE"]:
        for name in ("OTLP_URL", "OTLP_HTTP_URL"):
            facts[name] = facts[name].replace("http://", "https://", 1)
    facts["RULES_DIR"] = str(_place(environ.get("RULES_DIR") or ".").resolve())
    facts["STACK_LISTEN"] = facts["STACK_HOST"]
    facts["PUBLISHED_AT"] = _published_at(facts)
    for name in ("GRAFANA_HOME", "COMPONENTS_DIR"):
        said = environ.get(name) or ""
        facts[name] = said and str(_place(said))
    problems = [
        *_bad_topology(topology),
        *_bad_values(facts),
        *_shared_ports(facts),
        *_tls_problems(facts),
        *_scaled_problems(facts),
    ]
    if problems:
        raise FactsError(problems)
    return facts


def sockets_dir(state_dir: Path) -> Path:
    """Return the directory of the stack's sockets; elsewhere if their paths would be too long."""
    directory = state_dir / "run" / "sockets"
    if len(os.fsencode(directory)) <= _LONGEST_SOCKETS_DIR:
        return directory
    name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"chatscope-{os.getuid()}" / name


def own_environment() -> dict[str, str]:
    """Return the user's variables: .env, overridden by the shell, as in docker compose."""
    # Compose's own switch, so that one variable disables .env for both ways to run.
    off = os.environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in {"1", "true"}
    said = {} if off else dotenv_values(OWN_ENV_FILE)
    return {**{name: text for name, text in said.items() if text is not None}, **os.environ}


def app_stop_seconds() -> int:
    """Return the seconds after which a stopping app is killed: one more than its own limit, which
    depends on SHUTDOWN_GRACE_SECONDS (app/transport/deadline.py)."""
    grace = own_environment().get("SHUTDOWN_GRACE_SECONDS", "").strip()
    try:
        return math.ceil(float(grace or DEFAULT_GRACE_SECONDS)) + APP_STOP_AFTER_GRACE_SECONDS
    except (ValueError, OverflowError):  # rejected by the app
        return DEFAULT_GRACE_SECONDS + APP_STOP_AFTER_GRACE_SECONDS


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shifted(offset: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return variables that shift every port by `offset`, for a second stack on this machine."""
    facts = load(environ)
    return {name: str(int(facts[name]) + offset) for name in ports(facts)}


def ports(facts: Mapping[str, str]) -> list[str]:
    """Return the names of the facts that are ports."""
    return [name for name in facts if name.endswith("_PORT")]


def _place(text: str) -> Path:
    """Return a path as Compose resolves it: relative to the checkout, with `~`."""
    return ROOT / os.path.expanduser(text)


def _merged(environ: Mapping[str, str], topology: str) -> dict[str, str]:
    # Without python-dotenv's interpolation, which would use the file's value of a name instead of
    # the overriding one.
    facts: dict[str, str] = {}
    lines = dotenv_values(ENV_FILE, interpolate=False)
    if topology == "scaled":
        more = dotenv_values(SCALE_ENV_FILE, interpolate=False)
        lines = {name: text for name, text in lines.items() if name not in more} | more
    for name, text in lines.items():
        names = dict(facts)
        if name in _PUBLISHED_URLS:
            names["STACK_HOST"] = _published_at(facts)
        facts[name] = environ.get(name) or Template(text or "").substitute(names)
    return facts


def _tls(environ: Mapping[str, str]) -> dict[str, str]:
    """The files with which the Collector receives telemetry over TLS, and senders check it: all
    empty without a certificate."""
    found = {name: environ.get(name) or "" for name in _TLS_FILES}
    found = {name: said and str(_place(said)) for name, said in found.items()}
    certificate = found["OTLP_TLS_CERT_FILE"]
    # One that is not signed by another is its own authority.
    said = environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or ""
    found["OTLP_CA_FILE"] = (said and str(_place(said))) or certificate
    # The same file twice changes nothing.
    overlay = "deploy/tls.collector.yaml" if certificate else "otel-collector-config.yaml"
    found["COLLECTOR_OVERLAY"] = str(ROOT / overlay)
    return found


def _scaled_problems(facts: Mapping[str, str]) -> Iterator[str]:
    if facts["TOPOLOGY"] == "scaled" and facts["OTLP_TLS_CERT_FILE"]:
        yield "OTLP_TLS_CERT_FILE is not supported with TOPOLOGY=scaled: unset one of them"
    # A part of file names, topics and headers.
    tenant = facts["TENANT"]
    if not re.fullmatch(r"[A-Za-z0-9_-]+", tenant):
        yield f"TENANT={tenant!r} is not accepted: it must be letters, digits, _ and -"
    elif facts["TOPOLOGY"] == "scaled" and tenant == "second":
        yield "TENANT=second is the second tenant of the scaled stack: give another name"


def _tls_problems(facts: Mapping[str, str]) -> Iterator[str]:
    certificate, key, client_authority = (facts[name] for name in _TLS_FILES)
    if bool(certificate) != bool(key) or (client_authority and not certificate):
        yield f"{', '.join(_TLS_FILES[:2])}: give both, or neither and no {_TLS_FILES[2]}"
    for name in _TLS_FILES:
        if facts[name] and not os.access(facts[name], os.R_OK):
            yield f"{name}={facts[name]!r} is not accepted: it must be a file that can be read"


def _published_at(facts: Mapping[str, str]) -> str:
    """Return the address at which this machine reaches listeners on PUBLISH_HOST."""
    host = facts["PUBLISH_HOST"]
    # A listener on another address does not respond on loopback. An invalid address is reported
    # once, not again for each URL that contains it.
    return facts["STACK_HOST"] if host == "0.0.0.0" or not _is_address(host) else host  # noqa: S104


def _is_port(value: str) -> bool:
    return value.isascii() and value.isdigit() and 1 <= int(value) <= 65535


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_endpoint(value: str) -> bool:
    if value.startswith("unix:///"):
        return True
    host, _, port = value.rpartition(":")
    return bool(host) and "/" not in host and _is_port(port)


def _is_host(value: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9.:-]+", value))


def _is_address(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return value == "localhost"
    return True


def _is_hours(value: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]*h", value))


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _is_percent(value: str) -> bool:
    return _is_number(value) and int(value) <= 100


def _is_amount(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+)?", value))


def _is_duration(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9]+(ms|s|m)", value))


def _is_size(value: str) -> bool:
    return bool(re.fullmatch(r"0|[1-9][0-9]*(MB|GB|TB)", value))


def _is_rate(value: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,3}", value))


# Suffix of a name, check of its value, and the accepted values; the first match counts.
_KINDS: list[tuple[str, Callable[[str], bool], str]] = [
    ("_PORT", _is_port, "a port, 1 to 65535"),
    ("_URL", _is_url, "a URL such as http://127.0.0.1:3000"),
    ("_ENDPOINT", _is_endpoint, "host:port, or unix:// and an absolute path"),
    ("PUBLISH_HOST", _is_address, "an IPv4 address of this machine, or 0.0.0.0 for all of them"),
    ("_HOST", _is_host, "a host name or an address"),
    ("RETENTION", _is_hours, "whole hours such as 360h"),
    ("_RATE_MB", _is_rate, "whole megabytes a second, 1 to 9999"),
    ("_PERCENT", _is_percent, "a whole number, 0 to 100"),
    ("_TRACE_MS", _is_number, "a whole number of milliseconds"),
    ("TRACES_IN_MEMORY", _is_number, "a whole number"),
    ("_USD", _is_amount, "an amount such as 0.5"),
    ("TRACE_WAIT_AFTER_ROOT", _is_duration, "a duration such as 10s"),
    ("TRACE_WAIT", _is_duration, "a duration such as 10s"),
    ("_SIZE", _is_size, "a size such as 5GB (MB, GB or TB), or 0"),
]


def _bad_topology(topology: str) -> Iterator[str]:
    if topology not in TOPOLOGIES:
        yield f"TOPOLOGY={topology!r} is not accepted: it must be {' or '.join(TOPOLOGIES)}"


def _bad_values(facts: Mapping[str, str]) -> Iterator[str]:
    for name, value in facts.items():
        kind = next((kind for kind in _KINDS if name.endswith(kind[0])), None)
        if kind and not kind[1](value):
            yield f"{name}={value!r} is not accepted: it must be {kind[2]}"


def _shared_ports(facts: Mapping[str, str]) -> Iterator[str]:
    owners: dict[str, list[str]] = {}
    for name in ports(facts):
        owners.setdefault(facts[name], []).append(name)
    for port, names in owners.items():
        if len(names) > 1:
            yield f"{' and '.join(names)} are both {port}: each component needs its own port"
