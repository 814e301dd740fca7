"""Every port, address and size of the stack: stack.env, overruled by .env and the environment."""

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
# A person's own values, also for the service; docker compose reads the same file by itself.
OWN_ENV_FILE = ROOT / ".env"
DEFAULT_STATE_DIR = ".chatscope"
# The default of SHUTDOWN_GRACE_SECONDS, and from the end of that grace to SIGKILL; a test compares
# them with the app's.
DEFAULT_GRACE_SECONDS = 4
APP_STOP_AFTER_GRACE_SECONDS = 6
# Linux takes 107 bytes, the name of the socket included.
_LONGEST_SOCKETS_DIR = 90
# The Collector's certificate, its key, and the authority of senders.
_TLS_FILES = ("OTLP_TLS_CERT_FILE", "OTLP_TLS_KEY_FILE", "OTLP_TLS_CLIENT_CA_FILE")
# Of the parts that listen on PUBLISH_HOST.
_PUBLISHED_URLS = {"APP_URL", "GRAFANA_URL"}


class FactsError(ValueError):
    """Values that the stack cannot run with; the text has a line for each of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def load(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """All facts by name, ready to be handed to the parts as their environment.

    `environ` stands in the place of the shell's variables and .env. An empty variable counts as
    unset. STATE_DIR (default .chatscope in the checkout) tells where the running stack keeps its
    data, logs and control socket; GRAFANA_HOME, where a Grafana is unpacked; COMPONENTS_DIR, in
    which official releases are (stack/releases.py); RULES_DIR, in which prometheus/rules and
    loki/rules are (default the checkout). Raises FactsError.
    """
    environ = own_environment() if environ is None else environ
    facts = _merged(environ)
    state_dir = _place(environ.get("STATE_DIR") or DEFAULT_STATE_DIR).resolve()
    facts["STATE_DIR"] = str(state_dir)
    facts["DATA_DIR"] = str(state_dir / "data")
    facts["SECRETS_DIR"] = str(state_dir / "run" / "secrets")
    facts["SOCKETS_DIR"] = str(sockets_dir(state_dir))
    # As gRPC spells a socket.
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
    problems = [*_bad_values(facts), *_shared_ports(facts), *_tls_problems(facts)]
    if problems:
        raise FactsError(problems)
    return facts


def sockets_dir(state_dir: Path) -> Path:
    """Return where the sockets of that stack are; elsewhere if their paths would be too long."""
    directory = state_dir / "run" / "sockets"
    if len(os.fsencode(directory)) <= _LONGEST_SOCKETS_DIR:
        return directory
    name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"chatscope-{os.getuid()}" / name


def own_environment() -> dict[str, str]:
    """What the person said: .env, overruled by the shell, as docker compose has it too."""
    # Its own switch, so that one word keeps a person's values out of both ways to run.
    off = os.environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in {"1", "true"}
    said = {} if off else dotenv_values(OWN_ENV_FILE)
    return {**{name: text for name, text in said.items() if text is not None}, **os.environ}


def app_stop_seconds() -> int:
    """Return after how many seconds of a stop the app is killed: one after the limit of its own
    (app/transport/deadline.py), which follows SHUTDOWN_GRACE_SECONDS."""
    grace = own_environment().get("SHUTDOWN_GRACE_SECONDS", "").strip()
    try:
        return math.ceil(float(grace or DEFAULT_GRACE_SECONDS)) + APP_STOP_AFTER_GRACE_SECONDS
    except (ValueError, OverflowError):  # which the app refuses
        return DEFAULT_GRACE_SECONDS + APP_STOP_AFTER_GRACE_SECONDS


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shifted(offset: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that move every port by `offset`, for a second stack on the same machine."""
    facts = load(environ)
    return {name: str(int(facts[name]) + offset) for name in ports(facts)}


def ports(facts: Mapping[str, str]) -> list[str]:
    """The names of the facts that are ports."""
    return [name for name in facts if name.endswith("_PORT")]


def _place(text: str) -> Path:
    """A path as Compose reads it too: relative to the checkout, `~` for the home directory."""
    return ROOT / os.path.expanduser(text)


def _merged(environ: Mapping[str, str]) -> dict[str, str]:
    # Not python-dotenv's own interpolation: there a line of the file would see the
    # file's value of a name, not the one that won.
    facts: dict[str, str] = {}
    for name, text in dotenv_values(ENV_FILE, interpolate=False).items():
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


def _tls_problems(facts: Mapping[str, str]) -> Iterator[str]:
    certificate, key, client_authority = (facts[name] for name in _TLS_FILES)
    if bool(certificate) != bool(key) or (client_authority and not certificate):
        yield f"{', '.join(_TLS_FILES[:2])}: give both, or neither and no {_TLS_FILES[2]}"
    for name in _TLS_FILES:
        if facts[name] and not os.access(facts[name], os.R_OK):
            yield f"{name}={facts[name]!r} is not accepted: it must be a file that can be read"


def _published_at(facts: Mapping[str, str]) -> str:
    """Where this machine itself reaches what listens on PUBLISH_HOST."""
    host = facts["PUBLISH_HOST"]
    # What listens on one other address does not answer on loopback. An address that is not
    # accepted is reported once, not with each URL in which it would stand.
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


def _is_size(value: str) -> bool:
    return bool(re.fullmatch(r"0|[1-9][0-9]*(MB|GB|TB)", value))


def _is_rate(value: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,3}", value))


# Suffix of a name, what its value must be, and the same in words; the first that fits counts.
_KINDS: list[tuple[str, Callable[[str], bool], str]] = [
    ("_PORT", _is_port, "a port, 1 to 65535"),
    ("_URL", _is_url, "a URL such as http://127.0.0.1:3000"),
    ("_ENDPOINT", _is_endpoint, "host:port, or unix:// and an absolute path"),
    ("PUBLISH_HOST", _is_address, "an IPv4 address of this machine, or 0.0.0.0 for all of them"),
    ("_HOST", _is_host, "a host name or an address"),
    ("RETENTION", _is_hours, "whole hours such as 360h"),
    ("_RATE_MB", _is_rate, "whole megabytes a second, 1 to 9999"),
    ("_SIZE", _is_size, "a size such as 5GB (MB, GB or TB), or 0"),
]


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
            yield f"{' and '.join(names)} are both {port}: each part needs a port of its own"
