"""Built programs: sources, flags, and their place in the cache."""

import shutil
from pathlib import Path

import pytest
import yaml

from stack import facts
from stack.machine import needed_go
from stack.parts import BINARIES, PARTS, binary_path, cache_key


@pytest.fixture
def module(tmp_path: Path) -> Path:
    collector = next(binary for binary in BINARIES if binary.generated)
    for source in collector.sources():
        shutil.copy(source, tmp_path)
    return tmp_path


def _key(module: Path, go: str = "go1.26.8", flags: tuple[str, ...] = ("-trimpath",)) -> str:
    return cache_key([module / "go.mod", module / "go.sum", module / "manifest.yaml"], go, flags)


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "manifest.yaml"])
def test_cache_key_changes_with_each_source_file(module: Path, name: str) -> None:
    before = _key(module)
    with (module / name).open("a") as file:
        file.write("\n")
    assert _key(module) != before


def test_cache_key_changes_with_go_and_flags_and_else_stays(module: Path) -> None:
    keys = {_key(module), _key(module, go="go1.27.0"), _key(module, flags=("-race",))}
    assert len(keys) == 3
    assert _key(module) in keys


def test_collectors_are_built_from_their_manifests() -> None:
    generated = [binary for binary in BINARIES if binary.generated]
    assert [binary.name for binary in generated] == ["otelcol", "otelcol-scaled"]
    for binary in generated:
        assert binary.directory / "manifest.yaml" in binary.sources()


def test_binary_path_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binary_path.cache_clear()
    try:
        path = binary_path("promtool")
    finally:
        binary_path.cache_clear()
    assert path.name == "promtool"
    assert path.parent.parent == tmp_path / "chatscope"
    assert path.parent.name.startswith("promtool-")


def test_unknown_program_has_no_path() -> None:
    with pytest.raises(KeyError):
        binary_path("grafana")


def test_every_module_asks_for_the_same_go() -> None:
    # The check before a build asks one module for all of them.
    needed = {binary.name: needed_go(str(binary.directory)) for binary in BINARIES}
    assert len(set(needed.values())) == 1, needed
    toolchains = {
        line
        for binary in BINARIES
        for line in (binary.directory / "go.mod").read_text().splitlines()
        if line.startswith("toolchain ")
    }
    assert len(toolchains) == 1, toolchains


def test_every_port_belongs_to_exactly_one_part() -> None:
    claimed = [name for part in PARTS for name in part.ports]
    assert sorted(claimed) == sorted(facts.ports(facts.load({})))


def test_process_compose_runs_the_same_parts_and_stops_the_app_first() -> None:
    text = (facts.ROOT / "stack" / "process-compose.yaml").read_text()
    processes = yaml.safe_load(text)["processes"]
    assert set(processes) == {part.name for part in PARTS}
    assert set(processes["app"]["depends_on"]) == {"collector"}
    assert set(processes["collector"]["depends_on"]) == {"prometheus", "gateway", "tempo"}
    assert set(processes["gateway"]["depends_on"]) == {"loki", "tempo"}
    assert set(processes["loki"]["depends_on"]) == {"prometheus"}
    assert [name for name in processes if "disabled" in processes[name]] == ["grafana"]
