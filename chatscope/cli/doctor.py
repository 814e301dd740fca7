"""`chatscope doctor`: check the delivery of telemetry, and name each fault with its fix."""

import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from chatscope.cli import fixes
from chatscope.cli.addresses import (
    COLLECTOR,
    GRAFANA,
    LOKI,
    PROMETHEUS,
    SERVICE,
    TEMPO,
    Addresses,
    Place,
)
from chatscope.cli.backend import Backend, Headers
from chatscope.cli.clocks import Clocks
from chatscope.cli.errors import CommandError
from chatscope.cli.findings import Finding, State
from chatscope.cli.grafana import DATASOURCES, HEALTH
from chatscope.cli.loki import Loki
from chatscope.cli.probe import Probe
from chatscope.cli.prometheus import Prometheus
from chatscope.cli.tempo import Tempo
from chatscope.otlp.client import Outcome
from chatscope.otlp.settings import EndpointSettings, OtlpSettingsError, Signal, load_endpoints
from chatscope.otlp.variables import PREFIX, Protocol, is_resolved_by_grpc
from chatscope.settings import SettingsError, load_settings

_CONNECT_SECONDS: Final = 3.0
_RESPONSE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.25
_BUILD: Final = "/api/v1/status/buildinfo"
_OFF: Final[Mapping[str, tuple[str, ...]]] = {
    "OTEL_SDK_DISABLED": ("true",),
    "OTEL_TRACES_EXPORTER": ("none",),
    "OTEL_METRICS_EXPORTER": ("none",),
    "OTEL_LOGS_EXPORTER": ("none",),
    "OTEL_TRACES_SAMPLER": ("always_off", "parentbased_always_off"),
}


@dataclass(frozen=True)
class Target:
    """A backend: where it is, what it says when it is itself, and how an item is found there."""

    place: Place
    signal: Signal
    item: str
    identity: str
    look: Callable[[Probe, str, Headers], bool]


# Of a proxy in front of a backend, such as the stack's gateway.
_GATEWAY_ERRORS: Final = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
_TARGETS: Final = (
    Target(
        TEMPO, Signal.TRACES, "span", "/api/status/buildinfo",
        lambda probe, url, headers: probe.in_tempo(Tempo(url, headers)),
    ),
    Target(
        LOKI, Signal.LOGS, "log record", f"/loki{_BUILD}",
        lambda probe, url, headers: probe.in_loki(Loki(url, headers)),
    ),
    Target(
        PROMETHEUS, Signal.METRICS, "metric", _BUILD,
        lambda probe, url, headers: probe.in_prometheus(Prometheus(url, headers)),
    ),
)  # fmt: skip


class Doctor:
    """One examination: `environ` has the settings, `patience` is in seconds for each backend."""

    def __init__(
        self,
        addresses: Addresses,
        environ: Mapping[str, str],
        *,
        urls: Mapping[Place, str | None],
        headers: Headers,
        key: str | None,
        patience: float,
    ) -> None:
        self._addresses = addresses
        self._environ = environ
        self._urls = {place: addresses.url(place, given) for place, given in urls.items()}
        self._given = {place for place, given in urls.items() if given}
        self._headers = {
            place: addresses.headers(place, url, headers) for place, url in self._urls.items()
        }
        self._key = key
        self._patience = patience
        self._probe = Probe()
        self._clocks = Clocks()

    def examine(self) -> Iterator[Finding]:
        """Yield the finding of each check, in the order of the way."""
        yield from self._settings()
        endpoints = self._endpoints()
        reachable = set()
        for place, finding in self._ports(endpoints):
            if finding.state is State.OK:
                reachable.add(place)
            yield finding
        if SERVICE in reachable:
            yield from self._service()
        identified = yield from self._identify(reachable)
        yield from self._clocks.findings()
        accepted: set[Signal] = set()
        if COLLECTOR in reachable:
            accepted = yield from self._send_all(endpoints)
        for target in _TARGETS:
            if target.place in identified and target.signal in accepted:
                yield self._returned(target)
        if GRAFANA in reachable:
            yield from self._grafana()

    # -- settings, addresses ------------------------------------------------------------

    def _settings(self) -> Iterator[Finding]:
        try:
            load_settings(self._environ)
        except SettingsError as error:
            for problem in error.problems:
                yield Finding("settings", State.FAULT, problem, "correct the variable, or unset it")
        else:
            yield Finding("settings", State.OK, "OTEL_* and CHATSCOPE_* are valid")
        for name, values in _OFF.items():
            if (value := self._environ.get(name, "").strip()).lower() in values:
                text = f"{name}={value}: services with it do not send everything"
                yield Finding("settings", State.WARNING, text, f"unset {name}")

    def _endpoints(self) -> dict[Signal, EndpointSettings]:
        """Return where each signal goes; nothing while the settings are invalid."""
        protocol = self._environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
        fact = "OTLP_HTTP_URL" if protocol == Protocol.HTTP else COLLECTOR.fact
        stack = self._addresses.stack
        # The token of the stack that runs here is for who names no other receiver: a service that
        # does has to have one itself.
        named = any(_is_endpoint(name) and value.strip() for name, value in self._environ.items())
        file = None if named else self._addresses.telemetry_headers_file()
        environ = self._environ
        # Nor the authority of its Collector, if that has TLS.
        if not named and (authority := stack.get("OTLP_CA_FILE")):
            environ = {"OTEL_EXPORTER_OTLP_CERTIFICATE": authority, **environ}
        try:
            return load_endpoints(environ, endpoint=stack.get(fact), headers_file=file)
        except OtlpSettingsError:
            return {}

    def _ports(
        self, endpoints: Mapping[Signal, EndpointSettings]
    ) -> Iterator[tuple[Place, Finding]]:
        for url in dict.fromkeys(_address(endpoint.url) for endpoint in endpoints.values()):
            if is_resolved_by_grpc(url):
                yield COLLECTOR, Finding(COLLECTOR.name, State.OK, f"gRPC resolves {url}")
            else:
                yield COLLECTOR, self._port(COLLECTOR, url)
        for place, url in self._urls.items():
            finding = self._port(place, url)
            if finding.state is State.FAULT and not self._is_required(place):
                finding = Finding(place.name, State.SKIPPED, f"none at {url}")
            yield place, finding

    def _is_required(self, place: Place) -> bool:
        if place in (SERVICE, GRAFANA):
            return place in self._given or self._addresses.is_expected(place)
        return True

    def _port(self, place: Place, url: str) -> Finding:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), _CONNECT_SECONDS).close()
        except OSError as error:
            reason = error.strerror or str(error)
            text = f"nothing listens at {url} ({reason})"
            return Finding(place.name, State.FAULT, text, fixes.of_place(place))
        return Finding(place.name, State.OK, f"listens at {url}")

    # -- the service, the backends ------------------------------------------------------------

    def _service(self) -> Iterator[Finding]:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        backend = Backend(SERVICE.name, self._urls[SERVICE], headers)
        name = "service"
        asked = time.time()
        try:
            ready = backend.request("GET", "/readyz", timeout=_RESPONSE_SECONDS)
            models = backend.request("GET", "/v1/models", timeout=_RESPONSE_SECONDS)
        except CommandError as error:
            yield Finding(name, State.FAULT, str(error), fixes.of_place(SERVICE))
            return
        self._clocks.note(name, asked, models)
        if not ready.ok:
            text = f"/readyz responds with {ready.status_code}"
            fix = "see its log (in a checkout: make logs PART=app)"
            yield Finding(name, State.FAULT, text, fix)
        if models.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text = "it requires an API key, and none is set"
            if self._key:
                text = f"it refuses the API key with {models.status_code}"
            fix = "set CHATSCOPE_API_KEY to a key of its KEYS_FILE"
            yield Finding(name, State.FAULT if self._key else State.WARNING, text, fix)

    def _identify(self, reachable: set[Place]) -> Generator[Finding, None, set[Place]]:
        """Yield what is wrong with backends, and return those that are what they should be."""
        identified = set()
        for target in _TARGETS:
            if target.place in reachable:
                if fault := self._identity(target):
                    yield fault
                else:
                    identified.add(target.place)
        return identified

    def _identity(self, target: Target) -> Finding | None:
        """Return why a backend is not the one that its URL is for; None if it is."""
        place, url = target.place, self._urls[target.place]
        backend = Backend(place.name, url, self._headers[place])
        asked = time.time()
        try:
            response = backend.request("GET", target.identity, timeout=_RESPONSE_SECONDS)
        except CommandError as error:
            return Finding(place.name, State.FAULT, str(error), fixes.of_place(place))
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text = f"{url} requires credentials ({response.status_code})"
            fix = "give them with --header 'Authorization: Bearer TOKEN'"
            return Finding(place.name, State.FAULT, text, fix)
        if response.status_code in _GATEWAY_ERRORS:
            text = f"a gateway answers at {url}, and cannot reach it ({response.status_code})"
            return Finding(place.name, State.FAULT, text, fixes.behind_gateway(place))
        if not response.ok or not _is_json(response.text):
            text = f"another program than {place.name} answers at {url}"
            fix = f"set {place.variable} to where {place.name} is"
            return Finding(place.name, State.FAULT, text, fix)
        self._clocks.note(place.name, asked, response)
        return None

    # -- the way of one span, one log record, one metric ------------------------------------

    def _send_all(
        self, endpoints: Mapping[Signal, EndpointSettings]
    ) -> Generator[Finding, None, set[Signal]]:
        """Send one item of each signal, and return the signals that were accepted."""
        accepted = set()
        for signal, endpoint in endpoints.items():
            finding = self._send(endpoint)
            if finding.state is State.OK:
                accepted.add(signal)
            yield finding
        return accepted

    def _send(self, endpoint: EndpointSettings) -> Finding:
        result = self._probe.send(endpoint)
        name = f"send {endpoint.signal}"
        if result.outcome is Outcome.ACCEPTED and not result.rejected:
            return Finding(name, State.OK, f"accepted by the Collector at {endpoint.url}")
        told = ": ".join(filter(None, (result.error_type, result.message)))
        text = f"the Collector at {endpoint.url} does not accept it ({told})"
        return Finding(name, State.FAULT, text, fixes.of_send(result, endpoint))

    def _returned(self, target: Target) -> Finding:
        """Wait until a backend returns what was sent."""
        place, url = target.place, self._urls[target.place]
        started = time.monotonic()
        reason = ""
        while (waited := time.monotonic() - started) < self._patience:
            try:
                if target.look(self._probe, url, self._headers[place]):
                    text = f"returned the {target.item} after {time.monotonic() - started:.1f} s"
                    return Finding(place.name, State.OK, text)
                reason = ""
            except CommandError as error:
                reason = f"; the last error: {error}"
            time.sleep(_POLL_SECONDS)
        text = (
            f"the Collector has accepted the {target.item}, and {place.name} at {url} has not "
            f"returned it after {waited:.0f} s{reason}"
        )
        return Finding(place.name, State.FAULT, text, fixes.of_delivery(place))

    # -- Grafana ------------------------------------------------------------------------------

    def _grafana(self) -> Iterator[Finding]:
        url = self._urls[GRAFANA]
        backend = Backend(GRAFANA.name, url, self._headers[GRAFANA])
        try:
            health = backend.request("GET", HEALTH, timeout=_RESPONSE_SECONDS)
            if not health.ok or not _is_json(health.text) or "database" not in health.text:
                text = f"another program than Grafana answers at {url}"
                fix = f"set {GRAFANA.variable} to where Grafana is"
                yield Finding("Grafana", State.FAULT, text, fix)
                return
            for uid in DATASOURCES:
                yield self._datasource(backend, uid)
        except CommandError as error:
            yield Finding("Grafana", State.FAULT, str(error), fixes.of_place(GRAFANA))

    def _datasource(self, backend: Backend, uid: str) -> Finding:
        """Return whether links to a datasource work: through Grafana, as a browser asks."""
        path = {
            "prometheus": "/api/v1/query?query=1",
            "loki": "/loki/api/v1/labels",
            "tempo": "/api/echo",
        }[uid]
        response = backend.request("GET", f"/api/datasources/proxy/uid/{uid}{path}")
        name, status = f"link to {uid}", response.status_code
        if response.ok:
            return Finding(name, State.OK, "Grafana's datasource answers")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text = "not checked: Grafana requires a login"
            fix = "give --header 'Authorization: Bearer TOKEN' of a service account"
            return Finding(name, State.SKIPPED, text, fix)
        if status == HTTPStatus.NOT_FOUND:
            text = f"Grafana has no datasource with the UID {uid}"
            fix = (
                "provision grafana-provisioning/datasources/datasources.yaml, and restart Grafana "
                "(in a checkout: make down, make up)"
            )
            return Finding(name, State.FAULT, text, fix)
        text = f"Grafana cannot read from {uid}: it responds with {status}"
        fix = f"correct the URL of the datasource {uid} in Grafana, or start {uid}"
        return Finding(name, State.FAULT, text, fix)


def _is_endpoint(variable: str) -> bool:
    return variable.startswith(PREFIX) and variable.endswith("ENDPOINT")


def _address(endpoint: str) -> str:
    """Return an endpoint without its path."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else endpoint


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))
