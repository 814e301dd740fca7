"""Errors when the state of a stack cannot be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack.facts import ROOT

_NOBODY = 65534


@pytest.fixture
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory owned by root, as after `sudo make up`."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root, with setpriv, can become somebody else")
    # A longer path has its sockets elsewhere.
    tmp_path = tmp_path_factory.mktemp("own")
    sockets = tmp_path / "state" / "run" / "sockets"
    sockets.mkdir(parents=True)
    (sockets / "control.sock").touch()
    for place in (tmp_path, *tmp_path.parents[:-2]):
        # pytest's own directories are only accessible to their user.
        place.chmod(place.stat().st_mode | 0o055)
    return tmp_path / "state"


def _as_nobody(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    stack = (sys.executable, "-B", "-m", "stack")
    ids = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    done = subprocess.run(
        # The user nobody may not write this user's coverage data.
        ["env", "-u", "COVERAGE_PROCESS_START", "setpriv", *ids, *stack, *words],
        cwd=ROOT,
        env={**os.environ, "RUN": "native", "COMPOSE_DISABLE_ENV_FILE": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    # Exit codes of setpriv and the dynamic linker if they cannot execute or load the interpreter.
    if done.returncode in (126, 127) or (
        "Permission denied" in done.stderr and "Traceback" not in done.stderr
    ):
        pytest.skip(f"nobody cannot run this checkout: {done.stderr}")
    return done


def test_state_of_another_user_is_named_with_its_owner_and_the_mend(others: Path) -> None:
    done = _as_nobody("down", STATE_DIR=str(others))
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert str(others / "run" / "sockets" / "control.sock") in done.stdout
    assert "belongs to root" in done.stdout
    assert "STATE_DIR" in done.stdout
