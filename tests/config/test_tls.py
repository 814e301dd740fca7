"""Telemetry over TLS: a real Collector with a certificate, and senders with and without its
authority."""

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx2
import pytest

from ledger import otlp
from stack import facts as stack_facts
from stack.facts import FactsError
from stack.secrets import telemetry_headers, telemetry_variables
from stack.waiting import poll_until
from tests.config.files import COLLECTOR
from tests.running import PATIENCE_SECONDS
from tests.stores import prepare
from tests.unit.otlp.servers import Certificates, make_certificates

_OFFSET = 6_700
_LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "on"}}]}]}]}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _facts(certificates: Certificates, directory: Path, **more: str) -> dict[str, str]:
    said = {
        "STATE_DIR": str(directory),
        "OTLP_TLS_CERT_FILE": str(certificates.server),
        "OTLP_TLS_KEY_FILE": str(certificates.server_key),
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificates.authority),
        **more,
    }
    return stack_facts.load({**said, **stack_facts.shifted(_OFFSET, {})})


@contextmanager
def _collector(program: Path, facts: Mapping[str, str]) -> Iterator[None]:
    prepare(dict(facts))
    # As stack/process-compose.yaml starts it.
    process = subprocess.Popen(
        [program, f"--config={COLLECTOR}", f"--config={facts['COLLECTOR_OVERLAY']}"],
        env={**os.environ, **facts},
        stderr=subprocess.DEVNULL,
    )
    try:
        poll_until(
            lambda: (
                httpx2.get(facts["COLLECTOR_HEALTH_URL"], trust_env=False, timeout=30).is_success
            ),
            "the Collector to be ready",
            PATIENCE_SECONDS,
        )
        yield
    finally:
        process.kill()
        process.wait()


def _post(facts: Mapping[str, str], context: ssl.SSLContext) -> int:
    url = f"{facts['OTLP_HTTP_URL']}/v1/logs"
    headers = telemetry_headers(facts)
    answer = httpx2.post(
        url, json=_LOGS, headers=headers, verify=context, trust_env=False, timeout=30
    )
    return answer.status_code


def _grpc(facts: Mapping[str, str], authority: Path) -> None:
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    address = facts["OTLP_URL"].removeprefix("https://")
    with grpc.secure_channel(address, credentials) as channel:
        sender = otlp.Sender(channel, tuple(telemetry_headers(facts).items()))
        sender.begin(otlp.lines("tls", otlp.line("on"))).result(timeout=PATIENCE_SECONDS)


def test_collector_receives_over_tls_only(
    binary: Callable[[str], Path], certificates: Certificates, tmp_path: Path
) -> None:
    facts = _facts(certificates, tmp_path)
    known = ssl.create_default_context(cafile=str(certificates.authority))
    with _collector(binary("otelcol"), facts):
        assert _post(facts, known) == 200
        _grpc(facts, certificates.authority)
        # The token is asked for all the same.
        url = f"{facts['OTLP_HTTP_URL']}/v1/logs"
        assert httpx2.post(url, json=_LOGS, verify=known, trust_env=False).status_code == 401
        with pytest.raises(httpx2.ConnectError):
            _post(facts, ssl.create_default_context())
        # In one piece: what Go has not read when it closes resets the connection.
        plain = facts["OTLP_HTTP_URL"].replace("https", "http")
        assert httpx2.get(plain, trust_env=False, timeout=30).status_code == 400


def test_sender_without_a_certificate_is_refused_where_one_is_asked_for(
    binary: Callable[[str], Path], certificates: Certificates, tmp_path: Path
) -> None:
    facts = _facts(certificates, tmp_path, OTLP_TLS_CLIENT_CA_FILE=str(certificates.authority))
    context = ssl.create_default_context(cafile=str(certificates.authority))
    with _collector(binary("otelcol"), facts):
        with pytest.raises(httpx2.TransportError):
            _post(facts, context)
        context.load_cert_chain(certificates.client, certificates.client_key)
        assert _post(facts, context) == 200


def test_senders_of_the_stack_use_tls_and_know_the_authority(
    certificates: Certificates, tmp_path: Path
) -> None:
    facts = _facts(certificates, tmp_path)
    variables = telemetry_variables(facts)
    assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"].startswith("https://127.0.0.1:")
    assert variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] == str(certificates.authority)
    alone = _facts(certificates, tmp_path, OTEL_EXPORTER_OTLP_CERTIFICATE="")
    assert alone["OTLP_CA_FILE"] == str(certificates.server)


def test_without_a_certificate_nothing_changes() -> None:
    facts = stack_facts.load({})
    assert facts["OTLP_URL"].startswith("http://")
    assert facts["COLLECTOR_OVERLAY"] == str(COLLECTOR)
    assert facts["OTLP_CA_FILE"] == ""


def test_half_a_certificate_aborts_the_start(certificates: Certificates) -> None:
    with pytest.raises(FactsError, match="give both, or neither"):
        stack_facts.load({"OTLP_TLS_CERT_FILE": str(certificates.server)})
    with pytest.raises(FactsError, match="a file that can be read"):
        stack_facts.load({"OTLP_TLS_CERT_FILE": "/nope", "OTLP_TLS_KEY_FILE": "/nope"})
