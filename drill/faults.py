"""Faults that a drill injects: context managers that yield, once broken, the repair function."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from app.settings import SIMULATED_MODEL
from demo.clients import Conversation, HttpClient, Message, RequestError
from drill.target import Target
from stack.facts import ROOT
from stack.local_http import local_client
from stack.secrets import telemetry_variables
from stack.waiting import poll_until

Repair = Callable[[], None]
Fault = Callable[[Target], AbstractContextManager[Repair]]

_READY_SECONDS: Final = 30.0
_END_SECONDS: Final = 15.0
_TOKENS: Final = 10
_DEFAULTS: Final = {
    "SIMULATED_ANSWER_TOKENS": str(_TOKENS),
    # Shut down without waiting for responses in progress.
    "SHUTDOWN_GRACE_SECONDS": "0",
}
_QUESTION: Final[list[Message]] = [{"role": "user", "content": "Is this a drill?"}]
# Number of simulated users, and their pause between two requests.
_USERS: Final = 4
_PAUSE_SECONDS: Final = 0.5
_SOCKETS: Final = 10


class Service:
    """Another app on a free port, with its own name, that sends to the target's Collector."""

    def __init__(self, target: Target, name: str) -> None:
        host = target.facts["STACK_HOST"]
        with socket.create_server((host, 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://{host}:{self._port}"
        self._log = Path(target.facts["STATE_DIR"]) / "logs" / f"{name}.log"
        self._environment = {
            **os.environ,
            **_DEFAULTS,
            "PORT": str(self._port),
            "OTEL_SERVICE_NAME": name,
            **telemetry_variables(target.facts),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Mapping[str, str]) -> None:
        """Start it, or restart it with other settings, and wait until it is ready."""
        self.stop()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app"],
                cwd=ROOT,
                env={**self._environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        with local_client(self.url) as client:
            poll_until(
                lambda: client.get("/readyz").is_success, f"{self.url} to be ready", _READY_SECONDS
            )

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def misconfigured(name: str, settings: Callable[[Target], Mapping[str, str]]) -> Fault:
    """Return a fault: a service under load with faulty settings, repaired by a restart without."""

    @contextmanager
    def fault(target: Target) -> Iterator[Repair]:
        service = Service(target, name)
        try:
            service.start(settings(target))
            with _load(service.url):
                yield lambda: service.start({})
        finally:
            service.stop()

    return fault


@contextmanager
def _load(url: str) -> Iterator[None]:
    """Send requests from several threads."""
    done = threading.Event()

    def ask() -> None:
        client = HttpClient(url)
        while not done.wait(_PAUSE_SECONDS):
            try:
                client.stream(_QUESTION, SIMULATED_MODEL)
            except RequestError:
                # The injected fault, or the service is being restarted.
                continue
        client.close()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(_USERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(_END_SECONDS)


def failing(target: Target) -> dict[str, str]:
    return {"SIMULATED_ERROR_RATE": "1"}


def stalling(target: Target) -> dict[str, str]:
    seconds = target.objectives.thresholds.stall_seconds
    return {"SIMULATED_STALL_RATE": "1", "SIMULATED_STALL_SECONDS": f"{1.1 * seconds:g}"}


def expensive(target: Target) -> dict[str, str]:
    """Return prices with which a single response costs the daily budget."""
    dollars = target.objectives.cost.daily_usd / _TOKENS
    prices = {SIMULATED_MODEL: {"prompt": 0, "completion": dollars * 1_000_000}}
    table = Path(target.facts["STATE_DIR"]) / "run" / "expensive.json"
    table.write_text(json.dumps(prices))
    return {"PRICES_FILE": str(table)}


def flooded(name: str) -> Fault:
    """Return a fault: all WebSocket connections of a service are open; repaired by closing them."""

    @contextmanager
    def fault(target: Target) -> Iterator[Repair]:
        service = Service(target, name)
        try:
            service.start({"MAX_CONNECTIONS": str(_SOCKETS)})
            with ExitStack() as sockets:
                for _ in range(_SOCKETS):
                    sockets.enter_context(Conversation(service.url))
                yield sockets.close
        finally:
            service.stop()

    return fault


@contextmanager
def app_killed(target: Target) -> Iterator[Repair]:
    target.kill("app")
    yield lambda: target.start("app")


def stopped(component: str) -> Fault:
    """Return a fault: a component is stopped; repaired by starting it."""

    @contextmanager
    def fault(target: Target) -> Iterator[Repair]:
        target.stop(component)
        yield lambda: target.start(component)

    return fault
