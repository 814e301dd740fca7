"""The scaled stack on Kubernetes: objects of our chart, the manifest of Kafka, and the page."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml

from stack.facts import ROOT
from tests.config import strimzi
from tests.config.charts import EVERYTHING, NAME, PAGE, SCALED, STACK, Helm, Object, Render, one
from tests.config.files import KUBERNETES, parsed
from tests.config.schemas import Schemas, SchemasError

VALUES = KUBERNETES / "values" / "scaled"
_SCALE = ROOT / "deploy" / "scale"
_KAFKA = KUBERNETES / "kafka.yaml"
_SECTION = PAGE.partition("## The scaled stack\n")[2].partition("\n## ")[0]
_STORAGE = parsed(VALUES / "chatscope.yaml")["stack"]["objectStorage"]


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Object]], str]:
    """Return what the schemas of Kubernetes and of the operators reject."""
    definitions = tmp_path_factory.mktemp("strimzi")
    try:
        strimzi.write_definitions(definitions)
        schemas = Schemas(tmp_path_factory.mktemp("go"), definitions)
    except (SchemasError, strimzi.StrimziError) as error:
        pytest.skip(str(error))
    return lambda objects: "\n".join(each for one in objects for each in schemas.problems(one))


def _kafka() -> list[Object]:
    return list(yaml.safe_load_all(_KAFKA.read_text()))


def _values(name: str) -> Any:
    return parsed(VALUES / f"{name}.yaml")


def _env(name: str) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in _values(name)["extraEnvs"]}


def _expanded(value: Any, env: Mapping[str, str]) -> Any:
    """Return a configuration with the variables of the environment, as the Collector reads it."""
    text = re.sub(r"\$\{env:(\w+)\}", lambda found: env.get(found[1], ""), yaml.safe_dump(value))
    return yaml.safe_load(text)


# -- our chart ----------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["scaled", "everything"])
def test_schemas_accept_every_object(
    render: Render, validate: Callable[[list[Object]], str], values: Any
) -> None:
    assert validate(render(*SCALED, **values)) == ""


def _config_map(objects: list[Object], name: str) -> dict[str, str]:
    data: dict[str, str] = one(objects, "ConfigMap", name)["data"]
    return data


def test_collectors_run_the_files_of_the_scaled_stack(render: Render) -> None:
    objects = render(*SCALED)
    for name in ("agent", "gateway", "writer"):
        data = _config_map(objects, f"chatscope-{name}")
        expected = (_SCALE / f"{name}.collector.yaml").read_text()
        # Strimzi has users for SCRAM, not for PLAIN.
        parts = expected.split("mechanism: PLAIN")
        assert len(parts) == {"agent": 1, "gateway": 4, "writer": 2}[name]
        made, plain = yaml.safe_load(data["relay"]), yaml.safe_load(expected)
        if name == "writer":
            # In place of the gateway in front of Loki.
            plain["exporters"]["otlp_http/loki"]["headers"]["x-scope-orgid"] = "${env:TENANT}"
        else:
            assert data["relay"] == "mechanism: SCRAM-SHA-512".join(parts)
        text = json.dumps(plain).replace('"PLAIN"', '"SCRAM-SHA-512"')
        assert made == json.loads(text)
    sampling = _config_map(objects, "chatscope-gateway")["sampling.yaml"]
    assert sampling == (_SCALE / "sampling.collector.yaml").read_text()
    node = _config_map(objects, "chatscope-agent")["node.yaml"]
    assert node == (_SCALE / "node.collector.yaml").read_text()
    # That of one Collector is not there: nothing may load it by mistake.
    assert "relay" not in _config_map(objects, "chatscope-config")


def test_loki_differs_in_sockets_copies_and_object_storage(render: Render) -> None:
    made = yaml.safe_load(_config_map(render(*SCALED), "chatscope-config")["config.yaml"])
    expected = parsed(_SCALE / "loki.yaml")
    http = {"http_listen_network": "tcp", "http_listen_address": "0.0.0.0"}  # noqa: S104
    expected["server"] |= http
    expected["common"]["replication_factor"] = 3
    expected["common"]["storage"]["s3"] |= {
        "endpoint": f"https://{_STORAGE['endpoint']}",
        "bucketnames": _STORAGE["buckets"]["loki"],
        "region": _STORAGE["region"],
        "access_key_id": "${S3_ACCESS_KEY}",
        "insecure": False,
    }
    assert made == expected


def test_tempo_differs_in_sockets_copies_and_object_storage(render: Render) -> None:
    made = yaml.safe_load(_config_map(render(*SCALED), "chatscope-config")["tempo.yaml"])
    expected = parsed(_SCALE / "tempo.yaml")
    http = {"http_listen_network": "tcp", "http_listen_address": "0.0.0.0"}  # noqa: S104
    expected["server"] |= http
    grpc = {"transport": "tcp", "endpoint": "0.0.0.0:4317"}
    expected["distributor"]["receivers"]["otlp"]["protocols"]["grpc"] |= grpc
    expected["ingester"]["lifecycler"]["ring"] = {"replication_factor": 3}
    # Between the Collector and the distributor, spans are not encrypted either.
    expected["storage"]["trace"]["s3"] |= {
        "endpoint": _STORAGE["endpoint"],
        "bucket": _STORAGE["buckets"]["tempo"],
        "region": _STORAGE["region"],
        "access_key": "${S3_ACCESS_KEY}",
        "insecure": False,
    }
    assert made == expected


def test_datasources_name_the_tenant(render: Render) -> None:
    one_machine, scaled = (
        yaml.safe_load(_config_map(render(*options), "chatscope-datasources")["datasources.yaml"])
        for options in (STACK, SCALED)
    )
    for source in one_machine["datasources"]:
        source["jsonData"]["httpHeaderName1"] = "X-Scope-OrgID"
        source["secureJsonData"]["httpHeaderValue1"] = "$TENANT"
    assert scaled == one_machine


def test_object_storage_without_tls_must_be_named(render: Render) -> None:
    storage = {"endpoint": "minio:9000", "insecure": True}
    data = _config_map(render(*SCALED, stack={"objectStorage": storage}), "chatscope-config")
    s3 = yaml.safe_load(data["config.yaml"])["common"]["storage"]["s3"]
    assert (s3["endpoint"], s3["insecure"]) == ("http://minio:9000", True)
    assert yaml.safe_load(data["tempo.yaml"])["storage"]["trace"]["s3"]["insecure"] is True


@pytest.mark.parametrize("endpoint", ["", "https://s3.example.com"])
def test_object_storage_needs_an_address_without_scheme(helm: Helm, endpoint: str) -> None:
    option = f"stack.objectStorage.endpoint={endpoint}"
    done = helm("template", "chatscope", str(KUBERNETES / "chart"), *SCALED, "--set", option)
    assert done.returncode != 0
    assert "endpoint" in done.stderr


# -- network policies ---------------------------------------------------------------------


def _peers(rule: Object) -> Iterator[str]:
    for peer in rule["from"]:
        yield peer.get("podSelector", {}).get("matchLabels", {}).get(NAME, "ingress")


def _allowed(policy: Object) -> Iterator[tuple[str, str, str]]:
    """Yield component, port and client of a policy."""
    labels = policy["spec"]["podSelector"]["matchLabels"]
    parts = (labels[NAME], labels.get("app.kubernetes.io/component"))
    component = "/".join(part for part in parts if part)
    for rule in policy["spec"]["ingress"] or ():
        # A rule without one of the two would allow everything.
        assert rule["from"]
        assert rule["ports"]
        for client in _peers(rule):
            yield from ((component, str(port["port"]), client) for port in rule["ports"])


def _documented() -> set[tuple[str, str, str]]:
    table = _SECTION.partition("**Connections.**")[2]
    rows = re.findall(r"^\| ([\w/-]+) \| ([\w, ]+) \| ([\w, -]+) \|$", table, re.MULTILINE)[1:]
    return {
        (component, port, client)
        for component, ports, clients in rows
        for port in ports.split(", ")
        for client in clients.split(", ")
    }


def _of_kafka() -> set[tuple[str, str, str]]:
    [listener] = one(_kafka(), "Kafka")["spec"]["kafka"]["listeners"]
    rule = {"from": listener["networkPolicyPeers"]}
    return {("kafka", str(listener["port"]), client) for client in _peers(rule)}


def test_connections_are_allowed_as_documented_and_no_others(render: Render) -> None:
    policies = [
        each for each in render(*SCALED, **EVERYTHING) if each["kind"] == "NetworkPolicy"
    ]  # fmt: skip
    assert all("Ingress" in policy["spec"]["policyTypes"] for policy in policies)
    allowed = {one for policy in policies for one in _allowed(policy)}
    assert allowed | _of_kafka() == _documented()
    assert {"prometheus-agent", "thanos", "loki", "tempo"} <= {
        policy["spec"]["podSelector"]["matchLabels"][NAME] for policy in policies
    }


def test_a_part_of_a_component_is_selected_by_both_labels(render: Render) -> None:
    policy = one(render(*SCALED), "NetworkPolicy", "chatscope-loki-write")
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        NAME: "loki",
        "app.kubernetes.io/component": "write",
    }


# -- Kafka --------------------------------------------------------------------------------


def test_schemas_accept_the_manifest_of_kafka(validate: Callable[[list[Object]], str]) -> None:
    assert {each["kind"] for each in _kafka()} == {
        *("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")
    }
    assert validate(_kafka()) == ""


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Kafka", ("spec", "kafka", "listeners", 0, "authentication", "type"), "plain"),
        ("Kafka", ("spec", "kafka", "replicas_"), 3),
        ("KafkaNodePool", ("spec", "roles", 0), "zookeeper"),
        ("KafkaTopic", ("spec", "partitions"), "many"),
        ("KafkaUser", ("spec", "authorization", "acls", 0, "operations", 0), "Everything"),
    ],
)
def test_schemas_reject_a_wrong_manifest_of_kafka(
    validate: Callable[[list[Object]], str], kind: str, path: Any, value: Any
) -> None:
    wrong = next(each for each in _kafka() if each["kind"] == kind)
    *steps, last = path
    place: Any = wrong
    for step in steps:
        place = place[step]
    place[last] = value
    assert validate([wrong]) != ""


def test_kafka_survives_one_broker_without_loss() -> None:
    pool = one(_kafka(), "KafkaNodePool", "broker")["spec"]
    assert (pool["replicas"], set(pool["roles"])) == (3, {"controller", "broker"})
    [volume] = pool["storage"]["volumes"]
    assert (volume["type"], volume["deleteClaim"]) == ("persistent-claim", False)
    kafka = one(_kafka(), "Kafka")["spec"]["kafka"]
    config = kafka["config"]
    assert config["min.insync.replicas"] == config["transaction.state.log.min.isr"] == 2
    assert {value for name, value in config.items() if name.endswith("replication.factor")} == {3}
    assert kafka["template"]["podDisruptionBudget"] == {"maxUnavailable": 1}
    topics = [each["spec"] for each in _kafka() if each["kind"] == "KafkaTopic"]
    assert {topic["replicas"] for topic in topics} == {3}
    assert {topic["config"]["min.insync.replicas"] for topic in topics} == {2}
    spread = pool["template"]["pod"]["topologySpreadConstraints"]
    # Two brokers on one node would be lost together.
    assert {each["topologyKey"]: each["whenUnsatisfiable"] for each in spread} == {
        "kubernetes.io/hostname": "DoNotSchedule",
        "topology.kubernetes.io/zone": "ScheduleAnyway",
    }


def test_topics_fit_onto_the_disks_of_the_brokers() -> None:
    pool = one(_kafka(), "KafkaNodePool", "broker")["spec"]
    [volume] = pool["storage"]["volumes"]
    topics = [each["spec"] for each in _kafka() if each["kind"] == "KafkaTopic"]
    used = sum(
        topic["partitions"]
        * topic["replicas"]
        * (topic["config"]["retention.bytes"] + topic["config"]["segment.bytes"])
        for topic in topics
    )
    assert volume["size"].endswith("Gi")
    assert used / pool["replicas"] < 0.9 * int(volume["size"][:-2]) * 2**30


def test_topics_are_those_of_the_collectors() -> None:
    gateway = _expanded(parsed(_SCALE / "gateway.collector.yaml"), _env("gateway"))
    writer = _expanded(parsed(_SCALE / "writer.collector.yaml"), _env("writer"))
    exporters = {
        name.partition("/")[2]: each
        for name, each in gateway["exporters"].items()
        if name.startswith("kafka/")
    }
    kinds = [each for each in _kafka() if each["kind"] == "KafkaTopic"]
    topics = {each["metadata"]["name"]: each["spec"] for each in kinds}
    assert {each[signal]["topic"] for signal, each in exporters.items()} == set(topics)
    receiver = writer["receivers"]["kafka"]
    assert {topic for signal in exporters for topic in receiver[signal]["topics"]} == set(topics)
    for topic in topics.values():
        for exporter in exporters.values():
            largest = exporter["producer"]["max_message_bytes"]
            assert topic["config"]["max.message.bytes"] >= largest
        # One of them has no work otherwise.
        assert topic["partitions"] >= _values("writer")["replicaCount"]
    kafka = one(_kafka(), "Kafka")["spec"]["kafka"]["config"]
    assert kafka["message.max.bytes"] == kafka["replica.fetch.max.bytes"] == largest
    hours = re.search(r"log\.retention\.hours=(\d+)", (_SCALE / "kafka.sh").read_text())
    assert hours is not None
    kept = {topic["config"]["retention.ms"] for topic in topics.values()}
    assert kept == {int(hours[1]) * 3_600_000}


def test_user_may_do_what_the_collectors_do() -> None:
    writer = _expanded(parsed(_SCALE / "writer.collector.yaml"), _env("writer"))
    receiver = writer["receivers"]["kafka"]
    user = one(_kafka(), "KafkaUser", receiver["auth"]["sasl"]["username"])["spec"]
    assert user["authentication"]["type"] == "scram-sha-512"
    acls = {each["resource"]["type"]: each for each in user["authorization"]["acls"]}
    assert {"Read", "Write", "Describe"} == set(acls["topic"]["operations"])
    assert {"Read", "Describe"} == set(acls["group"]["operations"])
    for kind, name in (("topic", receiver["traces"]["topics"][0]), ("group", receiver["group_id"])):
        assert acls[kind]["resource"]["patternType"] == "prefix"
        assert name.startswith(acls[kind]["resource"]["name"])
    spec = one(_kafka(), "Kafka")["spec"]
    [listener] = spec["kafka"]["listeners"]
    assert listener["authentication"] == user["authentication"]
    assert spec["kafka"]["authorization"]["type"] == user["authorization"]["type"]
    # The name of the Secret that the operator makes.
    secret = f"{spec['entityOperator']['userOperator']['secretPrefix']}chatscope"
    for name in ("gateway", "writer"):
        assert _env(name)["KAFKA_BROKER"] == f"chatscope-kafka-bootstrap:{listener['port']}"
        [volume] = [each for each in _values(name)["extraVolumes"] if each["name"] == "kafka"]
        assert volume["secret"]["secretName"] == secret


# -- the page -----------------------------------------------------------------------------


def test_page_names_the_same_version_of_a_chart_everywhere() -> None:
    rows = dict(
        re.findall(r"^\| `values/scaled/([\w-]+)\.yaml` \|.*\| `.*` ([\d.]+) \|$", _SECTION, re.M)
    )
    commands = re.findall(r"--version ([\d.]+) .*--values ([\w-]+)\.yaml$", _SECTION, re.M)
    assert {name: version for version, name in commands} == rows
    assert set(rows) | {"chatscope"} == {path.stem for path in VALUES.iterdir()}
    assert rows["kafka-operator"] == strimzi.VERSION
    # The same chart is in use for both stacks, in one version.
    small = dict(re.findall(r"^\| `values/[\w-]+\.yaml` \|.*\| `(.*)` ([\d.]+) \|$", PAGE, re.M))
    scaled = dict(re.findall(r"^\| `values/scaled/.*\| `(.*)` ([\d.]+) \|$", _SECTION, re.M))
    assert {chart: scaled[chart] for chart in scaled if chart in small} == {
        chart: version for chart, version in small.items() if chart in scaled
    }


def test_charts_are_installed_after_those_that_they_need() -> None:
    order = re.findall(r"^(?:helm install|kubectl apply) (\S+)", _SECTION, re.M)
    assert order[:4] == ["kafka-operator", "monitoring", "--namespace", "chatscope"]
    assert order.index("writer") > max(map(order.index, ("thanos", "loki", "tempo")))
    assert order.index("writer") < order.index("gateway") < order.index("collector")


def test_secret_of_the_object_storage_has_the_keys_that_are_used() -> None:
    [command] = re.findall(r"generic chatscope-object-storage (?:.*\\\n)*.*\n", _SECTION)
    created = set(re.findall(r"--from-literal=([\w.]+)=", command))
    used = {
        key
        for path in (*VALUES.iterdir(), *(KUBERNETES / "values").glob("*.yaml"))
        for key in re.findall(r"name: chatscope-object-storage, key: ([\w.]+)", path.read_text())
    }
    assert used == created
    thanos = re.search(r'--from-literal=thanos\.yaml="(.*)"', command)
    assert thanos is not None
    config = yaml.safe_load(thanos[1])["config"]
    assert (config["endpoint"], config["region"]) == (_STORAGE["endpoint"], _STORAGE["region"])
