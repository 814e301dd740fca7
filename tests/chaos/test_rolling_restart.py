"""Replicas behind a load balancer are restarted one after another under load: no response is lost,
and no telemetry of one."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

from chatscope import names
from drill.webhook import serving
from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import binary_path
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import WAYS, Turn
from tests.store_server import needs_store, store_server
from tests.stores import free_port

_NAME = "test-rolling-restart"
_LINES = f'{{service_name="{_NAME}"}} |= "answer completed"'
_CLIENTS = 6
_BALANCER = """\
{{
	admin off
	auto_https off
	persist_config off
}}
http://:{port} {{
	bind 127.0.0.1
	reverse_proxy {replicas} {{
		lb_policy round_robin
		lb_try_duration 10s
		health_uri /
		health_port {health_port}
		health_interval 100ms
	}}
}}
"""
# Several intervals of the health check.
_NOTICED_SECONDS = 1.0

pytestmark = needs_store


class _Replica:
    def __init__(self, stack: Stack, directory: Path, store: str, host: str) -> None:
        self.host = host
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self._environ = {
            **os.environ,
            "HOST": host,
            "PORT": str(self.port),
            "OTEL_SERVICE_NAME": _NAME,
            **telemetry_variables(stack.facts),
            "TELEMETRY_SPOOL_DIR": str(directory / str(self.port)),
            "SHARED_STORE_URL": store,
        }
        self._log = directory / f"{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app"], cwd=ROOT, env=self._environ, stdout=log, stderr=log
            )
        with local_client(self.url) as client:
            poll_until(lambda: client.get("/readyz").is_success, "a replica", PATIENCE_SECONDS)

    def stop(self) -> int:
        """Stop it by SIGTERM; return its exit code."""
        process = self._process
        if process is None:
            return 0
        process.terminate()
        return process.wait(PATIENCE_SECONDS)


class _Balancer:
    """A real load balancer, from which replicas are removed before they stop, as
    docs/scaling.md asks: it asks this test whether it may send requests to a replica."""

    def __init__(self, directory: Path, replicas: list[_Replica]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._directory = directory
        self._replicas = replicas
        # The port of the health checks is the same for all; the addresses differ.
        self._health_port = free_port()
        self._removed: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run until the end of the block."""
        file = self._directory / "Caddyfile"
        file.write_text(
            _BALANCER.format(
                port=self.url.rpartition(":")[2],
                replicas=" ".join(f"{each.host}:{each.port}" for each in self._replicas),
                health_port=self._health_port,
            )
        )
        with ExitStack() as running:
            for replica in self._replicas:
                server = ThreadingHTTPServer((replica.host, self._health_port), self._handler())
                running.enter_context(server)
                running.enter_context(serving(server))
            log = running.enter_context((self._directory / "balancer.log").open("wb"))
            process = subprocess.Popen(
                [binary_path("caddy"), "run", "--config", file], stdout=log, stderr=log
            )
            running.callback(process.wait, PATIENCE_SECONDS)
            running.callback(process.terminate)
            with local_client(self.url) as client:
                poll_until(
                    lambda: client.get("/readyz").is_success, "the load balancer", PATIENCE_SECONDS
                )
            yield

    @contextmanager
    def without(self, removed: _Replica) -> Iterator[None]:
        """Send no new requests to a replica until the end of the block."""
        self._removed = {removed.host}
        time.sleep(_NOTICED_SECONDS)
        yield
        self._removed = set()
        time.sleep(_NOTICED_SECONDS)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        balancer = self

        class Health(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host = str(self.connection.getsockname()[0])
                self.send_response(503 if host in balancer._removed else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Health


class _Load:
    """Clients that send requests without a pause, by HTTP and by SSE."""

    def __init__(self, url: str) -> None:
        self._facts = {"APP_URL": url}
        self._over = threading.Event()
        self.turns: list[Turn] = []
        self.failures: list[str] = []

    def run(self) -> None:
        for way in cycle((WAYS["http"], WAYS["sse"])):
            if self._over.is_set():
                return
            try:
                self.turns.append(way(self._facts))
            except Exception as error:
                self.failures.append(repr(error))

    @contextmanager
    def going_on(self) -> Iterator[None]:
        clients = [threading.Thread(target=self.run) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._over.set()
            for client in clients:
                client.join()

    def sends_more(self) -> None:
        """Wait for as many further responses as there are clients, twice."""
        wanted = len(self.turns) + len(self.failures) + 2 * _CLIENTS
        poll_until(
            lambda: len(self.turns) + len(self.failures) >= wanted, "responses", PATIENCE_SECONDS
        )


def test_rolling_restart_loses_no_response_and_no_item(stack: Stack, tmp_path: Path) -> None:
    with ExitStack() as everything:
        store = everything.enter_context(store_server())
        replicas = [
            _Replica(stack, tmp_path, store.url, host) for host in ("127.0.0.2", "127.0.0.3")
        ]
        for replica in replicas:
            everything.callback(replica.stop)
            replica.start()
        balancer = _Balancer(tmp_path, replicas)
        everything.enter_context(balancer.running())
        load = _Load(balancer.url)
        with load.going_on():
            load.sends_more()
            for _ in range(2):
                for replica in replicas:
                    with balancer.without(replica):
                        assert replica.stop() == 0
                        load.sends_more()
                        replica.start()
                    load.sends_more()
    assert load.failures == []
    texts = {turn.text for turn in load.turns}
    assert len(texts) == 1, texts
    traces = {turn.trace_id for turn in load.turns}
    assert len(traces) == len(load.turns)

    def recorded() -> bool:
        lines = stack.backends.loki(_LINES, limit=5000)
        return {each.metadata["trace_id"] for each in lines} == traces

    poll_until(recorded, "one log record of each response", PATIENCE_SECONDS)
    for trace_id in traces:
        poll_until(
            partial(stack.backends.tempo_trace, trace_id), "each trace in Tempo", PATIENCE_SECONDS
        )
    for metric in (names.SPANS_PROCESSED, names.LOGS_PROCESSED):
        assert stack.counted(f'{metric.prometheus}{{service_name="{_NAME}"}}') > 0
        assert stack.counted(f'{metric.prometheus}{{service_name="{_NAME}",error_type!=""}}') == 0
