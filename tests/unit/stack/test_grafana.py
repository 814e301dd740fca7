"""A native Grafana: only the pinned version is used, and access is restricted by default."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stack import facts, grafana
from stack.native import NativeStack
from stack.recorded import record, recorded

_ANONYMOUS = "GF_AUTH_ANONYMOUS_ENABLED"
_NO_USER = "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"


def _unpacked(directory: Path, said: str) -> dict[str, str]:
    """Return facts with a GRAFANA_HOME whose program reports that version."""
    program = directory / "bin" / "grafana"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    return facts.load({"GRAFANA_HOME": str(directory)})


def test_stack_runs_without_grafana_and_explains_how_to_get_it() -> None:
    stack = NativeStack(facts.load({}))
    assert grafana.problems(stack.facts) == []
    assert "grafana" not in [part.name for part in stack.parts]
    assert "GRAFANA_HOME" in stack.missing["grafana"]
    assert stack.environment()["GRAFANA_OFF"] == "true"


@pytest.mark.parametrize("version", ["12.3.0", "12.3.0+security-01"])
def test_pinned_version_is_taken(tmp_path: Path, version: str) -> None:
    stack = NativeStack(_unpacked(tmp_path, f"grafana version {version}"))
    assert grafana.problems(stack.facts) == []
    assert "grafana" in [part.name for part in stack.parts]
    assert stack.missing == {}
    assert stack.environment()["GRAFANA_OFF"] == "false"


@pytest.mark.parametrize("version", ["12.3.1", "11.0.0", "12.3.0-pre"])
def test_another_version_is_refused_by_its_name(tmp_path: Path, version: str) -> None:
    [line] = grafana.problems(_unpacked(tmp_path, f"grafana version {version}"))
    assert line.startswith(f"GRAFANA_HOME={tmp_path} has Grafana {version}:")
    assert grafana.VERSION in line


def test_directory_without_grafana_is_rejected(tmp_path: Path) -> None:
    [line] = grafana.problems(facts.load({"GRAFANA_HOME": str(tmp_path)}))
    assert "no Grafana that starts" in line
    assert grafana.problems(_unpacked(tmp_path, "something else")) == [line]


def test_running_stack_is_known_to_have_one_where_the_variable_is_gone(tmp_path: Path) -> None:
    started = NativeStack({**_unpacked(tmp_path, ""), "STATE_DIR": str(tmp_path)})
    record(started.facts)
    later = NativeStack(recorded(facts.load({"STATE_DIR": str(tmp_path)})))
    assert later.parts == started.parts


def test_password_is_not_among_the_facts_that_are_written_to_disk() -> None:
    assert "secret" not in facts.load({"GRAFANA_ADMIN_PASSWORD": "secret"}).values()


@pytest.mark.parametrize("shell", ["sh", "busybox sh"])
@pytest.mark.parametrize(
    ("environ", "switches"),
    [
        ({"PUBLISH_HOST": "127.0.0.1"}, {}),
        ({"PUBLISH_HOST": "127.0.0.2", "GRAFANA_ADMIN_PASSWORD": ""}, {}),
        ({"PUBLISH_HOST": "localhost"}, {}),
        ({"PUBLISH_HOST": "::1"}, {}),
        ({"PUBLISH_HOST": "127.0.0.1", "GRAFANA_ADMIN_PASSWORD": "a $b"}, {_NO_USER: "false"}),
        ({"PUBLISH_HOST": "127.0.0.1", _ANONYMOUS: "false"}, {_ANONYMOUS: "false"}),
        ({"PUBLISH_HOST": "0.0.0.0"}, {_ANONYMOUS: "false"}),  # noqa: S104
        ({"PUBLISH_HOST": "203.0.113.7", _ANONYMOUS: ""}, {_ANONYMOUS: "false"}),
        ({"PUBLISH_HOST": "203.0.113.7", _ANONYMOUS: "true"}, {_ANONYMOUS: "true"}),
        (
            {"PUBLISH_HOST": "203.0.113.7", "GRAFANA_ADMIN_PASSWORD": "long"},
            {_ANONYMOUS: "false", _NO_USER: "false"},
        ),
    ],
    ids=str,
)
def test_anonymous_access_depends_on_publish_host_and_password(
    shell: str, environ: dict[str, str], switches: dict[str, str], tmp_path: Path
) -> None:
    done, seen = _started(shell, tmp_path, environ)
    assert {name: seen[name] for name in (_ANONYMOUS, _NO_USER) if name in seen} == switches
    locked = seen.get(_ANONYMOUS) == "false" and not environ.get("GRAFANA_ADMIN_PASSWORD")
    assert ("GRAFANA_ADMIN_PASSWORD" in done.stderr) == locked


@pytest.mark.parametrize(
    ("url", "domain", "secure"),
    [
        ("http://127.0.0.1:3001", "127.0.0.1", "false"),
        ("http://localhost", "localhost", "false"),
        ("https://example.org/grafana", "example.org", "true"),
        ("https://example.org:8443/", "example.org", "true"),
        ("http://[::1]:3001", "[::1]", "false"),
    ],
)
def test_name_that_it_answers_to_is_that_of_its_public_address(
    tmp_path: Path, url: str, domain: str, secure: str
) -> None:
    _, here = _started("sh", tmp_path, {"GRAFANA_PUBLIC_URL": url})
    assert here["GF_SERVER_DOMAIN"] == domain
    assert here["GF_SECURITY_COOKIE_SECURE"] == secure
    assert here["GF_SERVER_ENFORCE_DOMAIN"] == "true"
    # There a login is required, and any host name of the machine is accepted.
    _, published = _started(
        "sh", tmp_path, {"GRAFANA_PUBLIC_URL": url, "PUBLISH_HOST": "203.0.113.7"}
    )
    assert "GF_SERVER_ENFORCE_DOMAIN" not in published


def _started(
    shell: str, directory: Path, environ: dict[str, str]
) -> tuple["subprocess.CompletedProcess[str]", dict[str, str]]:
    """Return the output of start.sh, and the variables that Grafana gets."""
    program = [*shell.split(), str(facts.ROOT / "grafana-provisioning" / "start.sh")]
    if not shutil.which(program[0]):
        pytest.skip(f"there is no {program[0]}")
    secrets = {"password": "BACKENDS_PASSWORD", "secret_key": "GF_SECURITY_SECRET_KEY"}
    (directory / "grafana").mkdir(exist_ok=True)
    for name in secrets:
        (directory / "grafana" / name).write_text(f"the {name}")
    given = {
        "GRAFANA_PUBLIC_URL": "http://127.0.0.1:3001",
        "PUBLISH_HOST": "127.0.0.1",
        "SECRETS_DIR": str(directory),
        **environ,
    }
    done = subprocess.run(
        [*program, "/usr/bin/env"], env=given, capture_output=True, text=True, check=True
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {variable: seen[variable] for variable in secrets.values()} == {
        variable: f"the {name}" for name, variable in secrets.items()
    }
    return done, seen


def test_up_warns_of_a_grafana_without_any_access() -> None:
    published = facts.load({"PUBLISH_HOST": "203.0.113.7"})
    assert "GRAFANA_ADMIN_PASSWORD" in grafana.locked(published, {})
    assert grafana.locked(published, {"GRAFANA_ADMIN_PASSWORD": "long"}) == ""
    assert grafana.locked(facts.load({"PUBLISH_HOST": "127.0.0.2"}), {}) == ""
