"""A native Grafana: taken only in its pinned version, opened to nobody by accident."""

from pathlib import Path

import pytest

from stack import facts, grafana
from stack.native import NativeStack
from stack.recorded import record, recorded


def _unpacked(directory: Path, said: str) -> dict[str, str]:
    """Facts with a GRAFANA_HOME whose program says that as its version."""
    program = directory / "bin" / "grafana"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    return facts.load({"GRAFANA_HOME": str(directory)})


def test_stack_runs_without_one_and_tells_how_to_get_it() -> None:
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


def test_what_is_no_grafana_is_refused(tmp_path: Path) -> None:
    [line] = grafana.problems(facts.load({"GRAFANA_HOME": str(tmp_path)}))
    assert "no Grafana that starts" in line
    assert grafana.problems(_unpacked(tmp_path, "something else")) == [line]


def test_running_stack_is_known_to_have_one_where_the_variable_is_gone(tmp_path: Path) -> None:
    started = NativeStack({**_unpacked(tmp_path, ""), "STATE_DIR": str(tmp_path)})
    record(started.facts)
    later = NativeStack(recorded(facts.load({"STATE_DIR": str(tmp_path)})))
    assert later.parts == started.parts


def test_without_a_password_there_is_no_user_and_with_one_there_is() -> None:
    switch = "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"
    assert switch not in grafana.environment(facts.load({}), {"GRAFANA_ADMIN_PASSWORD": ""})
    given = {"GRAFANA_ADMIN_PASSWORD": "long enough"}
    assert grafana.environment(facts.load({}), given)[switch] == "false"


def test_password_is_not_among_the_facts_that_are_written_to_disk() -> None:
    assert "secret" not in facts.load({"GRAFANA_ADMIN_PASSWORD": "secret"}).values()


@pytest.mark.parametrize(
    ("publish", "anonymous"),
    [
        ("", None),
        ("127.0.0.2", None),
        ("localhost", None),
        ("0.0.0.0", "false"),  # noqa: S104
        ("203.0.113.7", "false"),
    ],
)
def test_nobody_looks_without_a_login_where_others_reach_it(
    publish: str, anonymous: str | None
) -> None:
    changed = grafana.environment(facts.load({"PUBLISH_HOST": publish}), {})
    assert changed.get("GF_AUTH_ANONYMOUS_ENABLED") == anonymous
