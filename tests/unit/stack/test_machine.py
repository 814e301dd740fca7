"""Missing requirements of a machine are reported with their fix."""

import sys
from pathlib import Path

import pytest

from stack import facts, machine


@pytest.fixture(autouse=True)
def _fresh_answers() -> None:
    machine.go_version.cache_clear()


def _program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_missing_go_is_reported_with_the_version_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [problem] = machine.go_problems()
    needed = machine.needed_go(str(facts.ROOT / "stack" / "loki"))
    assert f"Go is missing: install Go {needed}" in problem


def test_too_old_go_is_reported_with_its_own_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _program(tmp_path, "go", "echo 'go.mod requires go >= 1.26.8' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    [problem] = machine.go_problems()
    assert "GOTOOLCHAIN=auto" in problem
    assert "go.mod requires go >= 1.26.8" in problem


def test_too_old_go_that_may_not_fetch_another_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _program(tmp_path, "go", "echo go1.26.7")
    monkeypatch.setenv("PATH", str(tmp_path))
    [problem] = machine.go_problems()
    assert "this is go1.26.7: install it" in problem
    for newer in ("go1.26.8", "go1.26.10", "go1.27", "go1.27rc1", "devel go1.28-5f2b1a0"):
        machine.go_version.cache_clear()
        _program(tmp_path, "go", f"echo {newer}")
        assert machine.go_problems() == []


def test_python_shim_that_fails_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _program(tmp_path, "python3", "echo 'not installed' >&2; exit 127")
    _program(tmp_path, "python3.13", "echo 3 13 True")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "python3")
    assert machine.find_python() == "python3.13"


def test_each_unsuitable_python_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _program(tmp_path, "python3", "echo 3 9 True")
    _program(tmp_path, "python3.12", "echo 3 12 False")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "python3")
    with pytest.raises(machine.MachineError, match=r"python3 is 3\.9; .*python3\.12 is 3\.12 w"):
        machine.find_python()


def test_full_disk_is_reported_once_with_the_total_needed(tmp_path: Path) -> None:
    [problem] = machine.disk_problems({str(tmp_path / "not" / "yet"): 1e9, str(tmp_path): 1e9})
    assert "2000000000.0 are needed" in problem


def test_enough_disk_is_no_problem(tmp_path: Path) -> None:
    assert machine.disk_problems({str(tmp_path): 0.0}) == []
