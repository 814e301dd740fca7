"""The chart of deploy/kubernetes: network policies, files for other components, and its page."""

import base64
import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from stack.facts import ROOT
from tests.config.charts import (
    CHART,
    EVERYTHING,
    NAME,
    PAGE,
    SCALED,
    STACK,
    Helm,
    Object,
    Render,
    one,
)
from tests.config.files import (
    COLLECTOR,
    DATASOURCES,
    GRAFANA,
    GRAFANA_INI,
    LOKI,
    TEMPO,
    parsed,
)

# Of a Secret, in which helm keeps a release with all files of its chart.
_LARGEST_RELEASE = 2**20


# -- network policies ---------------------------------------------------------------------


def _allowed(policy: Object) -> Iterator[tuple[str, str, str]]:
    """Yield component, port and client of a policy."""
    component = policy["spec"]["podSelector"]["matchLabels"][NAME]
    for rule in policy["spec"]["ingress"] or ():
        # A rule without one of the two would allow everything.
        assert rule["from"]
        assert rule["ports"]
        for peer in rule["from"]:
            client = peer.get("podSelector", {}).get("matchLabels", {}).get(NAME, "ingress")
            yield from ((component, str(port["port"]), client) for port in rule["ports"])


def _documented() -> set[tuple[str, str, str]]:
    section = PAGE.partition("## Who may connect\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\w-]+) \| ([\w, ]+) \| ([\w, -]+) \|$", section, re.MULTILINE)[1:]
    return {
        (component, port, client)
        for component, ports, clients in rows
        for port in ports.split(", ")
        for client in clients.split(", ")
    }


def test_connections_are_allowed_as_documented_and_no_others(render: Render) -> None:
    objects = render(*STACK, **EVERYTHING)
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    assert all("Ingress" in policy["spec"]["policyTypes"] for policy in policies)
    assert {one for policy in policies for one in _allowed(policy)} == _documented()


def test_nothing_outside_is_allowed_by_default(render: Render) -> None:
    policies = [each for each in render(*STACK) if each["kind"] == "NetworkPolicy"]
    allowed = {one for policy in policies for one in _allowed(policy)}
    assert allowed == {one for one in _documented() if one[2] != "ingress"}
    assert one(render(*STACK), "NetworkPolicy", "chatscope-grafana")["spec"]["ingress"] == []


def test_service_connects_to_dns_collector_and_public_addresses_only(render: Render) -> None:
    policy = one(render(), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    dns, collector, public = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert collector["to"] == [{"podSelector": {"matchLabels": {NAME: "opentelemetry-collector"}}}]
    assert {port["port"] for port in public["ports"]} == {443}
    [old, new] = [each["ipBlock"] for each in public["to"]]
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"}
    assert private < set(old["except"])
    assert {"fc00::/7", "fe80::/10"} < set(new["except"])
    more = one(render(**EVERYTHING), "NetworkPolicy")["spec"]["egress"]
    assert more == [dns, collector, public, *EVERYTHING["networkPolicy"]["egress"]]


def test_without_policies_there_are_none(render: Render) -> None:
    objects = render(*STACK, networkPolicy={"enabled": False})
    assert not [each for each in objects if each["kind"] == "NetworkPolicy"]


# -- what other components load -----------------------------------------------------------


def test_files_of_the_chart_are_links_into_the_checkout() -> None:
    for path in (CHART / "files").iterdir():
        assert path.is_symlink(), f"{path.name} is a copy"
        assert path.resolve().is_relative_to(ROOT)
        assert not path.readlink().is_absolute()


def test_rules_are_those_of_prometheus(render: Render) -> None:
    files = sorted((ROOT / "prometheus" / "rules").glob("*.rules.yaml"))
    rules = [each for each in render(*STACK) if each["kind"] == "PrometheusRule"]
    assert {each["metadata"]["name"]: each["spec"] for each in rules} == {
        f"chatscope-{path.name.removesuffix('.rules.yaml')}": parsed(path) for path in files
    }


def _config_map(objects: list[Object], name: str) -> dict[str, str]:
    data: dict[str, str] = one(objects, "ConfigMap", name)["data"]
    return data


def test_dashboards_are_those_of_grafana(render: Render) -> None:
    found = {
        name: text
        for each in render(*STACK)
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    files = (GRAFANA / "dashboards").glob("*.json")
    assert found == {path.name: path.read_text() for path in files}


def test_configuration_files_are_those_of_the_stack(render: Render) -> None:
    data = _config_map(render(*STACK), "chatscope-config")
    rules = ROOT / "loki" / "rules" / "fake" / "logs.rules.yaml"
    # In place of sockets for the gateway.
    http = {"http_listen_network": "tcp", "http_listen_address": "0.0.0.0"}  # noqa: S104
    loki, tempo = parsed(LOKI), parsed(TEMPO)
    loki["server"] |= http
    tempo["server"] |= http
    grpc = {"transport": "tcp", "endpoint": "0.0.0.0:4317"}
    tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"] |= grpc
    assert yaml.safe_load(data.pop("config.yaml")) == loki
    assert yaml.safe_load(data.pop("tempo.yaml")) == tempo
    files = {"relay": COLLECTOR, "grafana.ini": GRAFANA_INI, rules.name: rules}
    assert data == {name: path.read_text() for name, path in files.items()}


def test_datasources_differ_in_addresses_only(render: Render) -> None:
    objects = render(*STACK)
    made = yaml.safe_load(_config_map(objects, "chatscope-datasources")["datasources.yaml"])
    assert {each["url"] for each in made["datasources"]} == {
        f"${name}_URL" for name in ("PROMETHEUS", "LOKI", "TEMPO", "ALERTMANAGER")
    }
    expected = parsed(DATASOURCES)
    for source, other in zip(expected["datasources"], made["datasources"], strict=True):
        source["url"] = other["url"]
    assert made == expected
    labels = one(objects, "ConfigMap", "chatscope-datasources")["metadata"]["labels"]
    assert labels["grafana_datasource"] == "1"


@pytest.mark.parametrize("options", [STACK, SCALED], ids=["stack", "scaled"])
def test_release_fits_into_its_secret(helm: Helm, options: tuple[str, ...]) -> None:
    """Helm stores the files and the objects, compressed, in one Secret."""
    manifest = helm("template", "chatscope", str(CHART), *options).stdout
    folders = os.walk(CHART, followlinks=True)
    files = [Path(folder, name) for folder, _, names in folders for name in names]
    contents = {
        str(path): base64.b64encode(path.read_bytes()).decode()
        for path in files
        # As in .helmignore.
        if not path.name.endswith(".test.yaml")
    }
    stored = gzip.compress(json.dumps({"files": contents, "manifest": manifest}).encode())
    assert len(base64.b64encode(stored)) < 0.8 * _LARGEST_RELEASE


# -- the page -----------------------------------------------------------------------------

# Variables of the page, except those that its commands set.
_SET = "token=abc; access_key=abc; secret_key=abc;"
_COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for command in re.findall(r"^(?:helm|kubectl) (?:.*\\\n)*.*\n", block, re.MULTILINE)
]


@pytest.mark.parametrize("command", _COMMANDS, ids=lambda command: " ".join(command.split()[:5]))
def test_command_of_the_page_works(
    binary: Callable[[str], Path], tmp_path: Path, command: str
) -> None:
    program = command.split(maxsplit=1)[0]
    done = subprocess.run(
        ["sh", "-euc", f"{_SET} {command.rstrip()} --dry-run=client"],
        cwd=ROOT,
        env={"PATH": f"{binary('helm').parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if program == "kubectl" and "not found" in done.stderr:
        pytest.skip("no kubectl")
    assert done.returncode == 0, done.stderr


def test_page_has_commands_for_the_chart_and_its_secrets() -> None:
    assert [command.split()[:3] for command in _COMMANDS] == [
        ["helm", "install", "chatscope"],
        ["kubectl", "create", "secret"],
        ["kubectl", "create", "secret"],
        ["helm", "install", "chatscope"],
        ["kubectl", "create", "secret"],
        ["helm", "install", "chatscope"],
    ]
