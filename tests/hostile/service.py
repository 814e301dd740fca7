"""The service started like a user starts it, its OTLP receiver, and raw requests to it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from stack.waiting import poll_until
from tests.receiver import Receiver

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
# Startup takes about a second of CPU; on an overloaded machine more than ten of wall time.
START_SECONDS = 60.0
# Maximum time for any response to an attack.
ANSWER_SECONDS = 30.0
# Shortest export intervals: each attack waits for its record.
_FAST = {
    "OTEL_BSP_SCHEDULE_DELAY": "20",
    "OTEL_BLRP_SCHEDULE_DELAY": "20",
    "SIMULATED_FIRST_TOKEN_SECONDS": "0",
    "SIMULATED_TOKENS_PER_SECOND": "0",
    "SIMULATED_ANSWER_TOKENS": "4",
    "SHUTDOWN_GRACE_SECONDS": "1",
}
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True)
class Answer:
    """One HTTP response: status, headers with lower-case names, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def trace_id(self) -> str:
        """The trace ID of the response's header; empty without one."""
        return self.headers.get("x-trace-id", "")


@dataclass
class Service:
    """A running service, the receiver of its telemetry, and its settings."""

    process: "subprocess.Popen[bytes]"
    receiver: Receiver
    environ: Mapping[str, str]
    console: Path | None = None
    port: int = 0
    stopped: bool = False
    opened: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{HOST}:{self.port}"

    def connect(self) -> socket.socket:
        """Open a TCP connection; it is closed with the service at the latest."""
        client = socket.create_connection((HOST, self.port), ANSWER_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened.append(client)
        return client

    def send(self, data: bytes) -> bytes:
        """Send bytes on a new connection; return all data until it is closed, or until it is silent
        for a moment after a response."""
        with self.connect() as client:
            with suppress(ConnectionError):
                client.sendall(data)
            return read_all(client)

    def ask(self, data: bytes) -> Answer:
        """Send one raw request; return its response."""
        with self.connect() as client:
            client.sendall(data)
            return read_answer(client)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send an ordinary GET request."""
        return self.request("GET", path, headers=headers)

    def chat(self, body: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send an ordinary completion request."""
        merged = {"content-type": "application/json", **(headers or {})}
        return self.request("POST", "/v1/chat/completions", body.encode(), merged)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Answer:
        """Send an ordinary request with a common client."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return _answer(connection.getresponse())
        finally:
            connection.close()

    def text(self) -> str:
        """The console output so far."""
        return self.console.read_text(errors="replace") if self.console else ""

    def workers(self) -> list[psutil.Process]:
        """The worker processes, oldest first."""
        children = psutil.Process(self.process.pid).children()
        return [one for one in children if "spawn_main" in " ".join(one.cmdline())]

    def kill(self) -> None:
        """Kill it and its workers, in any state."""
        for client in self.opened:
            client.close()
        if self.process.poll() is None:
            for one in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class How:
    """Options of the start besides variables: an existing receiver, a command that runs it, a file
    descriptor for its standard output and error."""

    receiver: Receiver | None = None
    inside: Sequence[str] = ()
    console: int | None = None


@contextmanager
def started(directory: Path, how: How | None = None, /, **environ: str) -> Iterator[Service]:
    """Start `python -m app` with these variables, wait until it is ready; kill it at the end."""
    with launched(directory, how, **environ) as service:
        service.port = poll_until(
            lambda: _port(service),
            "the service to be ready",
            START_SECONDS,
            giving_up_on=(EarlyEndError,),
        )
        yield service


@contextmanager
def launched(directory: Path, how: How | None = None, /, **environ: str) -> Iterator[Service]:
    """The same without waiting until it is ready."""
    how = how or How()
    console = directory / "console"
    with Receiver() as own, console.open("wb") as output:
        chosen = how.receiver or own
        stream = output if how.console is None else how.console
        environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "PORT": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": chosen.endpoint,
            # Raw requests of these tests use any host name.
            "ALLOWED_HOSTS": "*",
            # Each attack finds its own record in the log.
            "MAX_REFUSAL_LINES": "1000000",
            **_FAST,
            **environ,
        }
        process = subprocess.Popen(
            [*how.inside, sys.executable, "-m", "app"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
        service = Service(
            process, chosen, environment, None if how.console is not None else console
        )
        try:
            yield service
        finally:
            service.kill()


class EarlyEndError(Exception):
    """The service exited before it was ready."""


def _port(service: Service) -> int | None:
    """Return the service's port once it is ready. Does not depend on the console, which some
    attacks disable."""
    if service.process.poll() is not None:
        raise EarlyEndError(f"exit code {service.process.returncode}:\n{service.text()}")
    for connection in psutil.Process(service.process.pid).net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            service.port = connection.laddr.port
            if service.request("GET", "/readyz", seconds=1.0).status == 200:
                return service.port
    return None


def read_all(client: socket.socket, quiet_seconds: float = 0.3) -> bytes:
    """Return all bytes until the other side closes, or is silent after a response.

    Raises TimeoutError if nothing arrives.
    """
    data = b""
    client.settimeout(ANSWER_SECONDS)
    with suppress(ConnectionError):
        while True:
            try:
                piece = client.recv(65_536)
            except TimeoutError:
                if data:
                    return data
                raise
            if not piece:
                return data
            data += piece
            client.settimeout(quiet_seconds)
    return data


def read_answer(client: socket.socket, method: str = "GET") -> Answer:
    """Return the next response on a connection; further bytes are lost."""
    return next(read_answers(client, method))


def read_answers(client: socket.socket, method: str = "GET") -> Iterator[Answer]:
    """Yield all responses on a connection."""
    client.settimeout(ANSWER_SECONDS)
    with client.makefile("rb") as file:
        while True:
            shared: Any = _Shared(file)
            with closing(http.client.HTTPResponse(shared, method=method)) as response:
                response.begin()
                yield _answer(response)


class _Shared:
    """A file whose `close` does nothing, because its buffer may contain the next response."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def makefile(self, _: str) -> "_Shared":
        return self

    def close(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def stop(service: Service, number: signal.Signals = signal.SIGTERM) -> float:
    """Send the signal and wait for the end; return the seconds that it took."""
    begun = time.monotonic()
    service.process.send_signal(number)
    service.process.wait(START_SECONDS)
    service.stopped = True
    return time.monotonic() - begun
