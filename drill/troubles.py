"""How a thing is broken for real, and mended: each yields, broken, what mends it."""

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
from demo.asking import AskError, Conversation, HttpClient, Message
from drill.ground import Ground
from stack.facts import ROOT
from stack.local_http import local_client
from stack.secrets import telemetry_variables
from stack.waiting import poll_until

Mend = Callable[[], None]
Trouble = Callable[[Ground], AbstractContextManager[Mend]]

_READY_SECONDS: Final = 30.0
_END_SECONDS: Final = 15.0
_TOKENS: Final = 10
_USUAL: Final = {
    "SIMULATED_ANSWER_TOKENS": str(_TOKENS),
    # None of its answers is to be waited for at its end.
    "SHUTDOWN_GRACE_SECONDS": "0",
}
_QUESTION: Final[list[Message]] = [{"role": "user", "content": "Is this a drill?"}]
# Who ask, again and again, and how long each of them waits in between.
_PEOPLE: Final = 4
_PAUSE_SECONDS: Final = 0.5
_SOCKETS: Final = 10


class Service:
    """One more app on a free port, with a name of its own, that sends to the ground's Collector."""

    def __init__(self, ground: Ground, name: str) -> None:
        host = ground.facts["STACK_HOST"]
        with socket.create_server((host, 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://{host}:{self._port}"
        self._log = Path(ground.facts["STATE_DIR"]) / "logs" / f"{name}.log"
        self._environment = {
            **os.environ,
            **_USUAL,
            "PORT": str(self._port),
            "OTEL_SERVICE_NAME": name,
            **telemetry_variables(ground.facts),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Mapping[str, str]) -> None:
        """In place of the one that runs; returns when it is ready."""
        self.end()
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

    def end(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def asked(name: str, settings: Callable[[Ground], Mapping[str, str]]) -> Trouble:
    """A service with these settings that people ask; mended by a start without them."""

    @contextmanager
    def trouble(ground: Ground) -> Iterator[Mend]:
        service = Service(ground, name)
        try:
            service.start(settings(ground))
            with _people(service.url):
                yield lambda: service.start({})
        finally:
            service.end()

    return trouble


@contextmanager
def _people(url: str) -> Iterator[None]:
    over = threading.Event()

    def ask() -> None:
        client = HttpClient(url)
        while not over.wait(_PAUSE_SECONDS):
            try:
                client.stream(_QUESTION, SIMULATED_MODEL)
            except AskError:
                # That is what it is about, or it is just being started again.
                continue
        client.close()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(_PEOPLE)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(_END_SECONDS)


def failing(ground: Ground) -> dict[str, str]:
    return {"SIMULATED_ERROR_RATE": "1"}


def stalling(ground: Ground) -> dict[str, str]:
    seconds = ground.wanted.thresholds.stall_seconds
    return {"SIMULATED_STALL_RATE": "1", "SIMULATED_STALL_SECONDS": f"{1.1 * seconds:g}"}


def dear(ground: Ground) -> dict[str, str]:
    """A few answers cost what a day may."""
    dollars = ground.wanted.cost.daily_usd / _TOKENS
    prices = {SIMULATED_MODEL: {"prompt": 0, "completion": dollars * 1_000_000}}
    table = Path(ground.facts["STATE_DIR"]) / "run" / "dear.json"
    table.write_text(json.dumps(prices))
    return {"PRICES_FILE": str(table)}


def flooded(name: str) -> Trouble:
    """A service all of whose few sockets are open; mended by their end."""

    @contextmanager
    def trouble(ground: Ground) -> Iterator[Mend]:
        service = Service(ground, name)
        try:
            service.start({"MAX_CONNECTIONS": str(_SOCKETS)})
            with ExitStack() as sockets:
                for _ in range(_SOCKETS):
                    sockets.enter_context(Conversation(service.url))
                yield sockets.close
        finally:
            service.end()

    return trouble


@contextmanager
def app_killed(ground: Ground) -> Iterator[Mend]:
    ground.kill("app")
    yield lambda: ground.start("app")


def stopped(part: str) -> Trouble:
    @contextmanager
    def trouble(ground: Ground) -> Iterator[Mend]:
        ground.stop(part)
        yield lambda: ground.start(part)

    return trouble
