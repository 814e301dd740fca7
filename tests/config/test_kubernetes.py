"""The chart of deploy/kubernetes, rendered by helm: valid objects, and the pod of the service."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chatscope
from app.settings import Settings
from app.transport.deadline import AFTER_GRACE_SECONDS
from chatscope.names import ANSWERS_ACTIVE
from tests.config.charts import (
    CHART,
    EVERYTHING,
    PAGE,
    SECRETS,
    STACK,
    Helm,
    Object,
    Render,
    one,
)
from tests.config.files import DOCKERFILE, parsed
from tests.config.schemas import Schemas, SchemasError

_FIELDS = {str(field.validation_alias): field for field in Settings.model_fields.values()}
_FILES = {"KEYS_FILE", "MODELS_FILE", "PRICES_FILE"}
# A value for each setting of which the chart knows the type.
_TYPED = {
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    "PORT": 3001,
    "SHUTDOWN_GRACE_SECONDS": 7,
    "TELEMETRY_SPOOL_BYTES": 2**50,
}


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Object]], str]:
    """Return what the schemas of Kubernetes and of the operator reject."""
    try:
        schemas = Schemas(tmp_path_factory.mktemp("go"))
    except SchemasError as error:
        pytest.skip(str(error))
    return lambda objects: "\n".join(each for one in objects for each in schemas.problems(one))


def _pod(objects: list[Object]) -> Object:
    pod: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
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
    ("options", "values"), [((), {}), (STACK, {}), (STACK, EVERYTHING)],
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
    wrong = next(each for each in render(*STACK) if each["kind"] == kind)
    *steps, last = path
    place: Any = wrong
    for step in steps:
        place = place[step]
    place[last] = value
    assert str(last) in validate([wrong])


def test_chart_passes_helms_own_check(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART), *STACK)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", [{"enviroment": {}}, {"env": {"MAX_ANSWERS": [1]}}])
def test_unknown_value_is_refused(helm: Helm, tmp_path: Path, values: Object) -> None:
    (tmp_path / "values.json").write_text(json.dumps(values))
    done = helm("template", str(CHART), "--values", str(tmp_path / "values.json"))
    assert done.returncode != 0
    assert re.search("enviroment|MAX_ANSWERS", done.stderr)


def test_every_selector_finds_the_pods(render: Render) -> None:
    objects = render(*STACK)
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    places = [
        ("Deployment", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ]
    selectors = [one(objects, kind)["spec"][key]["matchLabels"] for kind, key in places]
    spread = _pod(objects)["topologySpreadConstraints"]
    selectors += [each["labelSelector"]["matchLabels"] for each in spread]
    selectors.append(one(objects, "Service")["spec"]["selector"])
    assert len(selectors) == 6
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_replicas_are_on_several_nodes_and_zones_and_drained_one_by_one(render: Render) -> None:
    spread = _pod(render())["topologySpreadConstraints"]
    keys = {each["topologyKey"] for each in spread}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert {each["maxSkew"] for each in spread} == {1}
    assert one(render(), "Deployment")["spec"]["replicas"] >= 2
    assert one(render(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_version_of_the_chart_is_that_of_the_service(render: Render) -> None:
    assert parsed(CHART / "Chart.yaml")["appVersion"] == chatscope.__version__
    assert _container(render())["image"] == f"chatscope-app:{chatscope.__version__}"
    assert f"chatscope-app:{chatscope.__version__}" in PAGE


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
    plain = set(_FIELDS) - SECRETS - _FILES
    values = {name: _TYPED.get(name, f"value of {name}") for name in sorted(plain)}
    references = {"secrets": EVERYTHING["secrets"]}
    files = {name: {"secret": "files", "key": name.lower()} for name in sorted(_FILES)}
    objects = render(env=values, files=files, **references)
    env = _env(objects)
    assert env.pop("ALLOWED_HOSTS").endswith(",value of ALLOWED_HOSTS")
    assert {name: env[name] for name in plain - {"ALLOWED_HOSTS"}} == {
        name: str(values[name]) for name in plain - {"ALLOWED_HOSTS"}
    }
    assert {name: env[name] for name in SECRETS} == {
        name: {"secretKeyRef": reference} for name, reference in EVERYTHING["secrets"].items()
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
    assert set(env) == plain - {"ALLOWED_HOSTS"} | SECRETS | _FILES | {
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    }


@pytest.mark.parametrize(
    "name", [*sorted(SECRETS), "ANTHROPIC_API_KEY", "OTEL_EXPORTER_OTLP_HEADERS"]
)
def test_secret_is_refused_as_a_value(helm: Helm, name: str) -> None:
    done = helm("template", str(CHART), "--set-string", f"env.{name}=abc")
    assert done.returncode != 0
    assert f"give the name of a Secret in secrets.{name}" in done.stderr


def test_chart_has_no_secret(render: Render) -> None:
    assert not [each for each in render(*STACK, **EVERYTHING) if each["kind"] == "Secret"]


# -- scaling ------------------------------------------------------------------------------


def test_replicas_follow_the_responses_in_progress(render: Render) -> None:
    objects = render(*STACK)
    scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "chatscope"
    # Otherwise each upgrade of the release would set it back.
    assert "replicas" not in one(objects, "Deployment")["spec"]
    [metric] = [each["external"] for each in scaler["metrics"]]
    assert metric["metric"]["name"] == ANSWERS_ACTIVE.prometheus
    name = _FIELDS["OTEL_SERVICE_NAME"].default
    assert metric["metric"]["selector"] == {"matchLabels": {"service_name": name}}
    assert metric["target"]["type"] == "AverageValue"
    assert int(metric["target"]["averageValue"]) < _FIELDS["MAX_ANSWERS"].default
    other = render(*STACK, env={"OTEL_SERVICE_NAME": "chat"})
    [metric] = [
        each["external"]
        for each in one(other, "HorizontalPodAutoscaler")["spec"]["metrics"]
    ]  # fmt: skip
    assert metric["metric"]["selector"] == {"matchLabels": {"service_name": "chat"}}
