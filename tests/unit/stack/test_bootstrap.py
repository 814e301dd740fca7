"""Setup on a new machine: any Python from 3.8 on creates the environment with a newer one."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stack.facts import ROOT

# Replaces Python 3.12 with venv, and the Python of the created environment.
_PYTHON = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1 $2" in
"-c "*) echo 3 12 True ;;
"-m venv") eval "directory=\\${$#}"; mkdir -p "$directory/bin"; cp "$0" "$directory/bin/python" ;;
"-m pip") [ -z "$PIP_FAILS" ] || { echo "no network"; exit 1; } ;;
esac
"""


@pytest.fixture(scope="module")
def python() -> str:
    """The oldest Python that is supported for this, too old for everything else."""
    managed = (Path.home() / ".pyenv" / "versions").glob("3.8.*/bin/python")
    for path in (shutil.which("python3.8"), *managed):
        # A version manager's shim of a version that is not installed fails.
        if path and not subprocess.run([path, "-V"], capture_output=True, check=False).returncode:
            return str(path)
    pytest.skip("there is no Python 3.8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without any setup, on a machine with one newer Python."""
    (tmp_path / "stack").mkdir()
    for module in (ROOT / "stack").glob("*.py"):
        shutil.copy(module, tmp_path / "stack")
    shutil.copytree(ROOT / "stack" / "process-compose", tmp_path / "stack" / "process-compose")
    (tmp_path / "requirements-dev.txt").write_text("# nothing\n")
    (tmp_path / "bin").mkdir()
    newer = tmp_path / "bin" / "python3.12"
    newer.write_text(_PYTHON)
    newer.chmod(0o755)
    for name in ("sh", "mkdir", "cp"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def _bootstrap(
    python: str, checkout: Path, *arguments: str, **environ: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, "-W", "error", "-m", "stack.bootstrap", *arguments],
        cwd=checkout,
        env={
            # Excludes other programs of this machine, such as another Python.
            "PATH": str(checkout / "bin"),
            "CALLS": str(checkout / "calls"),
            "RUN": "native",
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_syntax_of_all_that_it_loads_is_checked_for_the_oldest_python() -> None:
    program = "import stack.bootstrap, sys; print(*[m for m in sys.modules if m[:6] == 'stack.'])"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {f"{name.replace('.', '/')}.py" for name in loaded.split()} | {"stack/__init__.py"}
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["per-file-target-version"] == dict.fromkeys(files, "py38")


def test_environment_is_made_once(python: str, checkout: Path) -> None:
    first = _bootstrap(python, checkout)
    assert (first.returncode, first.stderr) == (0, "")
    calls = (checkout / "calls").read_text()
    assert "-m venv --clear" in calls
    assert "install --no-input --require-hashes -r" in calls
    again = _bootstrap(python, checkout)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (checkout / "calls").read_text() == calls


def test_all_that_is_missing_is_named_at_once(python: str, checkout: Path) -> None:
    (checkout / "bin" / "python3.12").unlink()
    done = _bootstrap(python, checkout, "parts")
    assert (done.returncode, done.stderr) == (1, "")
    assert "Python 3.11 or newer with venv is needed (python" in done.stdout
    assert "Go is missing: install Go" in done.stdout


def test_end_of_the_log_is_shown_when_it_fails(python: str, checkout: Path) -> None:
    done = _bootstrap(python, checkout, PIP_FAILS="1")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[1:] == [
        "Setup failed; the end of .chatscope/setup.log:",
        "no network",
        "",
    ]
