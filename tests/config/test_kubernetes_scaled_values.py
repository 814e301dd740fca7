"""deploy/kubernetes/values/scaled: the components run our files, find each other, and keep data."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stack.facts import ROOT, load
from stack.images import IMAGES
from tests.config.charts import SCALED, Render, one
from tests.config.files import (
    COMPOSE,
    DOCKER_TARGETS,
    KUBERNETES,
    PROMETHEUS,
    parsed,
    variables,
)

_VALUES = KUBERNETES / "values" / "scaled"
_SCALE = ROOT / "deploy" / "scale"
_TAGS = {image.part: image.tag for image in IMAGES}
_FACTS = load({"TOPOLOGY": "scaled"})
_COLLECTORS = ("agent", "probe", "gateway", "writer")
# Addresses and places of the cluster.
_OTHER = {
    *("APP_URL", "LOKI_URL", "TEMPO_OTLP_ENDPOINT", "ALERTMANAGER_URL", "GRAFANA_PUBLIC_URL"),
    *("STACK_HOST", "DATA_DIR", "SECRETS_DIR"),
    # Of the charts: Tempo's own port is 9095 in all of its Services.
    "TEMPO_GRPC_PORT",
}


def _values(name: str) -> Any:
    return parsed(_VALUES / f"{name}.yaml")


def _env(variables: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each.get("value", "from the cluster") for each in variables}


_ENV = {
    **{name: _env(_values(name)["extraEnvs"]) for name in _COLLECTORS},
    "loki": _env(_values("loki")["defaults"]["extraEnv"]),
    "tempo": _env(_values("tempo")["global"]["extraEnv"]),
}
_FILES = {
    "agent": (_SCALE / "agent.collector.yaml",),
    "probe": (_SCALE / "agent.collector.yaml", _SCALE / "node.collector.yaml"),
    "gateway": (_SCALE / "gateway.collector.yaml", _SCALE / "sampling.collector.yaml"),
    "writer": (_SCALE / "writer.collector.yaml",),
    "loki": (_SCALE / "loki.yaml",),
    "tempo": (_SCALE / "tempo.yaml",),
}


def _of_module(directory: str, module: str) -> str:
    """Return the version of a module that stack/ builds."""
    text = (ROOT / "stack" / directory / "go.mod").read_text()
    found = re.search(rf"{re.escape(module)} (v\S+)", text)
    assert found is not None
    return found[1]


# -- the same components ------------------------------------------------------------------


def test_releases_are_those_of_the_stack() -> None:
    for name in ("agent", "gateway", "writer"):
        assert _values(name)["image"]["tag"] == _TAGS["collector"]
    assert "image" not in _values("probe")  # that of agent.yaml
    assert _values("loki")["loki"]["image"]["tag"] == _TAGS["loki"]
    assert _values("tempo")["tempo"]["image"]["tag"] == _TAGS["tempo"]
    spec = _values("prometheus")["prometheus"]["prometheusSpec"]
    assert spec["image"]["tag"] == _TAGS["prometheus"]
    ruler = _values("prometheus")["thanosRuler"]["thanosRulerSpec"]
    thanos = _of_module("thanos", "github.com/thanos-io/thanos")
    assert {_values("thanos")["image"]["tag"], ruler["image"]["tag"], ruler["version"]} == {thanos}


@pytest.mark.parametrize("name", _FILES)
def test_each_variable_of_a_file_is_set_as_in_the_stack(name: str) -> None:
    env = _ENV[name]
    used = {each for file in _FILES[name] for each in variables(file)}
    # Our chart replaces the address of the object storage.
    assert used - {"S3_ADDRESS"} <= set(env)
    common = {each for each in env if each in _FACTS} - _OTHER - {"STACK_LISTEN"}
    assert {each: env[each] for each in common} == {each: _FACTS[each] for each in common}


def test_probe_has_the_variables_of_an_agent() -> None:
    assert _ENV["agent"].items() <= _ENV["probe"].items()
    assert _values("probe")["replicaCount"] == 1
    # During an update, two would write the same series.
    assert _values("probe")["rollout"]["strategy"] == "Recreate"


def test_prometheus_and_thanos_have_the_settings_of_the_stack() -> None:
    flags = dict(
        flag.removeprefix("--").partition("=")[::2]
        for flag in parsed(COMPOSE)["services"]["prometheus"]["command"]
    )
    query = {each for each in _values("thanos")["query"]["extraArgs"] if "tenan" not in each}
    assert query == {
        "--query.promql-engine=prometheus",
        f"--query.lookback-delta={flags['query.lookback-delta']}",
        f"--query.max-concurrent={flags['query.max-concurrency']}",
        f"--query.timeout={flags['query.timeout']}",
    }
    ours = parsed(PROMETHEUS)
    tsdb, exemplars = ours["storage"]["tsdb"], ours["storage"]["exemplars"]
    assert {
        f"--tsdb.out-of-order.time-window={tsdb['out_of_order_time_window']}",
        f"--tsdb.max-exemplars={exemplars['max_exemplars']}",
    } < set(_values("thanos")["receive"]["ingestor"]["extraArgs"])
    assert _values("thanos")["compact"]["extraArgs"] == [
        f"--retention.resolution-raw={_FACTS['RETENTION']}"
    ]
    spec = _values("prometheus")["prometheus"]["prometheusSpec"]
    assert spec["scrapeInterval"] == ours["global"]["scrape_interval"]
    assert spec["nameValidationScheme"].lower() == ours["global"]["metric_name_validation_scheme"]
    ruler = _values("prometheus")["thanosRuler"]["thanosRulerSpec"]
    assert ruler["evaluationInterval"] == ours["global"]["evaluation_interval"]
    assert ruler["ruleSelectorNilUsesHelmValues"] is False


def test_prometheus_scrapes_the_jobs_of_the_rules() -> None:
    jobs = _values("prometheus")["prometheus"]["prometheusSpec"]["additionalScrapeConfigs"]
    expected = {target["labels"]["job"] for target in parsed(DOCKER_TARGETS)}
    assert {job["job_name"] for job in jobs} == expected | {"thanos"}


def test_prometheus_may_reach_each_pod_that_it_scrapes(render: Render) -> None:
    jobs = _values("prometheus")["prometheus"]["prometheusSpec"]["additionalScrapeConfigs"]
    scraped = set()
    for job in jobs:
        *_, rule = job["relabel_configs"]
        names, *_, port = rule["regex"].split(";")
        scraped |= {(name, int(port)) for name in names.strip("()").split("|")}
    reached = set()
    for policy in render(*SCALED):
        if policy["kind"] != "NetworkPolicy":
            continue
        component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in policy["spec"]["ingress"] or ():
            if "prometheus-agent" in json.dumps(rule["from"]):
                reached |= {(component, port["port"]) for port in rule["ports"]}
    # It writes to the receivers.
    assert scraped == reached - {("thanos", 19291)}


# -- addresses ----------------------------------------------------------------------------


def test_agents_choose_among_all_gateways() -> None:
    gateway = _values("gateway")
    resolver = json.loads(_ENV["agent"]["GATEWAY_RESOLVER"])
    assert resolver == {
        "dns": {"hostname": gateway["fullnameOverride"], "port": _ENV["gateway"]["OTLP_GRPC_PORT"]}
    }
    # Through a Service with an address of its own, spans of a trace would reach several.
    assert gateway["service"]["clusterIP"] == "None"
    assert gateway["replicaCount"] > 1


def test_services_send_to_the_agent_of_their_node(render: Render) -> None:
    agent = _values("agent")
    assert agent["mode"] == "daemonset"
    assert agent["service"] == {"enabled": True, "internalTrafficPolicy": "Local"}
    [container] = one(render(*SCALED), "Deployment")["spec"]["template"]["spec"]["containers"]
    env = _env(container["env"])
    endpoint = f"http://{agent['fullnameOverride']}:{_ENV['agent']['OTLP_GRPC_PORT']}"
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
    # No port of the node is open.
    ports = [port for port in agent["ports"].values() if port.get("enabled", True)]
    assert [port.get("hostPort", "default") for port in ports] == [None, None, "default"]


def test_addresses_agree() -> None:
    charts = ("loki", "tempo", "thanos", "prometheus")
    names = {name: _values(name)["fullnameOverride"] for name in charts}
    writer, loki = _ENV["writer"], _ENV["loki"]
    assert writer["LOKI_URL"] == f"http://{names['loki']}-write:{loki['LOKI_PORT']}"
    assert writer["TEMPO_OTLP_ENDPOINT"] == f"{names['tempo']}-distributor:4317"
    receive = f"http://{names['thanos']}-receive-router:19291/api/v1/receive"
    assert writer["METRICS_WRITE_URL"] == loki["METRICS_WRITE_URL"] == receive
    prometheus = _values("prometheus")
    [remote] = prometheus["prometheus"]["prometheusSpec"]["remoteWrite"]
    assert remote["url"] == receive
    ruler = prometheus["thanosRuler"]["thanosRulerSpec"]
    grafana = {**parsed(KUBERNETES / "values" / "grafana.yaml")["env"], **_values("grafana")["env"]}
    query = f"http://{names['thanos']}-query:10902"
    assert grafana["PROMETHEUS_URL"] == query
    assert ruler["queryEndpoints"] == [query]
    adapter = _values("prometheus-adapter")["prometheus"]
    assert f"{adapter['url']}:{adapter['port']}" == query
    assert grafana["LOKI_URL"] == f"http://{names['loki']}-read:{loki['LOKI_PORT']}"
    frontend = f"{names['tempo']}-query-frontend"
    assert grafana["TEMPO_URL"] == f"http://{frontend}:{_ENV['tempo']['TEMPO_PORT']}"
    alertmanager = f"http://{names['prometheus']}-alertmanager:9093"
    assert {grafana["ALERTMANAGER_URL"], loki["ALERTMANAGER_URL"]} == {alertmanager}
    assert ruler["alertmanagersUrl"] == [alertmanager]
    assert loki["LOKI_GOSSIP"] == loki["LOKI_WRITE_GOSSIP"]
    assert loki["LOKI_GOSSIP"] == f"{names['loki']}-memberlist:{loki['GOSSIP_PORT']}"
    scheduler = f"{names['loki']}-query-scheduler-discovery:{loki['LOKI_GRPC_PORT']}"
    assert loki["LOKI_BACKEND"] == scheduler
    tempo = _values("tempo")["global"]["extraArgs"]
    assert f"-memberlist.host-port={names['tempo']}-gossip-ring:7946" in tempo
    port = _ENV["tempo"]["TEMPO_GRPC_PORT"]
    assert f"-querier.frontend-address={frontend}-discovery:{port}" in tempo


def test_components_read_the_config_maps_of_our_chart(render: Render) -> None:
    data = {
        each["metadata"]["name"]: set(each["data"])
        for each in render(*SCALED)
        if each["kind"] == "ConfigMap"
    }
    for name in ("agent", "gateway", "writer"):
        assert "relay" in data[_values(name)["configMap"]["existingName"]]
    assert _values("agent")["configMap"]["existingName"] == "chatscope-agent"
    [node] = [each for each in _values("probe")["extraVolumes"] if each["name"] == "node"]
    assert node["configMap"]["items"][0]["key"] in data[node["configMap"]["name"]]
    assert {"config.yaml", "logs.rules.yaml"} < data[_values("loki")["loki"]["configObjectName"]]
    tempo = _values("tempo")
    assert tempo["useExternalConfig"] is True
    assert {"tempo.yaml"} < data[tempo["externalConfigSecretName"]]
    assert {"overrides.yaml"} < data[tempo["externalRuntimeConfigName"]]


@pytest.mark.parametrize("name", _COLLECTORS)
def test_files_of_secrets_are_mounted(name: str) -> None:
    used = {
        tuple(found.split("/"))
        for file in _FILES[name]
        for found in re.findall(r"SECRETS_DIR\}/([\w/]+)", file.read_text())
    }
    volumes = {each["name"]: each for each in _values(name)["extraVolumes"]}
    mounted: set[tuple[str, ...]] = set()
    for mount in _values(name)["extraVolumeMounts"]:
        directory = mount["mountPath"].removeprefix(f"{_ENV[name]['SECRETS_DIR']}/")
        if "secret" not in volumes.get(mount["name"], ()):
            continue
        assert mount["readOnly"] is True
        keys = volumes[mount["name"]]["secret"].get("items")
        # Without a list, all keys are files: agents need most of them.
        mounted |= {(directory, each["key"]) for each in keys} if keys else {
            each for each in used if each[0] == directory
        }  # fmt: skip
    assert mounted == used


def test_the_tenant_is_the_same_everywhere() -> None:
    tenant = _ENV["writer"]["TENANT"]
    assert {_ENV["gateway"]["TENANT"], _values("grafana")["env"]["TENANT"]} == {tenant}
    rules = [
        mount["mountPath"]
        for mount in _values("loki")["backend"]["extraVolumeMounts"]
        if mount["name"] == "alert-rules"
    ]
    assert rules == [f"{_ENV['loki']['LOKI_RULES_DIR']}/{tenant}"]
    thanos = _values("thanos")
    header = "tenant-header=x-scope-orgid"
    for part in ("ingestor", "router"):
        arguments = thanos["receive"][part]["extraArgs"]
        assert {f"--receive.{header}", f"--receive.default-tenant-id={tenant}"} <= set(arguments)
    assert {
        "--query.enforce-tenancy",
        f"--query.{header}",
        f"--query.default-tenant-id={tenant}",
    } <= set(thanos["query"]["extraArgs"])
    ruler = _values("prometheus")["thanosRuler"]["thanosRulerSpec"]
    assert ruler["labels"] == {"tenant_id": tenant}


# -- what survives ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gateway", "writer"])
def test_queues_survive_the_pod(name: str) -> None:
    values = _values(name)
    assert values["mode"] == "statefulset"
    [claim] = values["statefulset"]["volumeClaimTemplates"]
    mounts = {each["name"]: each["mountPath"] for each in values["extraVolumeMounts"]}
    file = _FILES[name][0]
    directory = parsed(file)["extensions"]["file_storage/queue"]["directory"]
    path = directory.replace("${env:DATA_DIR}", _ENV[name]["DATA_DIR"])
    assert Path(path).is_relative_to(mounts[claim["metadata"]["name"]])
    queues = [
        each["sending_queue"]
        for each in parsed(file)["exporters"].values()
        if each.get("sending_queue", {}).get("storage")
    ]
    assert queues
    # The largest may be twice as large while it is compacted.
    needed = (len(queues) + 1) * int(_ENV[name]["COLLECTOR_QUEUE_BYTES"])
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) * 2**30 > needed


@pytest.mark.parametrize("name", ["agent", "probe"])
def test_queue_of_an_agent_is_bounded(name: str) -> None:
    [volume] = [each for each in _values(name)["extraVolumes"] if each["name"] == "queue"]
    limit = int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
    assert limit > 4 * int(_ENV[name]["COLLECTOR_QUEUE_BYTES"])
    # Nothing of the node is in reach.
    assert "hostPath:" not in (_VALUES / f"{name}.yaml").read_text()


def test_what_is_not_in_object_storage_yet_is_on_persistent_volumes() -> None:
    loki, tempo, thanos = (_values(name) for name in ("loki", "tempo", "thanos"))
    assert all(loki[part]["persistence"]["volumeClaimsEnabled"] for part in ("write", "backend"))
    assert all(tempo[part]["persistence"]["enabled"] for part in ("ingester", "metricsGenerator"))
    thanos_parts = (thanos["receive"]["ingestor"], thanos["storeGateway"], thanos["compact"])
    assert all(part["persistence"]["enabled"] for part in thanos_parts)
    # The default class of the cluster.
    assert {part["persistence"]["storageClass"] for part in thanos_parts} == {None}
    prometheus = _values("prometheus")
    assert prometheus["prometheus"]["prometheusSpec"]["storageSpec"]["volumeClaimTemplate"]
    assert prometheus["thanosRuler"]["thanosRulerSpec"]["storage"]["volumeClaimTemplate"]


def test_three_copies_need_three_replicas() -> None:
    thanos = _values("thanos")["receive"]
    assert thanos["replicationFactor"] == thanos["ingestor"]["replicas"] == 3
    assert _values("loki")["write"]["replicas"] >= 3
    assert _values("tempo")["ingester"]["replicas"] >= 3


def test_replicas_are_spread_and_drained_one_by_one() -> None:
    thanos = _values("thanos")
    parts = [
        _values("gateway"),
        _values("writer"),
        *(thanos["receive"][part] for part in ("ingestor", "router")),
        *(thanos[part] for part in ("query", "storeGateway")),
    ]
    for part in parts:
        assert part["podDisruptionBudget"] == {"enabled": True, "maxUnavailable": 1}
        keys = {each["topologyKey"] for each in part["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    for name in ("gateway", "writer"):
        values = _values(name)
        label = {"app.kubernetes.io/name": values["nameOverride"]}
        for each in values["topologySpreadConstraints"]:
            assert each["labelSelector"]["matchLabels"] == label
    for part in ("write", "read", "backend"):
        [zones] = _values("loki")[part]["topologySpreadConstraints"]
        assert zones["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == part
    ruler = _values("prometheus")["thanosRuler"]
    assert ruler["podDisruptionBudget"]["enabled"] is True
    assert ruler["thanosRulerSpec"]["replicas"] > 1
    assert len(ruler["thanosRulerSpec"]["topologySpreadConstraints"]) == 2
    operator = _values("kafka-operator")
    assert operator["podDisruptionBudget"]["enabled"] is True
    assert operator["replicas"] > operator["podDisruptionBudget"]["minAvailable"]


@pytest.mark.parametrize("name", ["agent", "gateway", "writer"])
def test_collectors_have_no_rights(name: str) -> None:
    values, small = _values(name), parsed(KUBERNETES / "values" / "collector.yaml")
    for key in ("podSecurityContext", "securityContext", "serviceAccount"):
        assert values[key] == small[key]
    assert values["resources"]["limits"] == small["resources"]["limits"]
