"""Grafana's own settings and what it is provisioned with, the same for both ways to run."""

import configparser
import os
import re
from pathlib import Path

import pytest

from tests.config.files import DATASOURCES, GRAFANA, GRAFANA_INI, PROCESSES, parsed

_PROVISIONED = ("datasources", "dashboards", "plugins", "alerting")


def settings(path: Path) -> dict[tuple[str, str], str]:
    """Each key with its section, as Grafana reads them; above the first section there is none."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # dialTimeout is no dialtimeout
    parser.read_string("[DEFAULT]\n" + path.read_text().replace('"""', '"'))
    return {(name, key): parser[name][key] for name in parser.sections() for key in parser[name]}


@pytest.fixture(scope="module")
def ini() -> dict[tuple[str, str], str]:
    return settings(GRAFANA_INI)


def test_it_asks_nobody_outside_and_sends_nothing_there(ini: dict[tuple[str, str], str]) -> None:
    assert {
        ("analytics", "reporting_enabled"): "false",
        ("analytics", "check_for_updates"): "false",
        ("analytics", "check_for_plugin_updates"): "false",
        ("plugins", "preinstall_disabled"): "true",
        ("plugins", "plugin_admin_enabled"): "false",
        ("plugins", "public_key_retrieval_disabled"): "true",
        ("security", "disable_gravatar"): "true",
        ("news", "news_feed_enabled"): "false",
        ("snapshots", "external_enabled"): "false",
        ("public_dashboards", "enabled"): "false",
        # The page that is home unless another is named has a panel of news.
        ("users", "home_page"): "/explore",
    }.items() <= ini.items()


def test_who_does_not_log_in_may_look_and_ask_and_nothing_else(
    ini: dict[tuple[str, str], str],
) -> None:
    assert ini["auth.anonymous", "enabled"] == "true"
    assert ini["auth.anonymous", "org_role"] == "Viewer"
    assert ini["users", "viewers_can_edit"] == "true"


def test_no_password_that_everybody_knows_opens_it(ini: dict[tuple[str, str], str]) -> None:
    assert ini["security", "disable_initial_admin_creation"] == "true"
    assert ini["security", "admin_password"] == "$__env{GRAFANA_ADMIN_PASSWORD}"


def test_addresses_come_from_the_environment(
    ini: dict[tuple[str, str], str], stack_env: dict[str, str]
) -> None:
    names = set(re.findall(r"\$__env{(\w+)}", GRAFANA_INI.read_text()))
    assert names - {"GRAFANA_ADMIN_PASSWORD"} <= set(stack_env)
    for key in ("http_addr", "http_port", "root_url"):
        assert ini["server", key].startswith("$__env{")


def test_its_log_is_its_output_alone(ini: dict[tuple[str, str], str]) -> None:
    assert ini["log", "mode"] == "console"


def test_places_are_left_to_who_starts_it(ini: dict[tuple[str, str], str]) -> None:
    # The official image sets GF_PATHS_*, which win over the file.
    assert not [key for section, key in ini if section == "paths"]
    given = parsed(PROCESSES)["processes"]["grafana"]["environment"]
    assert "GF_PATHS_PROVISIONING=${REPO_DIR}/grafana-provisioning" in given
    assert "GF_PATHS_DATA=${DATA_DIR}/grafana" in given
    assert "GF_PATHS_PLUGINS=${DATA_DIR}/grafana/plugins" in given


def test_every_setting_is_one_that_grafana_knows(ini: dict[tuple[str, str], str]) -> None:
    home = os.environ.get("GRAFANA_HOME")
    if not home:
        pytest.skip("GRAFANA_HOME names no unpacked Grafana, whose conf/defaults.ini has them all")
    known = settings(Path(home) / "conf" / "defaults.ini")
    assert set(ini) - set(known) == set()


def test_datasources_have_fixed_uids_and_the_facts_addresses(stack_env: dict[str, str]) -> None:
    found = {source["uid"]: source for source in parsed(DATASOURCES)["datasources"]}
    assert {uid: (source["type"], source["url"]) for uid, source in found.items()} == {
        uid: (uid, f"${uid.upper()}_URL") for uid in ("prometheus", "loki", "tempo", "alertmanager")
    }
    assert {source["url"][1:] for source in found.values()} <= set(stack_env)
    assert not any(source["editable"] for source in found.values())
    assert [uid for uid, source in found.items() if source.get("isDefault")] == ["prometheus"]
    assert found["alertmanager"]["jsonData"]["implementation"] == "prometheus"


@pytest.mark.parametrize("name", _PROVISIONED)
def test_each_folder_that_grafana_looks_for_has_one_file_that_it_takes(name: str) -> None:
    # Without the folder it logs an error at each start; of any other file it warns.
    files = list((GRAFANA / name).iterdir())
    assert files
    for file in files:
        assert file.suffix == ".yaml"
        assert parsed(file)["apiVersion"] == 1
