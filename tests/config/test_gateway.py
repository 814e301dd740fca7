"""The gateway's rules, by Caddy itself, in front of a Tempo that responds to everything."""

import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx2
import pytest

from stack import facts as stack_facts
from stack import secrets
from stack.facts import ROOT
from stack.waiting import poll_until


class _Tempo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def address_string(self) -> str:
        return "gateway"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


@pytest.fixture(scope="module")
def facts(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, str]]:
    """Those of a gateway that runs, with Tempo's socket behind it."""
    caddy = binary("caddy")
    # A path of a socket is short.
    directory = tmp_path_factory.mktemp("gw")
    names = ("GATEWAY_PORT", "LOKI_PORT", "TEMPO_PORT")
    ports = dict(zip(names, map(str, _free_ports(len(names))), strict=True))
    found = stack_facts.load({**ports, "STATE_DIR": str(directory)})
    found = {**found, "SOCKETS_DIR": str(directory), "SECRETS_DIR": str(directory / "secrets")}
    secrets.make(found)
    place = str(directory / f"tempo.sock:{found['TEMPO_PORT']}")
    with socketserver.ThreadingUnixStreamServer(place, _Tempo) as tempo:
        threading.Thread(target=tempo.serve_forever, args=(0.05,), daemon=True).start()
        command = [str(caddy), "run", "--config", str(ROOT / "gateway" / "Caddyfile")]
        environ = {**found, "HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        with subprocess.Popen(command, cwd=directory, env=environ) as process:
            try:
                poll_until(lambda: _ask(found, "/api/echo") == 200, "the gateway to respond", 30)
                yield found
            finally:
                process.terminate()
                tempo.shutdown()


def _ask(facts: Mapping[str, str], path: str, *queries: str) -> int:
    with secrets.backend_client(facts, "TEMPO_URL") as client:
        try:
            return client.get(path, params=[("q", query) for query in queries]).status_code
        except httpx2.TransportError:
            return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "hint",
    [
        "with(exemplars=1000000000)",
        "with ( exemplars /* 1 */ = 0x3B9ACA00 )",
        "with(sample=true,\texemplars=1)",
    ],
)
@pytest.mark.parametrize("path", ["/api/metrics/query", "/api/metrics/query_range"])
def test_hint_that_takes_memory_does_not_reach_tempo(
    facts: Mapping[str, str], path: str, hint: str
) -> None:
    assert _ask(facts, path, f"{{}} | rate() {hint}") == 403
    assert _ask(facts, path, "{} | rate()", f"{{}} | rate() {hint}") == 403


@pytest.mark.slow
def test_other_queries_reach_tempo(facts: Mapping[str, str]) -> None:
    assert _ask(facts, "/api/metrics/query_range", "{} | rate() by (resource.service.name)") == 200
    assert _ask(facts, "/api/metrics/query_range") == 200
    assert _ask(facts, "/api/search", "{ span.exemplars = 5 }") == 200
    assert _ask(facts, "/shutdown") == 403
