"""Environments of the competitors: pinned with hashes, one server version, honest failures."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.competitors import environments
from bench.competitors.environments import FOLDER, UnavailableError
from stack.facts import ROOT
from stack.progress import Progress

_PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def _pins(path: Path) -> dict[str, str]:
    return dict(_PIN.findall(path.read_text()))


@pytest.mark.parametrize("name", environments.names())
def test_every_package_is_pinned_with_a_hash_and_without_an_address(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    wanted = re.findall(r"^([\w.-]+)", (FOLDER / f"{name}.in").read_text(), re.MULTILINE)
    assert wanted
    assert set(wanted) <= set(_pins(FOLDER / f"{name}.txt"))


@pytest.mark.parametrize("name", environments.names())
def test_all_are_compared_on_the_service_s_versions_of_the_server(name: str) -> None:
    """Otherwise a difference between two variants would be that of two servers."""
    ours, theirs = _pins(ROOT / "requirements.txt"), _pins(FOLDER / f"{name}.txt")
    for package in ("starlette", "uvicorn", "loguru"):
        assert theirs.get(package, ours[package]) == ours[package]


def test_no_release_of_litellm_that_contained_malware_is_pinned() -> None:
    assert environments.version("litellm", "litellm") not in {"1.82.7", "1.82.8", "1.107.0"}


@pytest.mark.slow
def test_environment_that_cannot_be_made_is_unavailable_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "absent.txt").write_text(f"absent @ {(tmp_path / 'absent.whl').as_uri()}\n")
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    progress = Progress(Console(file=StringIO()))
    for _ in range(2):  # the second one does not find the remains of the first
        with pytest.raises(UnavailableError, match="absent"):
            environments.python("absent", progress)
