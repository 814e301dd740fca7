"""Another service, with its own name and settings, on the stack's Collector."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatscope import names
from dashboards import others
from stack.facts import ROOT
from stack.local_http import local_client
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.chaos.watching import lines_of
from tests.running import PATIENCE_SECONDS, Stack


@dataclass(frozen=True)
class Service:
    """Its service name, the stack's facts with its address, and its process."""

    name: str
    facts: dict[str, str]
    port: int
    pid: int


@contextmanager
def service(stack: Stack, directory: Path, **settings: str) -> Iterator[Service]:
    """Run a service until the end of the block."""
    name = f"service-{uuid.uuid4().hex[:8]}"
    host = stack.facts["STACK_HOST"]
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    facts = {**stack.facts, "APP_URL": f"http://{host}:{port}"}
    environment = {
        **os.environ,
        "PORT": str(port),
        "OTEL_SERVICE_NAME": name,
        **telemetry_variables(stack.facts),
        "TELEMETRY_SPOOL_DIR": str(directory / name),
        **settings,
    }
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        with local_client(facts["APP_URL"]) as client:
            poll_until(
                lambda: client.get("/readyz").is_success, f"{name} to be ready", PATIENCE_SECONDS
            )
        yield Service(name, facts, port, process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def value(stack: Stack, metric: str, service: Service, more: str = "") -> float:
    """Return the sum of a metric of a service."""
    found = stack.backends.prometheus(f'sum({metric}{{service_name="{service.name}"{more}}})')
    return sum(sample.value for sample in found)


def limit_reached(stack: Stack, service: Service, limit: str) -> float:
    """Return how often this limit rejected or cut something."""
    label = names.prometheus_label(names.LIMIT)
    return value(stack, names.LIMIT_REACHED.prometheus, service, f', {label}="{limit}"')


def even(stack: Stack, service: Service) -> bool:
    """Return whether nothing was lost on the way to the backends."""
    for signal in (names.SPAN_METRICS, names.LOG_METRICS):
        lost = ', error_type!=""'
        assert value(stack, signal.processed.prometheus, service, lost) == 0
        assert value(stack, signal.exported.prometheus, service, lost) == 0
    created = value(stack, names.LOG_METRICS.created.prometheus, service)
    assert lines_of(stack, service.name) == created > 0
    started = value(stack, names.SPAN_METRICS.created.prometheus, service)
    assert value(stack, others.SPAN_CALLS.prometheus, service) == started > 0
    return True
