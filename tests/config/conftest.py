"""The facts that fill in every configuration, and the validating programs."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stack.facts import load
from stack.parts import binary_path
from tests.builds import wait_for_binaries
from tests.config.charts import helm, render
from tests.config.files import COMPOSE

__all__ = ["helm", "render"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Configured = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def stack_env() -> dict[str, str]:
    """Return the environment that each component of the stack gets."""
    return load()


@pytest.fixture(scope="session")
def binary() -> Callable[[str], Path]:
    """Return the built program of a name; skip the test without it."""

    def found(name: str) -> Path:
        wait_for_binaries([name])
        return binary_path(name)

    return found


@pytest.fixture(scope="session")
def configured(binary: Callable[[str], Path]) -> Configured:
    """Return the services of docker-compose.yml and overlays, with these variables set."""
    compose = binary("docker-compose")

    def services(*overlays: Path, **environ: str) -> dict[str, Any]:
        files = [word for path in (COMPOSE, *overlays) for word in ("--file", path)]
        done = subprocess.run(
            [compose, *files, "config", "--format", "json"],
            env={"COMPOSE_DISABLE_ENV_FILE": "1", **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["services"]
        return found

    return services


@pytest.fixture
def run(binary: Callable[[str], Path], stack_env: Mapping[str, str], tmp_path: Path) -> Run:
    """Run a built program to its end, in an empty directory, with the stack's environment."""

    def ran(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary(name), *arguments],
            cwd=tmp_path,
            env={**stack_env, "DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return ran
