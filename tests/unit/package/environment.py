"""The wheel, installed in a separate environment, and programs that run in it."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.facts import ROOT
from stack.waiting import poll_until

_UV = (sys.executable, "-m", "uv")
_FRAMEWORKS = (
    "celery",
    "fastapi",
    "gunicorn",
    "hypercorn",
    "langfuse",
    "litestar",
    "logfire",
    "quart",
    "uvicorn",
    "uvicorn-worker",
)
_BUILD_SECONDS = 150


def uv(*arguments: str | Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run uv; with `check`, fail with its output."""
    done = subprocess.run(
        [*_UV, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(done.stderr)
    return done


@dataclass(frozen=True)
class Environment:
    """A Python environment beside this one, and a folder without the checkout."""

    folder: Path
    python: Path

    def environ(self, endpoint: str, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a program that exports to `endpoint`."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "CHATSCOPE_", "PYTHON", "PYTEST", "COV"))
        }
        path = f"{self.python.parent}{os.pathsep}{kept.get('PATH', '')}"
        return {
            **kept,
            "PATH": path,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "PYTHONUNBUFFERED": "1",
            **variables,
        }

    @contextmanager
    def running(
        self, endpoint: str, *command: str, **variables: str
    ) -> "Iterator[subprocess.Popen[str]]":
        """Run a program of the environment until the end of the block."""
        process = subprocess.Popen(
            [str(self.python.parent / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.environ(endpoint, variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def shared_wheel(factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, once in a run of all workers; skip where no package can be downloaded."""
    with _shared(factory) as directory:
        return _wheel(directory)


def shared_environment(factory: pytest.TempPathFactory) -> Environment:
    """Install the wheel beside web frameworks and servers, once in a run of all workers.

    The folder of programs belongs to the caller.
    """
    with _shared(factory) as directory:
        python = _python(directory, _wheel(directory))
    return Environment(factory.mktemp("shop"), python)


@contextmanager
def _shared(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lock and return a directory that all workers of a run share."""
    base = factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "package"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _wheel(directory: Path) -> Path:
    if found := list(directory.glob("*.whl")):
        return found[0]
    uv("venv", "-q", "--python", sys.executable, directory / "empty")
    reached = uv(
        "pip", "install", "-q", "--dry-run", "--refresh-package", "hatchling",
        "--python", directory / "empty", "hatchling", check=False,
    )  # fmt: skip
    if reached.returncode:
        pytest.skip(f"no package index: {reached.stderr.strip().splitlines()[-1]}")
    uv("build", "-q", "--wheel", "-o", directory, ROOT)
    [wheel] = directory.glob("*.whl")
    return wheel


def _python(directory: Path, wheel: Path) -> Path:
    home, complete = directory / "environment", directory / "complete"
    python = home / "bin" / "python"
    if not complete.exists():
        uv("venv", "-q", "--clear", "--python", sys.executable, home)
        uv("pip", "install", "-q", "--python", python, f"{wheel}[loguru]", *_FRAMEWORKS)
        complete.touch()
    return python


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def get(port: int, path: str) -> int | None:
    """Return the status of a request; None without a connection."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=240) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        # It holds the connection.
        error.close()
        return error.code
    except OSError:
        return None


def get_many(port: int, path: str, count: int) -> Sequence[int | None]:
    """Return the statuses of requests that are made at the same time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: get(port, path), range(count)))


def wait_until_up(port: int, path: str = "/healthz") -> None:
    """Wait for a server; the path is one that is not recorded."""
    poll_until(lambda: get(port, path) is not None, "the server", 30)


def stop(process: "subprocess.Popen[str]") -> str:
    """Send SIGTERM; return what the program printed."""
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=240)
    return output
