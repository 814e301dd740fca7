"""Time from exec to ready: each component with its own defaults and with our configuration.

In each round the four components start together, as in `make up`, once in each variant. Own
defaults are the minimum that a component starts with: its addresses, its directories, and the
first example of its documentation. Then a whole first start is measured for each way of running:
see bench/first_trace.py.
"""

import argparse
import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from statistics import median
from string import Template
from urllib.parse import urlsplit

import yaml
from rich.table import Table

from bench import first_trace
from stack import facts as stack_facts
from stack import secrets
from stack.native import NativeStack
from stack.parts import PARTS, Part
from stack.terminal import Terminal

# Added to the ports; differs from a running stack and from those of the tests.
_OFFSET = 24_000
_POLL_SECONDS = 0.01
_PATIENCE_SECONDS = 90.0
_OWN_DEFAULTS = {
    "collector": """
        receivers: {otlp: {protocols: {grpc: {endpoint: "${STACK_LISTEN}:${OTLP_GRPC_PORT}"}}}}
        exporters: {otlp_grpc: {endpoint: "${TEMPO_OTLP_ENDPOINT}", tls: {insecure: true}}}
        extensions: {health_check: {endpoint: "${STACK_LISTEN}:${COLLECTOR_HEALTH_PORT}"}}
        service:
          extensions: [health_check]
          telemetry: {metrics: {level: none}}
          pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}
    """,
    "prometheus": "global: {}",
    "loki": """
        auth_enabled: false
        analytics: {reporting_enabled: false}
        server: {http_listen_port: ${LOKI_PORT}, grpc_listen_port: ${LOKI_GRPC_PORT}}
        common:
          instance_addr: 127.0.0.1
          path_prefix: ${DATA_DIR}/loki
          replication_factor: 1
          ring: {kvstore: {store: inmemory}}
          storage:
            filesystem:
              chunks_directory: ${DATA_DIR}/loki/chunks
              rules_directory: ${DATA_DIR}/loki/rules
        schema_config:
          configs:
            - {from: 2025-01-01, store: tsdb, object_store: filesystem, schema: v13,
               index: {prefix: index_, period: 24h}}
    """,
    "tempo": """
        usage_report: {reporting_enabled: false}
        server: {http_listen_port: ${TEMPO_PORT}, grpc_listen_port: ${TEMPO_GRPC_PORT}}
        distributor:
          receivers:
            otlp:
              protocols: {grpc: {transport: unix, endpoint: "${SOCKETS_DIR}/tempo-otlp.sock"}}
        storage:
          trace:
            backend: local
            local: {path: "${DATA_DIR}/tempo/blocks"}
            wal: {path: "${DATA_DIR}/tempo/wal"}
    """,
}
_MEASURED = [part for part in PARTS if part.name in _OWN_DEFAULTS]
# Readiness of Loki and Tempo is checked through it, with our configuration.
[_GATEWAY] = [part for part in PARTS if part.name == "gateway"]


class NotReadyError(RuntimeError):
    """A component exited, or was not ready in time; the text has the end of its log."""


@dataclass(frozen=True)
class Variant:
    """A variant: the command of each component, and their environment."""

    commands: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    # Readiness URLs that differ from ours.
    ready: Mapping[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table of medians, in seconds."""
    console = Terminal()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args(arguments).rounds
    theirs, ours = [], []
    for number in range(1, rounds + 1):
        console.print(f"round {number} of {rounds}")
        theirs.append(_round(_own_defaults))
        ours.append(_round(_our_configuration))
    console.print(_table(theirs, ours))
    first_trace.main(rounds)
    return 0


def _round(make: Callable[[NativeStack], Variant]) -> dict[str, float]:
    """Return each component's seconds until ready, started together on fresh directories."""
    with tempfile.TemporaryDirectory(prefix="chatscope-bench-") as directory:
        environ = {**os.environ, **stack_facts.shifted(_OFFSET), "STATE_DIR": directory}
        stack = NativeStack(stack_facts.load(environ))
        stack.prepare()
        secrets.make(stack.facts)
        variant = make(stack)
        with ThreadPoolExecutor(len(_MEASURED)) as pool, ExitStack() as running:
            if _GATEWAY.name in variant.commands:
                running.enter_context(_started(_GATEWAY, variant, stack.log_dir))
            seconds = {}
            for part in _MEASURED:
                started = time.perf_counter()
                process = running.enter_context(_started(part, variant, stack.log_dir))
                url = variant.ready.get(part.name, part.ready_url).format_map(stack.facts)
                seconds[part] = pool.submit(_seconds_until_ready, url, started, process)
            return {part.name: _result(part, wait, stack) for part, wait in seconds.items()}


def _result(part: Part, seconds: Future[float], stack: NativeStack) -> float:
    try:
        return seconds.result()
    except NotReadyError as error:
        log = stack.log_tail(part.name)
        raise NotReadyError(f"{part.name} {error}; the end of its log:\n{log}") from error


def _our_configuration(stack: NativeStack) -> Variant:
    environment = stack.environment()
    text = (stack_facts.ROOT / "stack" / "process-compose.yaml").read_text()
    processes = yaml.safe_load(text)["processes"]
    commands = {
        part.name: [
            Template(word).substitute(environment) for word in processes[part.name]["entrypoint"]
        ]
        for part in (*_MEASURED, _GATEWAY)
    }
    return Variant(commands, environment)


def _own_defaults(stack: NativeStack) -> Variant:
    environment = stack.environment()
    files = {}
    for name, text in _OWN_DEFAULTS.items():
        files[name] = stack.run_dir / f"{name}.yaml"
        files[name].write_text(Template(text).substitute(environment))
    commands = {
        "collector": [environment["OTELCOL_BIN"], f"--config={files['collector']}"],
        "prometheus": [
            environment["PROMETHEUS_BIN"],
            f"--config.file={files['prometheus']}",
            f"--storage.tsdb.path={stack.facts['DATA_DIR']}/prometheus",
            f"--web.listen-address=:{stack.facts['PROMETHEUS_PORT']}",
        ],
        "loki": [environment["LOKI_BIN"], f"-config.file={files['loki']}"],
        "tempo": [environment["TEMPO_BIN"], f"-config.file={files['tempo']}"],
    }
    return Variant(commands, environment, {"prometheus": "{PROMETHEUS_URL}/-/ready"})


@contextmanager
def _started(part: Part, variant: Variant, log_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (log_dir / f"{part.name}.log").open("a") as log:
        process = subprocess.Popen(
            variant.commands[part.name],
            cwd=variant.environment["SOCKETS_DIR"],
            env=variant.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        # Its data are deleted with the directory: no need for a graceful shutdown.
        process.kill()
        process.wait()


def _seconds_until_ready(url: str, started: float, process: subprocess.Popen[bytes]) -> float:
    while not _answers(url):
        waited = time.perf_counter() - started
        if process.poll() is not None:
            raise NotReadyError(f"exited with code {process.returncode}")
        if waited > _PATIENCE_SECONDS:
            raise NotReadyError(f"was not ready after {waited:.0f} s")
        time.sleep(_POLL_SECONDS)
    return time.perf_counter() - started


def _answers(url: str) -> bool:
    # A minimal client: four of them poll on the cores on which the components start.
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=2.0)
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _table(theirs: Sequence[Mapping[str, float]], ours: Sequence[Mapping[str, float]]) -> Table:
    table = Table(
        "component",
        *("own defaults", "ours", "ratio"),
        title=f"Seconds from exec to ready, median of {len(ours)}",
        box=None,
    )
    names = [part.name for part in _MEASURED]
    rows: list[tuple[str, Callable[[Mapping[str, float]], float]]] = [
        *((name, itemgetter(name)) for name in names),
        ("all four", lambda seconds: max(seconds.values())),
    ]
    for name, value in rows:
        default, mine = median(map(value, theirs)), median(map(value, ours))
        table.add_row(name, f"{default:.2f}", f"{mine:.2f}", f"{default / mine:.1f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
