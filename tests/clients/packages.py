"""Clients that are not in the development environment: installed once, in the user's cache.

Each set of packages is stored under the hash of its lock file, so that other runs find it.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stack.parts import cache_dir
from tests.harness import limits

NODE: Final = Path(__file__).with_name("node")
REQUIREMENTS: Final = Path(__file__).parents[2] / "requirements-clients.txt"
# The oldest version of Node that the clients support.
NODE_MAJOR: Final = 18
_INSTALL_SECONDS: Final = 600
# Reasons of failed installations, which are not repeated for each test.
_failures: dict[str, str] = {}


class UnavailableError(Exception):
    """A client cannot be installed here; the message has the reason."""


def node_modules() -> Path:
    """Return the folder with the clients for Node. Raise UnavailableError."""
    version = _version_of_node()
    if version < NODE_MAJOR:
        raise UnavailableError(f"Node {NODE_MAJOR} or newer and npm are needed (found {version})")
    lock = NODE / "package-lock.json"
    return _installed("node", lock.read_bytes(), _install_for_node) / "node_modules"


def python() -> str:
    """Return the interpreter that has the clients for Python. Raise UnavailableError."""
    words = REQUIREMENTS.read_bytes() + sys.version.encode()
    return str(_installed("python", words, _install_for_python) / "bin" / "python")


def _version_of_node() -> int:
    if not shutil.which("node") or not shutil.which("npm"):
        return 0
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(done.stdout.removeprefix("v").partition(".")[0])


def _install_for_node(directory: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, directory)
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    # The default waits for a minute between attempts.
    retries = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
    _run(["npm", "ci", *options, *retries], directory)


def _install_for_python(directory: Path) -> None:
    # An environment contains its own path, so it is created in its final place.
    _run([sys.executable, "-m", "venv", "--clear", str(directory)], directory)
    _run(
        [
            *(str(directory / "bin" / "python"), "-m", "pip", "install", "-q", "--no-input"),
            *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
            *("-r", str(REQUIREMENTS)),
        ],
        directory,
    )


def _run(command: list[str], directory: Path) -> None:
    with tempfile.TemporaryFile("w+") as output:
        try:
            status = subprocess.run(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_INSTALL_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
        if status != 0:
            output.seek(0)
            lines = output.read().strip().splitlines()[-3:]
            raise UnavailableError(f"{command[0]} failed: {' '.join(lines)}")


def _installed(kind: str, content: bytes, install: Callable[[Path], None]) -> Path:
    directory = cache_dir() / f"clients-{kind}-{hashlib.sha256(content).hexdigest()[:12]}"
    complete = directory / "complete"
    with _locked(kind):
        if kind in _failures:
            raise UnavailableError(_failures[kind])
        if not complete.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            try:
                install(directory)
            except UnavailableError as error:
                _failures[kind] = str(error)
                raise
            complete.touch()
    return directory


@contextmanager
def _locked(kind: str) -> Iterator[None]:
    """Let one process install; the time does not count toward the time limit of a test."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with limits.paused(), (cache_dir() / f"clients-{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
