"""Where the service and the backends are: options, variables, a running stack, defaults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from chatscope.cli.errors import CommandError

# The state of the stack that runs in a checkout, and the facts with which it was started.
_STATE_DIR: Final = ".chatscope"
_FACTS: Final = Path("run") / "facts.json"
# Optional files of the stack's operator, below SECRETS_DIR: the `authorization` header for
# the backends, and the headers for the Collector.
_LOGIN: Final = "basic"
_TELEMETRY: Final = "otlp_headers"


@dataclass(frozen=True)
class Place:
    """A component: the variable with its URL, the stack's fact, and the URL by default."""

    name: str
    variable: str
    fact: str
    default: str


SERVICE: Final = Place("service", "CHATSCOPE_URL", "APP_URL", "http://127.0.0.1:3000")
PROMETHEUS: Final = Place(
    "Prometheus", "CHATSCOPE_PROMETHEUS_URL", "PROMETHEUS_URL", "http://127.0.0.1:9090"
)
LOKI: Final = Place("Loki", "CHATSCOPE_LOKI_URL", "LOKI_URL", "http://127.0.0.1:3100")
TEMPO: Final = Place("Tempo", "CHATSCOPE_TEMPO_URL", "TEMPO_URL", "http://127.0.0.1:3200")
GRAFANA: Final = Place(
    "Grafana", "CHATSCOPE_GRAFANA_URL", "GRAFANA_PUBLIC_URL", "http://127.0.0.1:3001"
)
# Its own variables are those of OpenTelemetry.
COLLECTOR: Final = Place("Collector", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTLP_URL", "")
PLACES: Final = (SERVICE, COLLECTOR, PROMETHEUS, LOKI, TEMPO, GRAFANA)


class Addresses:
    """The URLs of components, as an environment has them.

    A variable has priority over the stack that was started in this directory.
    """

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self._environ = environ
        state = directory / (environ.get("STATE_DIR") or _STATE_DIR)
        self.stack = _read_facts(state / _FACTS)

    def url(self, place: Place, given: str | None = None) -> str:
        """Return a component's URL, without a slash at its end. Raise CommandError."""
        found = (
            given
            or self._environ.get(place.variable, "").strip()
            or self.stack.get(place.fact)
            or place.default
        )
        if found and not _is_url(found):
            raise CommandError(
                f"{place.variable} must be a URL such as {place.default} (got {found!r})"
            )
        return found.rstrip("/")

    def headers(self, place: Place, url: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the headers for a backend: at the stack that runs here, with its login."""
        own = self.stack.get(place.fact, "").rstrip("/") == url
        login = self._secret(_LOGIN) if own else None
        return {**({"authorization": login} if login else {}), **given}

    def telemetry_headers_file(self) -> Path | None:
        """Return the file with the headers for the Collector of the stack that runs here."""
        path = self._secret_path(_TELEMETRY)
        return path if path and path.is_file() else None

    def _secret(self, name: str) -> str | None:
        path = self._secret_path(name)
        try:
            return path.read_text(encoding="utf-8").strip() if path else None
        except (OSError, UnicodeDecodeError):
            return None

    def _secret_path(self, name: str) -> Path | None:
        directory = self.stack.get("SECRETS_DIR")
        return Path(directory) / "operator" / name if directory else None

    def is_expected(self, place: Place) -> bool:
        """Return whether a variable names the component, or a stack runs it here."""
        named = bool(self._environ.get(place.variable, "").strip())
        return named or (place is not GRAFANA and bool(self.stack.get(place.fact)))


def _read_facts(path: Path) -> Mapping[str, str]:
    """Return the facts of the running stack; none where no stack was started."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
