"""The build of components, with a fake Go."""

import fcntl
import io
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console

from stack import build, machine
from stack.parts import BINARIES, binary_path, cache_dir, missing_binaries
from stack.progress import Progress
from stack.scaled.native import ScaledStack

# Responds to `go env`, and writes FILE for `go build … -o FILE …`.
_GO = """#!/bin/sh
[ "$1" = env ] && echo go1.26.8 && exit
while [ $# -gt 0 ]; do
  [ "$1" = -o ] && mkdir -p "$(dirname "$2")" && echo program > "$2"
  shift
done
"""
_FAILING = _GO.replace("  [ ", '  case "$1" in */loki) echo "loki.go:1: no"; exit 1;; esac; [ ', 1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    _install(tmp_path, _GO)
    binary_path.cache_clear()
    machine.go_version.cache_clear()
    yield cache_dir()
    binary_path.cache_clear()
    machine.go_version.cache_clear()


def _install(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bin" / "go"
    program.write_text(script)
    program.chmod(0o755)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def _told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_all_parts_are_built_and_each_is_announced(cache: Path, console: Console) -> None:
    build.build_missing(Progress(console))
    assert missing_binaries() == []
    for number, binary in enumerate(BINARIES, start=1):
        assert f"Building {binary.name}, {number} of {len(BINARIES)}" in _told(console)


def test_one_program_can_be_built_alone(cache: Path, console: Console) -> None:
    build.build_missing(Progress(console), only="sloth")
    assert "Building sloth, 1 of 1" in _told(console)
    assert {binary.name for binary in BINARIES} - {b.name for b in missing_binaries()} == {"sloth"}


def test_stack_that_runs_does_not_wait_for_what_only_the_tests_want(
    cache: Path, console: Console
) -> None:
    build.build_missing(Progress(console), with_tests=False)
    assert [binary.name for binary in missing_binaries()] == [
        "promtool",
        "sloth",
        "amtool",
        "govulncheck",
        "docker-compose",
        "helm",
        "otelcol-scaled",
        "versitygw",
        "thanos",
    ]
    assert missing_binaries(with_tests=False) == []


def test_scaled_stack_waits_for_its_own_programs_too(cache: Path, console: Console) -> None:
    build.build_missing(Progress(console), with_tests=False)
    missing = missing_binaries(with_tests=False, more=ScaledStack.more_programs)
    assert {binary.name for binary in missing} == {"otelcol-scaled", "versitygw", "thanos"}


def test_cached_program_is_not_built_again(cache: Path, console: Console) -> None:
    build.build_missing(Progress(console))
    silent = Console(file=io.StringIO())
    build.build_missing(Progress(silent))
    assert _told(silent) == ""


def test_other_versions_stay_and_unfinished_builds_go(cache: Path, console: Console) -> None:
    old = cache / "loki-000000000000" / "loki"
    unfinished = cache / ".building-killed"
    old.parent.mkdir(parents=True)
    old.touch()
    unfinished.mkdir()
    build.build_missing(Progress(console))
    assert old.exists()
    assert not unfinished.exists()


def test_failed_build_shows_its_end_and_leaves_nothing_half_done(
    cache: Path, console: Console, tmp_path: Path
) -> None:
    _install(tmp_path, _FAILING)
    with pytest.raises(build.BuildError) as caught:
        build.build_missing(Progress(console))
    assert "loki could not be built" in str(caught.value)
    assert "loki.go:1: no" in str(caught.value)
    assert str(cache / "loki.log") in str(caught.value)
    assert not binary_path("loki").parent.exists()
    assert "loki" in [binary.name for binary in missing_binaries()]


def test_second_build_waits_for_the_first_and_finds_its_work_done(
    cache: Path, console: Console
) -> None:
    cache.mkdir(parents=True)
    told = Console(file=io.StringIO(), width=100)
    with (cache / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = Thread(target=build.build_missing, args=(Progress(told),))
        second.start()
        for binary in BINARIES:
            binary_path(binary.name).parent.mkdir()
            binary_path(binary.name).touch()
    second.join(timeout=240)
    assert not second.is_alive()
    assert "Building" not in _told(told)


def test_disk_is_asked_for_what_is_missing_only(
    cache: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build_space", lambda: {str(cache): 1e12})
    [problem] = build.problems()
    assert "are needed" in problem
    build.build_missing(Progress(console))
    assert build.problems() == []
