"""`python -m audit`, as `make audit` runs it: with real scanners and small databases."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from audit.__main__ import ROOT, choose, max_age
from audit.modules import of_version
from bench.competitors import environments
from tests.builds import wait_for_binaries
from tests.unit.audit.advisories import advisory, write

_FILE: Final = "requirements-docs.txt"
_COMPONENT: Final = "process-compose"
# Nobody listens there: nothing is reached, wherever the test runs.
_NOWHERE: Final = {
    **dict.fromkeys(
        ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9"
    ),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
}

slow = pytest.mark.slow


def _audit(*names: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OSV_DATABASE", "GOVULNDB", "AUDIT_MAX_AGE_DAYS")
    }
    return subprocess.run(
        [sys.executable, "-m", "audit", *names],
        cwd=ROOT,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def _pinned() -> tuple[str, str]:
    found = re.search(r"^([a-z0-9-]+)==(\S+)", (ROOT / _FILE).read_text(), re.MULTILINE)
    assert found
    return found[1], found[2]


@slow
@pytest.mark.timeout(240)
def test_advisory_for_a_pinned_package_is_found(tmp_path: Path) -> None:
    name, version = _pinned()
    affected = advisory("TEST-1", "PyPI", name, {"introduced": "0"}, {"fixed": f"{version}.1"})
    done = _audit(_FILE, OSV_DATABASE=str(write(tmp_path / "db", affected)))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{name} {version}, fixed in {version}.1: CVE-1" in done.stdout


@slow
@pytest.mark.timeout(240)
def test_audit_succeeds_without_an_advisory_and_is_incomplete_with_an_old_database(
    tmp_path: Path,
) -> None:
    name, version = _pinned()
    old = advisory("TEST-1", "PyPI", name, {"introduced": f"{version}.1"}, age_days=20)
    database = str(write(tmp_path / "db", old))
    done = _audit(_FILE, OSV_DATABASE=database)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{_FILE}: nothing known ({database})" in done.stdout
    done = _audit(_FILE, OSV_DATABASE=database, AUDIT_MAX_AGE_DAYS="19")
    assert done.returncode == 2
    assert "OLD DATABASE" in done.stdout
    assert "20 days ago" in done.stdout


@slow
def test_unreachable_service_is_not_success() -> None:
    done = _audit(_FILE, **_NOWHERE)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{_FILE}: NOT CHECKED: api.osv.dev cannot be reached; set OSV_DATABASE" in done.stdout


@slow
def test_missing_database_is_not_success(tmp_path: Path) -> None:
    done = _audit(_FILE, OSV_DATABASE=str(tmp_path / "missing.zip"))
    assert done.returncode == 2
    assert "NOT CHECKED" in done.stdout


def _module(fixed: str, age_days: float = 0) -> dict[str, Any]:
    events = ({"introduced": "0"}, {"fixed": fixed})
    name = "github.com/f1bonacc1/process-compose"
    return advisory("GO-2026-9999", "Go", name, *events, age_days=age_days)


@slow
@pytest.mark.timeout(300)
def test_advisory_for_a_linked_module_is_found(tmp_path: Path) -> None:
    wait_for_binaries(["govulncheck", _COMPONENT])
    database = write(tmp_path / "db", _module("99.0.0"))
    done = _audit(_COMPONENT, GOVULNDB=database.as_uri())
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"process-compose [\d.]+, fixed in 99\.0\.0: GO-2026-9999", done.stdout), (
        done.stdout
    )


@slow
@pytest.mark.timeout(300)
def test_audit_of_a_component_succeeds_without_an_advisory(tmp_path: Path) -> None:
    wait_for_binaries(["govulncheck", _COMPONENT])
    database = write(tmp_path / "db", _module("0.0.1", age_days=31))
    done = _audit(_COMPONENT, GOVULNDB=database.as_uri(), AUDIT_MAX_AGE_DAYS="32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{_COMPONENT}: nothing known" in done.stdout
    assert _audit(_COMPONENT, GOVULNDB=database.as_uri()).returncode == 2


@slow
def test_component_without_any_database_is_not_success(tmp_path: Path) -> None:
    wait_for_binaries(["govulncheck"])
    done = _audit(_COMPONENT, GOPROXY="off", **_NOWHERE)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{_COMPONENT}: NOT CHECKED: neither https://vuln.go.dev nor" in done.stdout
    done = _audit(_COMPONENT, GOVULNDB=(tmp_path / "missing").as_uri())
    assert done.returncode == 2
    assert "has no advisories" in done.stdout


def test_all_requirements_and_components_of_the_stack_are_audited() -> None:
    files, programs = choose([])
    assert {file.name for file in files} >= {
        *(file.name for file in ROOT.glob("requirements*.txt")),
        *(f"{name}.txt" for name in environments.names()),
    }
    assert set(programs) >= {"otelcol", "prometheus", "loki", "tempo", "alertmanager", "caddy"}


def test_unknown_names_and_ages_are_errors() -> None:
    with pytest.raises(ValueError, match=r"nginx is unknown; known are asgi\.txt, "):
        choose(["nginx"])
    for text in ("soon", "-1", "nan"):
        with pytest.raises(ValueError, match="must be a number of days >= 0"):
            max_age({"AUDIT_MAX_AGE_DAYS": text})
    assert max_age({"AUDIT_MAX_AGE_DAYS": "7"}) == 7
    assert max_age({}) == 30


def test_time_of_an_unreleased_version() -> None:
    assert (
        of_version("v0.0.0-20261105234957-e22db6528018").isoformat() == "2026-11-05T23:49:57+00:00"
    )


def test_make_audit_runs_it() -> None:
    done = subprocess.run(
        ["make", "-n", "audit", "ONLY=tempo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-m audit tempo" in done.stdout
