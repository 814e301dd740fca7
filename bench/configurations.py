"""Configurations of the four backends that benchmarks compare, and their processes.

`ours` is that of this repository; `own_defaults` the minimum that a component starts with: its
addresses, its directories, and the first example of its documentation; `lgtm` has the settings of
https://github.com/grafana/docker-otel-lgtm, except that batches are made by the exporters, because
our Collector lacks the batch processor, and that nobody scrapes the Collector each second.
"""

import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlsplit

import yaml

from bench.service import free_port
from stack import facts as stack_facts
from stack import secrets
from stack.native import NativeStack
from stack.parts import PARTS, Part

# Added to the ports; differs from a running stack and from those of the tests, and stays below the
# ports of outgoing connections.
OFFSET: Final = 19_400
_POLL_SECONDS: Final = 0.01
_PATIENCE_SECONDS: Final = 90.0
_NAMES: Final = ("collector", "prometheus", "loki", "tempo")
BACKENDS: Final = [part for part in PARTS if part.name in _NAMES]
# Readiness of Loki and Tempo is checked through it, with our configuration.
[_GATEWAY] = [part for part in PARTS if part.name == "gateway"]
_OWN_DEFAULTS: Final = {
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
_LGTM: Final = {
    "collector": """
        receivers: {otlp: {protocols: {grpc: {endpoint: "${STACK_LISTEN}:${OTLP_GRPC_PORT}"}}}}
        exporters:
          otlp_http/metrics: {endpoint: "${PROMETHEUS_URL}/api/v1/otlp", sending_queue: &queue {
            batch: {flush_timeout: 200ms, min_size: 8192, sizer: items}}}
          otlp_http/traces: {endpoint: "http://127.0.0.1:${TEMPO_HTTP}", sending_queue: *queue}
          otlp_http/logs: {endpoint: "http://127.0.0.1:${LOKI_PORT}/otlp", sending_queue: *queue}
        extensions: {health_check: {endpoint: "${STACK_LISTEN}:${COLLECTOR_HEALTH_PORT}"}}
        service:
          extensions: [health_check]
          telemetry: {metrics: {level: none}}
          pipelines:
            traces: {receivers: [otlp], exporters: [otlp_http/traces]}
            metrics: {receivers: [otlp], exporters: [otlp_http/metrics]}
            logs: {receivers: [otlp], exporters: [otlp_http/logs]}
    """,
    "prometheus": """
        global: {scrape_native_histograms: true}
        otlp:
          keep_identifying_resource_attributes: true
          promote_resource_attributes: [service.instance.id, service.name, service.version]
        storage: {tsdb: {out_of_order_time_window: 10m}}
    """,
    "loki": _OWN_DEFAULTS["loki"],
    "tempo": """
        usage_report: {reporting_enabled: false}
        server: {http_listen_port: ${TEMPO_PORT}, grpc_listen_port: ${TEMPO_GRPC_PORT}}
        distributor:
          receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:${TEMPO_HTTP}"}}}}
        memberlist: {bind_addr: [127.0.0.1], bind_port: ${TEMPO_MEMBERS}}
        querier: {frontend_worker: {frontend_address: "127.0.0.1:${TEMPO_GRPC_PORT}"}}
        storage:
          trace:
            backend: local
            local: {path: "${DATA_DIR}/tempo/blocks"}
            wal: {path: "${DATA_DIR}/tempo/wal"}
        metrics_generator:
          processor: {span_metrics: {dimensions: [service_name, operation, status_code]}}
          storage:
            path: ${DATA_DIR}/tempo/generator
            remote_write: [{url: "${PROMETHEUS_URL}/api/v1/write", send_exemplars: true}]
        overrides: {defaults: {metrics_generator: {processors: [service-graphs, span-metrics]}}}
    """,
}
_LGTM_FLAGS: Final = (
    "--web.enable-remote-write-receiver",
    "--web.enable-otlp-receiver",
    "--enable-feature=exemplar-storage",
)


class NotReadyError(RuntimeError):
    """A component exited, or was not ready in time; the text has the end of its log."""


@dataclass(frozen=True)
class Configuration:
    """The command of each component, and their environment."""

    commands: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    # Readiness URLs that differ from ours.
    ready: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def fresh_stack() -> Iterator[NativeStack]:
    """Yield a stack that does not run, with directories, secrets and ports of its own."""
    with tempfile.TemporaryDirectory(prefix="chatscope-bench-") as directory:
        environ = {**os.environ, **stack_facts.shifted(OFFSET), "STATE_DIR": directory}
        stack = NativeStack(stack_facts.load(environ))
        stack.prepare()
        secrets.make(stack.facts)
        yield stack


def ours(stack: NativeStack) -> Configuration:
    """Return the configuration of this repository."""
    environment = stack.environment()
    text = (stack_facts.ROOT / "stack" / "process-compose.yaml").read_text()
    processes = yaml.safe_load(text)["processes"]
    commands = {
        part.name: [
            Template(word).substitute(environment) for word in processes[part.name]["entrypoint"]
        ]
        for part in (*BACKENDS, _GATEWAY)
    }
    return Configuration(commands, environment)


def own_defaults(stack: NativeStack) -> Configuration:
    """Return the minimum that each component starts with."""
    return _of_files(stack, _OWN_DEFAULTS, stack.environment())


def lgtm(stack: NativeStack) -> Configuration:
    """Return the settings of otel-lgtm."""
    ports = {"TEMPO_HTTP": str(free_port()), "TEMPO_MEMBERS": str(free_port())}
    return _of_files(stack, _LGTM, {**stack.environment(), **ports}, _LGTM_FLAGS)


def _of_files(
    stack: NativeStack,
    texts: Mapping[str, str],
    environment: Mapping[str, str],
    flags: Sequence[str] = (),
) -> Configuration:
    files = {}
    for name, text in texts.items():
        files[name] = stack.run_dir / f"{name}.yaml"
        files[name].write_text(Template(text).substitute(environment))
    commands = {
        "collector": [environment["OTELCOL_BIN"], f"--config={files['collector']}"],
        "prometheus": [
            environment["PROMETHEUS_BIN"],
            f"--config.file={files['prometheus']}",
            f"--storage.tsdb.path={stack.facts['DATA_DIR']}/prometheus",
            f"--web.listen-address=:{stack.facts['PROMETHEUS_PORT']}",
            *flags,
        ],
        "loki": [environment["LOKI_BIN"], f"-config.file={files['loki']}"],
        "tempo": [environment["TEMPO_BIN"], f"-config.file={files['tempo']}"],
    }
    return Configuration(commands, environment, {"prometheus": "{PROMETHEUS_URL}/-/ready"})


@dataclass(frozen=True)
class Running:
    """A component that is ready."""

    pid: int
    seconds: float  # from exec to ready


@contextmanager
def running(stack: NativeStack, configuration: Configuration) -> Iterator[dict[str, Running]]:
    """Start the backends together; yield them by name, all of them ready.

    Raises NotReadyError.
    """
    with ThreadPoolExecutor(len(BACKENDS)) as pool, ExitStack() as processes:
        if _GATEWAY.name in configuration.commands:
            processes.enter_context(_started(_GATEWAY, configuration, stack.log_dir))
        waits = {}
        for part in BACKENDS:
            started = time.perf_counter()
            process = processes.enter_context(_started(part, configuration, stack.log_dir))
            url = configuration.ready.get(part.name, part.ready_url).format_map(stack.facts)
            seconds = pool.submit(_seconds_until_ready, url, started, process)
            waits[part.name] = process, seconds
        found = {}
        for name, (process, seconds) in waits.items():
            try:
                found[name] = Running(process.pid, seconds.result())
            except NotReadyError as error:
                log = stack.log_tail(name)
                raise NotReadyError(f"{name} {error}; the end of its log:\n{log}") from error
        yield found


@contextmanager
def _started(
    part: Part, configuration: Configuration, log_dir: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with (log_dir / f"{part.name}.log").open("a") as log:
        process = subprocess.Popen(
            configuration.commands[part.name],
            cwd=configuration.environment["SOCKETS_DIR"],
            env=configuration.environment,
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
