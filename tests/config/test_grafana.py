"""Grafana's settings and provisioning, the same for both ways to run."""

import configparser
import os
import re
from pathlib import Path
from typing import Any

import pytest

from chatscope.names import METRICS
from tests.config.files import (
    COLLECTOR,
    DATASOURCES,
    GRAFANA,
    GRAFANA_INI,
    PROCESSES,
    PROMETHEUS,
    parsed,
)

_PROVISIONED = ("datasources", "dashboards", "plugins", "alerting")
_LINK = {"datasourceUid": str}
_SHIFTS = {"spanStartTimeShift": str, "spanEndTimeShift": str}
# Properties and types of jsonData in the sources of Grafana 12.3, as far as they are used:
# PromOptions, LokiOptions with DerivedFieldConfig, TempoJsonData with TraceToLogsOptionsV2,
# TraceToMetricsOptions and TraceqlFilter, and AlertManagerDataSourceJsonData. Unknown names are
# silently ignored.
_JSON_DATA: dict[str, Any] = {
    "prometheus": {
        "httpMethod": str,
        "prometheusType": str,
        "timeInterval": str,
        "exemplarTraceIdDestinations": [{**_LINK, "name": str, "urlDisplayLabel": str}],
    },
    "loki": {
        "derivedFields": [
            {
                **_LINK,
                "name": str,
                "matcherType": str,
                "matcherRegex": str,
                "url": str,
                "urlDisplayLabel": str,
            }
        ],
    },
    "tempo": {
        "tracesToLogsV2": {**_LINK, **_SHIFTS, "customQuery": bool, "query": str},
        "tracesToMetrics": {
            **_LINK,
            **_SHIFTS,
            "tags": [{"key": str, "value": str}],
            "queries": [{"name": str, "query": str}],
        },
        "serviceMap": _LINK,
        "nodeGraph": {"enabled": bool},
        "search": {"filters": [{"id": str, "scope": str, "tag": str, "operator": str}]},
    },
    "alertmanager": {"implementation": str},
}


def settings(path: Path) -> dict[tuple[str, str], str]:
    """Yield each key with its section, as Grafana reads them; none before the first section."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # dialTimeout is no dialtimeout
    parser.read_string("[DEFAULT]\n" + path.read_text().replace('"""', '"'))
    return {(name, key): parser[name][key] for name in parser.sections() for key in parser[name]}


@pytest.fixture(scope="module")
def ini() -> dict[tuple[str, str], str]:
    return settings(GRAFANA_INI)


def test_grafana_makes_no_external_connection(ini: dict[tuple[str, str], str]) -> None:
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
        # The default home page has a panel of news.
        ("users", "home_page"): "/d/home",
    }.items() <= ini.items()


def test_anonymous_user_is_a_viewer_with_explore(
    ini: dict[tuple[str, str], str],
) -> None:
    assert ini["auth.anonymous", "enabled"] == "true"
    assert ini["auth.anonymous", "org_role"] == "Viewer"
    assert ini["users", "viewers_can_edit"] == "true"


def test_no_default_password_is_accepted(ini: dict[tuple[str, str], str]) -> None:
    assert ini["security", "disable_initial_admin_creation"] == "true"
    assert ini["security", "admin_password"] == "$__env{GRAFANA_ADMIN_PASSWORD}"


def test_addresses_come_from_the_environment(
    ini: dict[tuple[str, str], str], stack_env: dict[str, str]
) -> None:
    names = set(re.findall(r"\$__env{(\w+)}", GRAFANA_INI.read_text()))
    assert names - {"GRAFANA_ADMIN_PASSWORD"} <= set(stack_env)
    for key in ("http_addr", "http_port"):
        assert ini["server", key].startswith("$__env{")


def test_it_is_served_at_its_public_address_with_its_path(ini: dict[tuple[str, str], str]) -> None:
    # If that address has no path, Grafana is served at the root.
    assert ini["server", "root_url"] == "$__env{GRAFANA_PUBLIC_URL}"
    assert ini["server", "serve_from_sub_path"] == "true"


def test_its_log_is_its_output_alone(ini: dict[tuple[str, str], str]) -> None:
    assert ini["log", "mode"] == "console"


def test_paths_are_set_by_the_environment(ini: dict[tuple[str, str], str]) -> None:
    # The official image sets GF_PATHS_*, which override the file.
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
        **{uid: (uid, f"${uid.upper()}_URL") for uid in ("loki", "tempo")},
        **{uid: (uid, f"$GATEWAY_URL/{uid}") for uid in ("prometheus", "alertmanager")},
    }
    assert {source["url"][1:].partition("/")[0] for source in found.values()} <= set(stack_env)
    for source in found.values():
        # Each password is checked by the gateway, which restricts Grafana's requests.
        assert (source["basicAuth"], source["basicAuthUser"]) == (True, "grafana")
        assert source["secureJsonData"] == {"basicAuthPassword": "$BACKENDS_PASSWORD"}
    assert not any(source["editable"] for source in found.values())
    assert [uid for uid, source in found.items() if source.get("isDefault")] == ["prometheus"]
    assert found["alertmanager"]["jsonData"]["implementation"] == "prometheus"


def _unlike(found: Any, known: Any, place: str) -> list[str]:
    """Yield each setting whose name or type Grafana does not know."""
    if isinstance(known, dict) and isinstance(found, dict):
        strange = [f"{place}.{key}" for key in found if key not in known]
        return strange + [
            problem
            for key in found
            if key in known
            for problem in _unlike(found[key], known[key], f"{place}.{key}")
        ]
    if isinstance(known, list) and isinstance(found, list):
        return [problem for item in found for problem in _unlike(item, known[0], place)]
    return [] if isinstance(known, type) and isinstance(found, known) else [place]


def _targets(value: Any) -> list[str]:
    """Yield every datasource that a nested setting refers to."""
    if isinstance(value, dict):
        own = [value["datasourceUid"]] if "datasourceUid" in value else []
        return own + [uid for inner in value.values() for uid in _targets(inner)]
    if isinstance(value, list):
        return [uid for inner in value for uid in _targets(inner)]
    return []


@pytest.fixture(scope="module")
def json_data() -> dict[str, Any]:
    """Return the jsonData of each datasource, by UID."""
    return {source["uid"]: source["jsonData"] for source in parsed(DATASOURCES)["datasources"]}


def test_datasources_have_no_setting_that_grafana_does_not_know(json_data: dict[str, Any]) -> None:
    assert _unlike(json_data, _JSON_DATA, "") == []


def test_links_of_datasources_lead_to_datasources(json_data: dict[str, Any]) -> None:
    targets = _targets(json_data)
    assert len(targets) >= 6
    assert set(targets) <= set(json_data)


def test_metrics_that_a_span_leads_to_are_in_the_registry(json_data: dict[str, Any]) -> None:
    known = {metric.prometheus for metric in METRICS}
    known |= {f"{name}_bucket" for name in known}
    # The Collector's names of span metrics, with its default namespace.
    assert "namespace" not in parsed(COLLECTOR)["connectors"]["span_metrics"]
    known |= {"traces_span_metrics_calls_total", "traces_span_metrics_duration_seconds_bucket"}
    for query in json_data["tempo"]["tracesToMetrics"]["queries"]:
        used = re.findall(r"\brate\((\w+)\{", query["query"])
        assert used, query
        assert set(used) <= known


def test_metrics_are_read_no_finer_than_the_parts_are_scraped(json_data: dict[str, Any]) -> None:
    scraped = parsed(PROMETHEUS)["global"]["scrape_interval"]
    assert json_data["prometheus"]["timeInterval"] == scraped


@pytest.mark.parametrize("name", _PROVISIONED)
def test_each_folder_that_grafana_looks_for_has_one_file_that_it_takes(name: str) -> None:
    # Without the folder it logs an error at each start; for any other file a warning.
    files = list((GRAFANA / name).iterdir())
    [own] = [file for file in files if file.suffix == ".yaml"]
    assert parsed(own)["apiVersion"] == 1
    # The dashboards are in the same folder as the file that names it.
    others = {file.suffix for file in files if file != own}
    assert others <= ({".json"} if name == "dashboards" else set())
