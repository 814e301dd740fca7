"""Python environments of the competitors: pinned, and made when a benchmark first needs them.

`NAME.in` lists what the competitor's documentation installs, `NAME.txt` the pinned packages with
their hashes. An environment stays in the user's cache, under the hash of its file.
"""

import fcntl
import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stack.parts import cache_dir
from stack.progress import Progress

FOLDER: Final = Path(__file__).parent
_INSTALL_SECONDS: Final = 900.0
_TICK_SECONDS: Final = 0.5
_PIN: Final = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


class UnavailableError(Exception):
    """An environment cannot be made here; the message has the reason."""


def names() -> list[str]:
    """Return the names of all environments."""
    return sorted(file.stem for file in FOLDER.glob("*.txt"))


def version(name: str, package: str) -> str:
    """Return the pinned version of a package. Raises KeyError."""
    pins: dict[str, str] = dict(_PIN.findall(_requirements(name).read_text()))
    return pins[package]


def python(name: str, progress: Progress) -> Path:
    """Return the interpreter of an environment, made if needed. Raises UnavailableError."""
    requirements = _requirements(name)
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    directory = cache_dir() / f"bench-{name}-{digest}"
    interpreter, complete = directory / "bin" / "python", directory / "complete"
    with _locked(name):
        if not complete.exists():
            with progress.activity(f"Installing {name}"):
                _uv("venv", "--clear", "--python", sys.executable, directory, progress=progress)
                options = ("--only-binary", ":all:", "--require-hashes", "--python", interpreter)
                _uv("pip", "install", *options, "--requirements", requirements, progress=progress)
            complete.touch()
    return interpreter


def _requirements(name: str) -> Path:
    return FOLDER / f"{name}.txt"


def _uv(*words: object, progress: Progress) -> None:
    """Run uv of the development environment."""
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryFile("w+") as output:
        status = _run([str(uv), *map(str, words)], output.fileno(), progress)
        if status != 0:
            output.seek(0)
            lines = output.read().strip().splitlines()[-3:]
            raise UnavailableError(" ".join(lines) or f"uv ended with code {status}")


def _run(command: Sequence[str], output: int, progress: Progress) -> int:
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}") from error
    deadline = time.monotonic() + _INSTALL_SECONDS
    try:
        while time.monotonic() < deadline:
            try:
                return process.wait(_TICK_SECONDS)
            except subprocess.TimeoutExpired:
                progress.tick()
        raise UnavailableError(f"not installed after {_INSTALL_SECONDS:.0f} s")
    finally:
        process.kill()
        process.wait()


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Let one process install."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f"bench-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
