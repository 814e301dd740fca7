"""A real Valkey or Redis server, on a socket in a directory of its own."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis, RedisError

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
needs_store = pytest.mark.skipif(PROGRAM is None, reason="neither Valkey nor Redis is installed")

_PATIENCE_SECONDS = 60.0


class StoreServer:
    """The server; it can be paused, killed, and started again with what it has stored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "s"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        """Start it, and wait until it responds."""
        assert PROGRAM is not None
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "no",
        }
        arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._responds():
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send a signal, such as SIGSTOP, after which it accepts connections and never responds."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once. What it has acknowledged is in its file."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE_SECONDS)
            self._process = None

    def client(self) -> "Redis":
        """Return a client, to look at what is stored."""
        return Redis.from_url(self.url, decode_responses=True, socket_timeout=_PATIENCE_SECONDS)

    def _responds(self) -> bool:
        with suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False


@contextmanager
def store_server() -> Iterator[StoreServer]:
    """Run a server. Its directory is short: paths of sockets have at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="store-") as directory:
        server = StoreServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            with suppress(ProcessLookupError, AssertionError):
                server.signal(signal.SIGCONT)
            server.kill()
