"""The files in deploy/: their additions to the stack, without removing anything.

The scaled stack, which replaces components, has its own tests: test_scale_compose.py.
"""

import gzip
import http.server
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from stack import facts as stack_facts
from stack.facts import ROOT
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.config.files import COLLECTOR, SCALE_COMPOSE, broken_copy, parsed
from tests.running import PATIENCE_SECONDS
from tests.stores import prepare
from tests.unit.otlp.servers import make_certificates

_DEPLOY = ROOT / "deploy"
_OVERLAYS = sorted(_DEPLOY.glob("*.collector.yaml"))
_COMPOSE = sorted(set(_DEPLOY.glob("*.compose.yaml")) - {SCALE_COMPOSE})
# Port offset; differs from user stacks and from those of the other tests.
_OFFSET = 6_500
_SECRET = "sk-" + "canary0123456789abcdef"
_SENT = {
    "traces": {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "1" * 32,
                                "spanId": "1" * 16,
                                "name": f"sent on {_SECRET}",
                                "startTimeUnixNano": "1",
                                "endTimeUnixNano": "2",
                            }
                        ]
                    }
                ]
            }
        ]
    },
    "logs": {
        "resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": _SECRET}}]}]}]
    },
    "metrics": {
        "resourceMetrics": [
            {
                "scopeMetrics": [
                    {
                        "metrics": [
                            {
                                "name": "sent_on",
                                "gauge": {
                                    "dataPoints": [
                                        {
                                            "timeUnixNano": "1",
                                            "asInt": "1",
                                            "attributes": [
                                                {"key": "a", "value": {"stringValue": _SECRET}}
                                            ],
                                        }
                                    ]
                                },
                            }
                        ]
                    }
                ]
            }
        ]
    },
}


@dataclass(frozen=True)
class Request:
    """A request to the endpoint that everything is forwarded to."""

    path: str
    authorization: str
    has_secret: bool


@pytest.fixture
def environment(stack_env: Mapping[str, str], tmp_path: Path) -> dict[str, str]:
    ports = stack_facts.shifted(_OFFSET, {})
    facts = stack_facts.load({**ports, "STATE_DIR": str(tmp_path)})
    prepare(facts)
    certificates = make_certificates(tmp_path)
    return {
        **facts,
        "FORWARD_OTLP_URL": "http://127.0.0.1:9",
        "FORWARD_OTLP_AUTHORIZATION": "",
        "OTLP_TLS_CERT_FILE": str(certificates.server),
        "OTLP_TLS_KEY_FILE": str(certificates.server_key),
    }


@pytest.fixture
def overlay(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the overlay, with a directory instead of one that exists in the container only."""
    path: Path = request.param
    if "/hostfs" in path.read_text():
        return broken_copy(path, tmp_path, "/hostfs", str(tmp_path))
    return path


@pytest.mark.parametrize("overlay", _OVERLAYS, indirect=True, ids=lambda path: path.name)
def test_overlay_leaves_every_pipeline_whole_and_its_own_are_whole(
    overlay: Path, binary: Callable[[str], Path], environment: dict[str, str]
) -> None:
    merged = _print_config(binary("otelcol"), environment, overlay)["service"]["pipelines"]
    base = parsed(COLLECTOR)["service"]["pipelines"]
    assert {name: merged[name] for name in base} == base
    for name in set(merged) - set(base):
        assert merged[name]["processors"][0] == "memory_limiter"
        assert merged[name]["receivers"]
        assert merged[name]["exporters"]


def test_overlay_that_replaces_a_list_is_found(
    binary: Callable[[str], Path], environment: dict[str, str], tmp_path: Path
) -> None:
    """The behaviour of the Collector that the test above guards against."""
    path = tmp_path / "replacing.yaml"
    path.write_text("service: {pipelines: {logs: {exporters: [otlp_grpc/tempo]}}}")
    merged = _print_config(binary("otelcol"), environment, path)["service"]["pipelines"]
    assert merged["logs"]["exporters"] == ["otlp_grpc/tempo"]


def test_forwarded_signals_reach_the_other_endpoint_with_its_key_and_without_secrets(
    binary: Callable[[str], Path], environment: dict[str, str]
) -> None:
    with _endpoint() as (url, arrived):
        environ = {**environment, "FORWARD_OTLP_URL": url, "FORWARD_OTLP_AUTHORIZATION": "Bearer k"}
        with _collector(binary("otelcol"), environ, _DEPLOY / "forward.collector.yaml"):
            for signal, body in _SENT.items():
                address = f"{environ['OTLP_HTTP_URL']}/v1/{signal}"
                headers = telemetry_headers(environ)
                answer = httpx2.post(
                    address, json=body, headers=headers, trust_env=False, timeout=30
                )
                answer.raise_for_status()
            seen = {arrived.get(timeout=PATIENCE_SECONDS) for _ in _SENT}
    assert seen == {Request(f"/v1/{signal}", "Bearer k", has_secret=False) for signal in _SENT}


@pytest.mark.parametrize("path", _COMPOSE, ids=lambda path: path.name)
def test_compose_overlay_that_adds_to_a_command_leaves_nothing_out(path: Path) -> None:
    """Compose merges most lists, but replaces a command."""
    base = parsed(ROOT / "docker-compose.yml")["services"]
    for name, service in _services(path).items():
        if "command" in service:
            assert set(base[name]["command"]) <= set(service["command"])


@pytest.mark.parametrize("path", _COMPOSE, ids=lambda path: path.name)
def test_compose_overlay_names_only_services_and_files_that_there_are(path: Path) -> None:
    base = parsed(ROOT / "docker-compose.yml")["services"]
    services = _services(path)
    assert set(services) <= set(base)
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("path", _COMPOSE, ids=lambda path: path.name)
def test_checkout_looks_at_the_files_that_an_overlay_adds(path: Path) -> None:
    added = {
        name: {volume["source"] for volume in service.get("volumes", []) if "bind" in volume}
        for name, service in _services(path).items()
    }
    assert set().union(*added.values()) == added.get("checkout", set())


def _services(path: Path) -> Any:
    # Compose's own tag, which a plain YAML loader does not know.
    return yaml.safe_load(path.read_text().replace("!reset ", ""))["services"]


def _print_config(program: Path, environ: Mapping[str, str], overlay: Path) -> Any:
    words = ["print-config", "--mode", "unredacted", "--format", "json"]
    done = subprocess.run(
        [program, *words, f"--config={COLLECTOR}", f"--config={overlay}"],
        env=dict(environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def _collector(program: Path, environ: Mapping[str, str], overlay: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [program, f"--config={COLLECTOR}", f"--config={overlay}"],
        env={**os.environ, **environ},
        stderr=subprocess.DEVNULL,
    )
    try:
        poll_until(
            lambda: (
                httpx2.get(environ["COLLECTOR_HEALTH_URL"], trust_env=False, timeout=30).is_success
            ),
            "the Collector with the overlay to be ready",
            PATIENCE_SECONDS,
        )
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _endpoint() -> Iterator[tuple[str, "queue.Queue[Request]"]]:
    arrived: queue.Queue[Request] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            has_secret = _SECRET.encode() in body
            arrived.put(Request(self.path, self.headers["authorization"], has_secret))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", arrived
        finally:
            server.shutdown()
            thread.join()
