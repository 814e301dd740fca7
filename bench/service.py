"""The real service, `python -m app`, in a process of its own."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from stack.facts import ROOT

_START_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.005
# The settings of the caller's environment must not change what is measured.
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: psutil.Process
    port: int
    ready_seconds: float  # from the start of the process to the first response of /readyz
    ready_cpu_seconds: float  # CPU of the process until then


@contextmanager
def running(
    environ: Mapping[str, str], program: Sequence[str] = ("-m", "app")
) -> Iterator[Service]:
    """Run the service with these variables, ready inside; nothing reads its output.

    Raises RuntimeError if it does not become ready.
    """
    port = free_port()
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *program],
        cwd=ROOT,
        env={**kept, **environ, "PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process = psutil.Process(child.pid)
    try:
        while not _is_ready(port):
            if child.poll() is not None:
                raise RuntimeError(f"the service ended with code {child.returncode}")
            if time.perf_counter() - started > _START_SECONDS:
                raise RuntimeError(f"the service was not ready after {_START_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - started
        yield Service(process, port, seconds, cpu_seconds(process))
    finally:
        child.terminate()
        child.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process, all threads."""
    times = process.cpu_times()
    return float(times.user + times.system)


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return the status and body of a GET over a connection of its own. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _is_ready(port: int) -> bool:
    try:
        return get(port, "/readyz")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
