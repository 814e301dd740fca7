"""Requirements of this machine, with a fix for each that is not met.

Only the standard library and the syntax of Python 3.8: bootstrap.py runs it with the system's
Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache

OLDEST_PYTHON = (3, 11)
PYTHONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
GIB = 1024**3
# Measured: a full build leaves 6.3 GiB of modules, 5.5 GiB of compiled packages and 0.5 GiB of
# programs; the Python environment takes 0.5 GiB.
BUILD_GIB = 13.0
VENV_GIB = 1.0
STACK_DIR = os.path.dirname(os.path.abspath(__file__))


class MachineError(RuntimeError):
    """A requirement that is not met; the text contains the fix."""


@lru_cache
def go_version(directory: str) -> str:
    """Return the version of the Go that builds the module in `directory`, such as go1.26.8.

    It is the `toolchain` of go.mod or newer, unless GOTOOLCHAIN=local. Raises MachineError.
    """
    needed = needed_go(directory)
    try:
        command = ["go", "env", "GOVERSION"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    except OSError:
        raise MachineError(
            f"Go is missing: install Go {needed} or newer (https://go.dev/dl/) and put it on PATH"
        ) from None
    found = done.stdout.strip()
    if done.returncode != 0:
        raise MachineError(
            f"Go {needed} or newer is needed: install it (https://go.dev/dl/), or set"
            " GOTOOLCHAIN=auto and let Go fetch it; GOTOOLCHAIN=local uses the installed one. Go"
            f" said: {done.stderr.strip()}"
        )
    # With GOTOOLCHAIN=local Go refuses only the build.
    if _go_numbers(found) < _go_numbers(needed):
        raise MachineError(
            f"Go {needed} or newer is needed, and this is {found}: install it"
            " (https://go.dev/dl/), or set GOTOOLCHAIN=auto and let Go fetch it"
        )
    return found


def _go_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of `1.26.8` or `go1.26.8`; of a development version, the newest."""
    found = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in found.groups()) if found else (sys.maxsize,)


def needed_go(directory: str) -> str:
    """Return the minimum Go version of the module in `directory`, from its go.mod."""
    with open(os.path.join(directory, "go.mod"), encoding="utf-8") as file:
        found = re.search(r"^go (\S+)$", file.read(), re.MULTILINE)
    if found is None:
        raise MachineError(f"{directory}/go.mod names no Go version")
    return found.group(1)


def go_problems() -> list[str]:
    """Return the problem with Go and its fix, in a list; empty if there is none."""
    try:
        # All modules require the same Go (checked by a test); this is the smallest.
        go_version(os.path.join(STACK_DIR, "process-compose"))
    except MachineError as error:
        return [str(error)]
    return []


def docker_answers() -> bool:
    """Return whether a Docker engine responds, so that nothing needs to be built."""
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def disk_problems(wanted: dict[str, float]) -> list[str]:
    """Return a line for each file system with less free space than is needed in total.

    `wanted` maps a directory, which need not exist yet, to GiB.
    """
    needs: dict[int, list[float]] = {}
    where: dict[int, str] = {}
    for directory, gib in wanted.items():
        existing = _existing(directory)
        device = os.stat(existing).st_dev
        needs.setdefault(device, []).append(gib)
        where.setdefault(device, existing)
    problems = []
    for device, gibs in needs.items():
        free = shutil.disk_usage(where[device]).free / GIB
        if free < sum(gibs):
            problems.append(
                f"{free:.1f} GiB are free at {where[device]}, {sum(gibs):.1f} are needed: make"
                " room, or point GOMODCACHE, GOCACHE and XDG_CACHE_HOME to a larger disk"
            )
    return problems


def build_space() -> dict[str, float]:
    """Return the directories that a full build fills, each with GiB."""
    home = os.path.expanduser("~")
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    modules = os.environ.get("GOMODCACHE") or os.path.join(
        os.environ.get("GOPATH") or os.path.join(home, "go"), "pkg", "mod"
    )
    compiled = os.environ.get("GOCACHE") or os.path.join(caches, "go-build")
    return {modules: BUILD_GIB / 2, compiled: BUILD_GIB * 5 / 12, caches: BUILD_GIB / 12}


def find_python() -> str:
    """Return the first Python on PATH that is new enough and has venv.

    Each is executed: a version manager's shim may exist and fail. Raises MachineError.
    """
    seen = []
    for name in (sys.executable, *PYTHONS):
        version, complete = _ask(name)
        if version >= OLDEST_PYTHON and complete:
            return name
        if version:
            lack = "" if complete else " without venv"
            seen.append(f"{os.path.basename(name)} is {version[0]}.{version[1]}{lack}")
    raise MachineError(
        f"Python 3.11 or newer with venv is needed ({'; '.join(seen) or 'none found'}): install it,"
        " on Debian or Ubuntu with apt-get install python3 python3-venv"
    )


def _ask(python: str) -> tuple[tuple[int, ...], bool]:
    program = (
        "import sys, importlib.util as u; print(*sys.version_info[:2],"
        " bool(u.find_spec('venv') and u.find_spec('ensurepip')))"
    )
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    except OSError:
        return (), False
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 3:
        return (), False
    return (int(words[0]), int(words[1])), words[2] == "True"


def _existing(directory: str) -> str:
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return directory
