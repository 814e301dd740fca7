"""deploy/kubernetes/chart, rendered by helm, validated, and compared with what it promises."""

import base64
import gzip
import json
import math
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

import chatscope
from app.settings import Settings
from app.transport.deadline import AFTER_GRACE_SECONDS
from chatscope.names import ANSWERS_ACTIVE
from stack.build import run_go
from stack.facts import ROOT
from tests.config.files import (
    COLLECTOR,
    DATASOURCES,
    DOCKERFILE,
    GRAFANA,
    GRAFANA_INI,
    KUBERNETES,
    LOKI,
    TEMPO,
    parsed,
)

Object = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Render = Callable[..., list[Object]]

_CHART = KUBERNETES / "chart"
_STACK = ("--values", str(KUBERNETES / "values" / "chatscope.yaml"))
_PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
_NAME = "app.kubernetes.io/name"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The newest schemas in kubectl-validate, and the oldest version that the chart accepts.
_KUBERNETES = "1.30"
# The Go module with the definitions of the operator's types, and its checksum. It is in no go.mod,
# because kubectl-validate cannot be built with its dependencies.
_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_OPERATOR_SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
# Of a Secret, in which helm keeps a release with all files of its chart.
_LARGEST_RELEASE = 2**20
_FIELDS = {str(field.validation_alias): field for field in Settings.model_fields.values()}
_SECRETS = {name for name, field in _FIELDS.items() if field.annotation == SecretStr | None}
_FILES = {"KEYS_FILE", "MODELS_FILE", "PRICES_FILE"}
# A value for each setting of which the chart knows the type.
_TYPED = {
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    "PORT": 3001,
    "SHUTDOWN_GRACE_SECONDS": 7,
    "TELEMETRY_SPOOL_BYTES": 2**50,
}
_EVERYTHING: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "secrets": {name: {"name": "chatscope", "key": name.lower()} for name in sorted(_SECRETS)},
    "files": {
        "KEYS_FILE": {"secret": "chatscope", "key": "keys.toml"},
        "MODELS_FILE": {"configMap": "chatscope", "key": "models.toml"},
    },
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "podAnnotations": {"example.com/owner": "chat"},
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress-nginx"}}}],
        "egress": [
            {
                "to": [{"podSelector": {"matchLabels": {_NAME: "valkey"}}}],
                "ports": [{"port": 6379}],
            }
        ],
    },
}


@pytest.fixture(scope="module")
def helm(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run helm in the checkout, without a cluster and without the settings of the user."""
    home = tmp_path_factory.mktemp("helm")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary("helm"), *arguments],
            cwd=ROOT,
            env={"HOME": str(home), "KUBECONFIG": str(home / "none")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def render(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Return the objects of the chart with these options, and these values as keywords."""
    values_file = tmp_path_factory.mktemp("values") / "values.json"

    @cache
    def rendered(options: tuple[str, ...], values: str) -> str:
        values_file.write_text(values)
        command = ("template", "chatscope", str(_CHART), "--namespace", "prod")
        done = helm(*command, *options, "--values", str(values_file))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(*options: str, **values: Any) -> list[Object]:
        text = rendered(options, json.dumps(values))
        return [each for each in yaml.load_all(text, Loader=_LOADER) if each]

    return objects


@pytest.fixture(scope="module")
def validate(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[Object]], str]:
    """Return what the schemas of Kubernetes and of the operator reject."""
    program = binary("kubectl-validate")
    types = _types_of_the_operator(tmp_path_factory.mktemp("go"))

    def problems(objects: list[Object]) -> str:
        folder = tmp_path_factory.mktemp("objects")
        for number, each in enumerate(objects):
            (folder / f"{number}-{each['kind']}.json").write_text(json.dumps(each))
        done = subprocess.run(
            [program, folder, "--version", _KUBERNETES, "--local-crds", types],
            env={"HOME": str(folder), "KUBECONFIG": str(folder / "none")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.count(str(folder)) == len(objects)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return problems


def _types_of_the_operator(directory: Path) -> Path:
    """Return the folder of the operator's own definitions; download its module once."""
    done = run_go(["go", "mod", "download", "-json", _OPERATOR], directory)
    if done.returncode != 0:
        pytest.skip(f"{_OPERATOR} is neither on this machine nor at its proxy")
    module = json.loads(done.stdout)
    assert module["Sum"] == _OPERATOR_SUM
    return Path(module["Dir"]) / "example" / "prometheus-operator-crd"


def _one(objects: list[Object], kind: str, name: str = "chatscope") -> Object:
    [found] = [
        each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name
    ]
    return found


def _pod(objects: list[Object]) -> Object:
    pod: Object = _one(objects, "Deployment")["spec"]["template"]["spec"]
    return pod


def _container(objects: list[Object]) -> Object:
    [container] = _pod(objects)["containers"]
    return dict(container)


def _env(objects: list[Object]) -> dict[str, Any]:
    return {
        each["name"]: each.get("value", each.get("valueFrom"))
        for each in _container(objects)["env"]
    }


# -- the objects --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "values"), [((), {}), (_STACK, {}), (_STACK, _EVERYTHING)],
    ids=["defaults", "stack", "everything"],
)  # fmt: skip
def test_schemas_accept_every_object(
    render: Render, validate: Callable[[list[Object]], str], options: Any, values: Any
) -> None:
    assert validate(render(*options, **values)) == ""


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "livenesProbe"), {}),
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriodSeconds"), "30s"),
        ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), "ten"),
        ("NetworkPolicy", ("spec", "ingress", 0, "from"), "all"),
        ("PodDisruptionBudget", ("spec", "maxUnavailables"), 1),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "soon"),
        ("Service", ("spec", "ports", 0, "port"), "http"),
    ],
)
def test_schemas_reject_a_wrong_object(
    render: Render, validate: Callable[[list[Object]], str], kind: str, path: Any, value: Any
) -> None:
    wrong = next(each for each in render(*_STACK) if each["kind"] == kind)
    *steps, last = path
    place: Any = wrong
    for step in steps:
        place = place[step]
    place[last] = value
    assert str(last) in validate([wrong])


def test_chart_passes_helms_own_check(helm: Helm) -> None:
    done = helm("lint", "--strict", str(_CHART), *_STACK)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", [{"enviroment": {}}, {"env": {"MAX_ANSWERS": [1]}}])
def test_unknown_value_is_refused(helm: Helm, tmp_path: Path, values: Object) -> None:
    (tmp_path / "values.json").write_text(json.dumps(values))
    done = helm("template", str(_CHART), "--values", str(tmp_path / "values.json"))
    assert done.returncode != 0
    assert re.search("enviroment|MAX_ANSWERS", done.stderr)


def test_every_selector_finds_the_pods(render: Render) -> None:
    objects = render(*_STACK)
    labels = _one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    places = [
        ("Deployment", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ]
    selectors = [_one(objects, kind)["spec"][key]["matchLabels"] for kind, key in places]
    spread = _pod(objects)["topologySpreadConstraints"]
    selectors += [each["labelSelector"]["matchLabels"] for each in spread]
    selectors.append(_one(objects, "Service")["spec"]["selector"])
    assert len(selectors) == 6
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_replicas_are_on_several_nodes_and_zones_and_drained_one_by_one(render: Render) -> None:
    spread = _pod(render())["topologySpreadConstraints"]
    keys = {each["topologyKey"] for each in spread}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert {each["maxSkew"] for each in spread} == {1}
    assert _one(render(), "Deployment")["spec"]["replicas"] >= 2
    assert _one(render(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_version_of_the_chart_is_that_of_the_service(render: Render) -> None:
    assert parsed(_CHART / "Chart.yaml")["appVersion"] == chatscope.__version__
    assert _container(render())["image"] == f"chatscope-app:{chatscope.__version__}"
    assert f"chatscope-app:{chatscope.__version__}" in _PAGE


# -- the pod ------------------------------------------------------------------------------


def test_pod_has_no_rights(render: Render) -> None:
    pod, container = _pod(render()), _container(render())
    [user] = re.findall(r"^USER (\d+):\d+$", DOCKERFILE.read_text().partition("AS app\n")[2], re.M)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(user),
        "fsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(pod)
    assert container["resources"]["limits"]["memory"]


def test_probes_ask_for_health_and_readiness(render: Render) -> None:
    container = _container(render())
    asked = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert asked == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 30
    # One slow response restarts nothing.
    assert container["livenessProbe"]["failureThreshold"] > 1


@pytest.mark.parametrize("grace", [0, 4, 2.5, 19, 604800])
@pytest.mark.parametrize("drain", [0, 5])
def test_pod_is_killed_only_after_it_has_ended_itself(
    render: Render, grace: float, drain: int
) -> None:
    objects = render(env={"SHUTDOWN_GRACE_SECONDS": grace}, drainSeconds=drain)
    assert float(_env(objects)["SHUTDOWN_GRACE_SECONDS"]) == grace
    period = _pod(objects)["terminationGracePeriodSeconds"]
    assert period == drain + math.ceil(grace) + AFTER_GRACE_SECONDS + 1
    stop = _container(objects).get("lifecycle", {}).get("preStop")
    assert stop == ({"sleep": {"seconds": drain}} if drain else None)


def test_default_period_is_that_of_kubernetes(render: Render) -> None:
    assert _pod(render())["terminationGracePeriodSeconds"] == 30


@pytest.mark.parametrize("size", [None, 2**20, 2**50])
def test_spool_has_a_volume_that_is_twice_as_large(render: Render, size: int | None) -> None:
    objects = render(**({"env": {"TELEMETRY_SPOOL_BYTES": size}} if size else {}))
    env = _env(objects)
    wanted = size or _FIELDS["TELEMETRY_SPOOL_BYTES"].default
    assert env["TELEMETRY_SPOOL_BYTES"] == str(wanted)
    [volume] = [each for each in _pod(objects)["volumes"] if "emptyDir" in each]
    assert int(volume["emptyDir"]["sizeLimit"]) == 2 * wanted
    [mount] = [each for each in _container(objects)["volumeMounts"] if each["name"] == "data"]
    assert env["TELEMETRY_SPOOL_DIR"].startswith(mount["mountPath"] + "/")


# -- settings and secrets -----------------------------------------------------------------


def test_service_accepts_the_default_settings(render: Render, tmp_path: Path) -> None:
    environ = {**_env(render()), "TELEMETRY_SPOOL_DIR": str(tmp_path)}
    settings = Settings.read(environ)
    assert settings.port == _container(render())["ports"][0]["containerPort"]
    # As the Service is called, also by the Collector.
    assert settings.allowed_hosts == ("chatscope", "chatscope.prod", "chatscope.prod.svc")
    assert environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] == "NO_CONTENT"


def test_every_setting_reaches_the_service(render: Render) -> None:
    plain = set(_FIELDS) - _SECRETS - _FILES
    values = {name: _TYPED.get(name, f"value of {name}") for name in sorted(plain)}
    references = {"secrets": _EVERYTHING["secrets"]}
    files = {name: {"secret": "files", "key": name.lower()} for name in sorted(_FILES)}
    objects = render(env=values, files=files, **references)
    env = _env(objects)
    assert env.pop("ALLOWED_HOSTS").endswith(",value of ALLOWED_HOSTS")
    assert {name: env[name] for name in plain - {"ALLOWED_HOSTS"}} == {
        name: str(values[name]) for name in plain - {"ALLOWED_HOSTS"}
    }
    assert {name: env[name] for name in _SECRETS} == {
        name: {"secretKeyRef": reference} for name, reference in _EVERYTHING["secrets"].items()
    }
    [volume] = [each for each in _pod(objects)["volumes"] if each["name"] == "files"]
    sources = [each["secret"] for each in volume["projected"]["sources"]]
    mounted = {source["items"][0]["path"]: source["items"][0]["key"] for source in sources}
    assert mounted == {name: name.lower() for name in _FILES}
    [mount] = [each for each in _container(objects)["volumeMounts"] if each["name"] == "files"]
    assert {name: env[name] for name in _FILES} == {
        name: f"{mount['mountPath']}/{name}" for name in _FILES
    }
    # A file that is mounted by subPath would not change.
    assert "subPath" not in mount
    assert set(env) == plain - {"ALLOWED_HOSTS"} | _SECRETS | _FILES | {
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    }


@pytest.mark.parametrize(
    "name", [*sorted(_SECRETS), "ANTHROPIC_API_KEY", "OTEL_EXPORTER_OTLP_HEADERS"]
)
def test_secret_is_refused_as_a_value(helm: Helm, name: str) -> None:
    done = helm("template", str(_CHART), "--set-string", f"env.{name}=abc")
    assert done.returncode != 0
    assert f"give the name of a Secret in secrets.{name}" in done.stderr


def test_chart_has_no_secret(render: Render) -> None:
    assert not [each for each in render(*_STACK, **_EVERYTHING) if each["kind"] == "Secret"]


# -- scaling ------------------------------------------------------------------------------


def test_replicas_follow_the_responses_in_progress(render: Render) -> None:
    objects = render(*_STACK)
    scaler = _one(objects, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "chatscope"
    # Otherwise each upgrade of the release would set it back.
    assert "replicas" not in _one(objects, "Deployment")["spec"]
    [metric] = [each["external"] for each in scaler["metrics"]]
    assert metric["metric"]["name"] == ANSWERS_ACTIVE.prometheus
    name = _FIELDS["OTEL_SERVICE_NAME"].default
    assert metric["metric"]["selector"] == {"matchLabels": {"service_name": name}}
    assert metric["target"]["type"] == "AverageValue"
    assert int(metric["target"]["averageValue"]) < _FIELDS["MAX_ANSWERS"].default
    other = render(*_STACK, env={"OTEL_SERVICE_NAME": "chat"})
    [metric] = [
        each["external"]
        for each in _one(other, "HorizontalPodAutoscaler")["spec"]["metrics"]
    ]  # fmt: skip
    assert metric["metric"]["selector"] == {"matchLabels": {"service_name": "chat"}}


# -- network policies ---------------------------------------------------------------------


def _allowed(policy: Object) -> Iterator[tuple[str, str, str]]:
    """Yield component, port and client of a policy."""
    component = policy["spec"]["podSelector"]["matchLabels"][_NAME]
    for rule in policy["spec"]["ingress"] or ():
        # A rule without one of the two would allow everything.
        assert rule["from"]
        assert rule["ports"]
        for peer in rule["from"]:
            client = peer.get("podSelector", {}).get("matchLabels", {}).get(_NAME, "ingress")
            yield from ((component, str(port["port"]), client) for port in rule["ports"])


def _documented() -> set[tuple[str, str, str]]:
    section = _PAGE.partition("## Who may connect\n")[2]
    rows = re.findall(r"^\| ([\w-]+) \| ([\w, ]+) \| ([\w, -]+) \|$", section, re.MULTILINE)[1:]
    return {
        (component, port, client)
        for component, ports, clients in rows
        for port in ports.split(", ")
        for client in clients.split(", ")
    }


def test_connections_are_allowed_as_documented_and_no_others(render: Render) -> None:
    objects = render(*_STACK, **_EVERYTHING)
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    assert all("Ingress" in policy["spec"]["policyTypes"] for policy in policies)
    assert {one for policy in policies for one in _allowed(policy)} == _documented()


def test_nothing_outside_is_allowed_by_default(render: Render) -> None:
    policies = [each for each in render(*_STACK) if each["kind"] == "NetworkPolicy"]
    allowed = {one for policy in policies for one in _allowed(policy)}
    assert allowed == {one for one in _documented() if one[2] != "ingress"}
    assert _one(render(*_STACK), "NetworkPolicy", "chatscope-grafana")["spec"]["ingress"] is None


def test_service_connects_to_dns_collector_and_public_addresses_only(render: Render) -> None:
    policy = _one(render(), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    dns, collector, public = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert collector["to"] == [{"podSelector": {"matchLabels": {_NAME: "opentelemetry-collector"}}}]
    assert {port["port"] for port in public["ports"]} == {443}
    [old, new] = [each["ipBlock"] for each in public["to"]]
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"}
    assert private < set(old["except"])
    assert {"fc00::/7", "fe80::/10"} < set(new["except"])
    more = _one(render(**_EVERYTHING), "NetworkPolicy")["spec"]["egress"]
    assert more == [dns, collector, public, *_EVERYTHING["networkPolicy"]["egress"]]


def test_without_policies_there_are_none(render: Render) -> None:
    objects = render(*_STACK, networkPolicy={"enabled": False})
    assert not [each for each in objects if each["kind"] == "NetworkPolicy"]


# -- what other components load -----------------------------------------------------------


def test_files_of_the_chart_are_links_into_the_checkout() -> None:
    for path in (_CHART / "files").iterdir():
        assert path.is_symlink(), f"{path.name} is a copy"
        assert path.resolve().is_relative_to(ROOT)
        assert not path.readlink().is_absolute()


def test_rules_are_those_of_prometheus(render: Render) -> None:
    files = sorted((ROOT / "prometheus" / "rules").glob("*.rules.yaml"))
    rules = [each for each in render(*_STACK) if each["kind"] == "PrometheusRule"]
    assert {each["metadata"]["name"]: each["spec"] for each in rules} == {
        f"chatscope-{path.name.removesuffix('.rules.yaml')}": parsed(path) for path in files
    }


def _config_map(objects: list[Object], name: str) -> dict[str, str]:
    data: dict[str, str] = _one(objects, "ConfigMap", name)["data"]
    return data


def test_dashboards_are_those_of_grafana(render: Render) -> None:
    found = {
        name: text
        for each in render(*_STACK)
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    files = (GRAFANA / "dashboards").glob("*.json")
    assert found == {path.name: path.read_text() for path in files}


def test_configuration_files_are_those_of_the_stack(render: Render) -> None:
    data = _config_map(render(*_STACK), "chatscope-config")
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
    objects = render(*_STACK)
    made = yaml.safe_load(_config_map(objects, "chatscope-datasources")["datasources.yaml"])
    assert {each["url"] for each in made["datasources"]} == {
        f"${name}_URL" for name in ("PROMETHEUS", "LOKI", "TEMPO", "ALERTMANAGER")
    }
    expected = parsed(DATASOURCES)
    for source, other in zip(expected["datasources"], made["datasources"], strict=True):
        source["url"] = other["url"]
    assert made == expected
    labels = _one(objects, "ConfigMap", "chatscope-datasources")["metadata"]["labels"]
    assert labels["grafana_datasource"] == "1"


def test_release_fits_into_its_secret(helm: Helm) -> None:
    """Helm stores the files and the objects, compressed, in one Secret."""
    manifest = helm("template", "chatscope", str(_CHART), *_STACK).stdout
    folders = os.walk(_CHART, followlinks=True)
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

_COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    for command in re.findall(r"^(?:helm|kubectl) (?:.*\\\n)*.*\n", block, re.MULTILINE)
]


@pytest.mark.parametrize("command", _COMMANDS, ids=lambda command: " ".join(command.split()[:5]))
def test_command_of_the_page_works(
    binary: Callable[[str], Path], tmp_path: Path, command: str
) -> None:
    program = command.split(maxsplit=1)[0]
    done = subprocess.run(
        ["sh", "-euc", f"token=abc; {command.rstrip()} --dry-run=client"],
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
    ]
