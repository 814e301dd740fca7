"""Finds official releases of the components on this machine, and uses those of a fitting version.

Only the standard library and the syntax of Python 3.8: bootstrap.py uses it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from stack.images import IMAGES
from stack.machine import STACK_DIR

ON_PATH = "PATH"
IN_DIRECTORY = "COMPONENTS_DIR"
_ENV_FILE = os.path.join(os.path.dirname(STACK_DIR), ".env")
_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Project:
    """A program's project, the names of its file, and how it reports its version."""

    name: str
    files: tuple[str, ...]
    version: str
    option: str = "--version"


# In the order of `parts.BINARIES`, by our names. The Collector must be the distribution "contrib":
# the one called otelcol lacks components.
PROJECTS = {
    "process-compose": Project(
        "Process Compose", ("process-compose",), r"Version:\s+v(\S+)", "version"
    ),
    "alertmanager": Project("Prometheus Alertmanager", ("alertmanager",), r"version (\d\S*)"),
    "caddy": Project("Caddy", ("caddy",), r"^v(\d\S*)", "version"),
    "otelcol": Project(
        "OpenTelemetry Collector Contrib", ("otelcol-contrib",), r"otelcol-contrib version (\S+)"
    ),
    "prometheus": Project("Prometheus", ("prometheus",), r"version (\d\S*)"),
    "tempo": Project("Grafana Tempo", ("tempo",), r"version v?(\d\S*)"),
    "loki": Project("Grafana Loki", ("loki",), r"version v?(\d\S*)"),
}


@dataclass(frozen=True)
class Release:
    """A release that is used, and the variable that led to it."""

    program: str
    version: str
    path: str
    place: str


@dataclass(frozen=True)
class Found:
    """The releases that are used, by program, and a sentence for each rejected one."""

    used: dict[str, Release]
    refused: tuple[str, ...]


@lru_cache(maxsize=None)
def find(directory: str, path: str) -> Found:
    """Search COMPONENTS_DIR (empty: unset) and then PATH for programs of the pinned version.

    The directory contains programs, or unpacked releases.
    """
    used: dict[str, Release] = {}
    refused: list[str] = []
    for program, project in PROJECTS.items():
        needed = wanted(program)
        for place, file in _candidates(project, directory, path):
            version = _version(project, file)
            if version == needed:
                used[program] = Release(program, version, file, place)
                break
            what = f"version {version}" if version else "no release of " + project.name
            refused.append(f"{file} is {what}: {needed} is needed")
    return Found(used, tuple(refused))


def wanted(program: str) -> str:
    """Return the pinned version: that of the official image and of the built module."""
    for image in IMAGES:
        if image.binary == program:
            return image.tag.lstrip("v")
    with open(os.path.join(STACK_DIR, program, "go.mod"), encoding="utf-8") as file:
        found = re.search(rf"^(?:require )?\s*\S+/{program} v(\S+)", file.read(), re.MULTILINE)
    if found is None:
        raise KeyError(program)
    return found.group(1)


def described(program: str) -> str:
    """Return the project's name and the pinned version."""
    return f"{PROJECTS[program].name} {wanted(program)}"


def directory(environ: Mapping[str, str]) -> str:
    """Return COMPONENTS_DIR of the shell, otherwise of .env; empty if neither sets it."""
    said = environ.get(IN_DIRECTORY)
    if said is None and environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() not in ("1", "true"):
        said = _in_env_file()
    return os.path.join(os.path.dirname(STACK_DIR), os.path.expanduser(said)) if said else ""


def _in_env_file() -> str:
    try:
        with open(_ENV_FILE, encoding="utf-8") as file:
            lines = re.findall(r"""(?m)^\s*COMPONENTS_DIR\s*=\s*["']?([^"'\n]*)""", file.read())
    except (OSError, UnicodeDecodeError):
        return ""
    return lines[-1].strip() if lines else ""


def _candidates(project: Project, directory: str, path: str) -> list[tuple[str, str]]:
    found = [(IN_DIRECTORY, file) for file in in_directory(directory, _file_names(project))]
    for name in project.files:
        on_path = shutil.which(name, path=path)
        if on_path:
            found.append((ON_PATH, on_path))
    return found


def _file_names(project: Project) -> list[str]:
    """Return the file names, also with system and processor, such as loki-linux-amd64."""
    machine = platform.machine().lower()
    processor = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    system = platform.system().lower()
    return [name + end for name in project.files for end in ("", f"-{system}-{processor}")]


def in_directory(directory: str, names: list[str]) -> list[str]:
    """Return the programs of these names in a directory, its subdirectories and their bin/."""
    if not directory or not os.path.isdir(directory):
        return []
    folders = [directory]
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir():
            folders += [entry.path, os.path.join(entry.path, "bin")]
    files = [os.path.join(folder, name) for folder in folders for name in names]
    return [file for file in files if os.path.isfile(file) and os.access(file, os.X_OK)]


def _version(project: Project, file: str) -> str:
    """Return the version that the program reports; empty if it reports none."""
    try:
        done = subprocess.run(
            [file, project.option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = re.search(project.version, done.stdout.decode("utf-8", "replace"))
    return said.group(1).rstrip(",") if said else ""
