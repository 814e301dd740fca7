"""The facts that fill in every configuration, and the validating programs."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from stack.facts import load
from stack.parts import binary_path
from tests.builds import wait_for_binaries
from tests.config.charts import helm, render

__all__ = ["helm", "render"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


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
