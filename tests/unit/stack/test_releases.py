"""Official releases on this machine: used if their version fits, before anything is built."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import bootstrap, build, facts, grafana, releases
from stack.machine import go_version
from stack.native import NativeStack
from stack.parts import BINARIES, binary_path, missing_binaries

_PROCESSOR = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
# The version output of each official release, with VERSION as placeholder.
_SAID = {
    "process-compose": "Process Compose\nVersion:        vVERSION\nCommit:         abc",
    "alertmanager": "alertmanager, version VERSION (branch: HEAD, revision: abc)",
    "caddy": "vVERSION h1:abc=",
    "otelcol": "otelcol-contrib version VERSION",
    "prometheus": "prometheus, version VERSION (branch: HEAD, revision: abc)",
    "tempo": "tempo, version VERSION (branch: HEAD, revision: abc)",
    "loki": "loki, version VERSION (branch: release-3.7.x, revision: abc)",
}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    for found in (releases.find, go_version, binary_path):
        found.cache_clear()
    yield
    for found in (releases.find, go_version, binary_path):
        found.cache_clear()


def _install(directory: Path, program: str, version: str = "", name: str = "") -> Path:
    """Write a program that prints its version, by default the pinned one."""
    directory.mkdir(parents=True, exist_ok=True)
    said = _SAID[program].replace("VERSION", version or releases.wanted(program))
    file = directory / (name or releases.PROJECTS[program].files[0])
    file.write_text(f"#!{shutil.which('sh')}\nprintf '%s\\n' '{said}'\n")
    file.chmod(0o755)
    return file


def test_every_program_of_the_stack_has_an_official_release() -> None:
    assert list(releases.PROJECTS) == [each.name for each in BINARIES if not each.for_tests]
    assert set(_SAID) == set(releases.PROJECTS)


def test_release_that_fits_is_used_from_path(tmp_path: Path) -> None:
    files = {program: _install(tmp_path, program) for program in _SAID}
    found = releases.find("", str(tmp_path))
    assert {program: release.path for program, release in found.used.items()} == {
        program: str(file) for program, file in files.items()
    }
    assert found.refused == ()


def test_other_version_and_other_program_are_not_used_and_named(tmp_path: Path) -> None:
    old = _install(tmp_path, "prometheus", "2.53.0")
    broken = _install(tmp_path, "loki")
    broken.write_text("#!/bin/false\n")
    # The Collector's core distribution, which lacks components.
    _install(tmp_path, "otelcol", name="otelcol").write_text("#!/bin/sh\necho otelcol version 9\n")
    found = releases.find("", str(tmp_path))
    assert found.used == {}
    assert found.refused == (
        f"{old} is version 2.53.0: {releases.wanted('prometheus')} is needed",
        f"{broken} is no release of Grafana Loki: {releases.wanted('loki')} is needed",
    )


def test_unpacked_releases_in_the_directory_come_before_path(tmp_path: Path) -> None:
    directory, path = tmp_path / "components", tmp_path / "bin"
    _install(path, "loki")
    _install(path, "tempo")
    system = platform.system().lower()
    unpacked = _install(directory / f"prometheus-3.linux-{_PROCESSOR}", "prometheus")
    named = _install(directory, "loki", name=f"loki-{system}-{_PROCESSOR}")
    old = _install(directory, "tempo", "1.0.0")
    found = releases.find(str(directory), str(path))
    assert found.used["prometheus"].path == str(unpacked)
    assert found.used["loki"].path == str(named)
    assert found.used["tempo"].path == str(path / "tempo")
    assert found.refused == (f"{old} is version 1.0.0: {releases.wanted('tempo')} is needed",)


def test_stack_runs_the_release_and_builds_only_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _install(tmp_path / "here", "prometheus")
    loaded = facts.load({"COMPONENTS_DIR": str(tmp_path / "here")})
    stack = NativeStack(loaded)
    assert stack.environment()["PROMETHEUS_BIN"] == str(file)
    assert stack.environment()["LOKI_BIN"] == str(binary_path("loki"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    binary_path.cache_clear()
    missing = missing_binaries(with_tests=False, without={"prometheus"})
    assert "prometheus" not in {binary.name for binary in missing}
    assert "loki" in {binary.name for binary in missing}


def test_nothing_is_asked_of_the_machine_where_all_have_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in _SAID:
        _install(tmp_path, program)
    # Without Go.
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Go is missing" in build.problems()[0]
    assert build.problems(with_tests=False, without=_SAID) == []
    assert not bootstrap._to_build()
    stack = NativeStack(facts.load({}))
    assert stack.environment()["LOKI_BIN"] == str(tmp_path / "loki")
    (tmp_path / "loki").unlink()
    releases.find.cache_clear()
    assert bootstrap._to_build()


@pytest.mark.parametrize(
    ("shell", "file", "expected"),
    [
        ({"COMPONENTS_DIR": "/opt/it"}, "COMPONENTS_DIR=/other", "/opt/it"),
        ({}, "A=1\nCOMPONENTS_DIR='/opt/with blank'\n", "/opt/with blank"),
        ({}, "COMPONENTS_DIR=releases\n", str(facts.ROOT / "releases")),
        ({"COMPOSE_DISABLE_ENV_FILE": "1"}, "COMPONENTS_DIR=/other", ""),
        ({}, "#COMPONENTS_DIR=/other", ""),
    ],
)
def test_directory_is_that_of_the_shell_or_of_the_env_file(
    shell: dict[str, str],
    file: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".env").write_text(file)
    monkeypatch.setattr(releases, "_ENV_FILE", str(tmp_path / ".env"))
    assert releases.directory(shell) == expected


def _grafana(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "public").mkdir()
    (home / "conf").mkdir()
    (home / "conf" / "defaults.ini").touch()
    (home / "bin" / "grafana").write_text(f"#!/bin/sh\necho 'grafana version {version}'\n")
    (home / "bin" / "grafana").chmod(0o755)
    return home


def test_grafana_that_fits_is_found_in_the_directory_and_on_path(tmp_path: Path) -> None:
    directory = tmp_path / "components"
    _grafana(directory / "grafana-11.0.0", "11.0.0")
    fits = _grafana(directory / "grafana-12", grafana.VERSION)
    elsewhere = _grafana(tmp_path / "elsewhere", grafana.VERSION)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "grafana").symlink_to(elsewhere / "bin" / "grafana")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert grafana.find(str(directory), path) == str(fits)
    assert grafana.find("", path) == str(elsewhere)
    (elsewhere / "conf" / "defaults.ini").unlink()
    assert grafana.find("", path) in ("", "/usr/share/grafana")
