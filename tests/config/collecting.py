"""A Collector with the stack's configuration, and receivers in the place of its backends."""

import http.server
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs

from stack import facts as stack_facts
from stack import secrets as stack_secrets
from stack.waiting import poll_until
from tests.config.files import COLLECTOR
from tests.receiver import ReceivedSpan, Receiver
from tests.running import PATIENCE_SECONDS
from tests.stores import free_ports


def attributes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP's JSON."""
    return [{"key": key, "value": value(each)} for key, each in given.items()]


def value(given: Any) -> dict[str, Any]:
    """Return a value as OTLP's JSON."""
    if isinstance(given, str):
        return {"stringValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, list):
        return {"arrayValue": {"values": [value(each) for each in given]}}
    return {"kvlistValue": {"values": attributes(given)}}


class _Loki(http.server.ThreadingHTTPServer):
    """Records pushed requests."""

    daemon_threads = True

    def __init__(self) -> None:
        self.pushed: list[ResourceLogs] = []
        super().__init__(("127.0.0.1", 0), _Push)


class _Push(http.server.BaseHTTPRequestHandler):
    server: _Loki

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.pushed += ExportLogsServiceRequest.FromString(body).resource_logs
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@dataclass(frozen=True)
class Collected:
    """What a running Collector receives and sends on."""

    facts: Mapping[str, str]
    receiver: Receiver
    loki: _Loki

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans so far."""
        return self.receiver.spans

    @property
    def resource_logs(self) -> list[ResourceLogs]:
        """All log records so far, with their resources."""
        return self.loki.pushed

    @property
    def records(self) -> list[LogRecord]:
        """All log records so far."""
        scopes = [scope for each in self.resource_logs for scope in each.scope_logs]
        return [record for scope in scopes for record in scope.log_records]

    def send(self, bodies: Mapping[str, Any]) -> bool:
        """Post OTLP's JSON by signals; return whether all of it was accepted."""
        headers = stack_secrets.telemetry_headers(self.facts)
        for signal, body in bodies.items():
            url = f"{self.facts['OTLP_HTTP_URL']}/v1/{signal}"
            if not httpx2.post(url, json=body, headers=headers, trust_env=False).is_success:
                return False
        return True

    def metrics(self, containing: str) -> str:
        """Return the exposed metrics, as soon as they contain a text."""
        url = f"http://127.0.0.1:{self.facts['APP_METRICS_PORT']}/metrics"
        headers = stack_secrets.metrics_headers(self.facts)

        def exposed() -> str | None:
            text = httpx2.get(url, headers=headers, trust_env=False).text
            return text if containing in text else None

        return poll_until(exposed, f"{containing} among the metrics", PATIENCE_SECONDS)


@contextmanager
def collecting(program: Path, directory: Path) -> Iterator[Collected]:
    """Run a Collector until the end of the block."""
    with Receiver() as receiver, _Loki() as loki:
        threading.Thread(target=loki.serve_forever, args=(0.05,), daemon=True).start()
        facts = {
            **stack_facts.load({**free_ports(), "STATE_DIR": str(directory)}),
            "LOKI_URL": f"http://127.0.0.1:{loki.server_address[1]}",
            "TEMPO_OTLP_ENDPOINT": receiver.endpoint.removeprefix("http://"),
        }
        stack_secrets.make(facts)
        command: list[Any] = [program, f"--config={COLLECTOR}"]
        with subprocess.Popen(command, env=facts, stderr=subprocess.DEVNULL) as process:
            try:
                yield Collected(facts, receiver, loki)
            finally:
                process.kill()
                loki.shutdown()
