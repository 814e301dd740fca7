"""`python -m app` as a process, started with a separate environment; its output is read."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Exceeded only if the process hangs, even on an overloaded machine.
PATIENCE_SECONDS = 60


@contextmanager
def process(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Start the service with this environment on a free port; kill it at the end of the block.

    Telemetry is off unless OTEL_SDK_DISABLED says otherwise.
    """
    nowhere = {"OTEL_SDK_DISABLED": "true", "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    started = subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**nowhere, "PORT": "0", **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def patched(directory: Path, code: str) -> dict[str, str]:
    """Return an environment in which `code` runs first in the process, and in its workers."""
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}


@contextmanager
def printed(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    """Collect further output lines; also prevents the pipe from filling up."""
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    yield lines
    reader.join(PATIENCE_SECONDS)


def served(process: subprocess.Popen[str]) -> str:
    """Return its base URL, once it prints that it is running."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Uvicorn running on " in line:
            return line.partition("Uvicorn running on ")[2].split()[0]
    raise AssertionError("it ended early:\n" + "".join(lines))


def until(happened: Callable[[], bool], what: str = "it") -> None:
    """Wait until it happened."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)
