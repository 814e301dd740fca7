"""deploy/kubernetes/values: the other components run our files, with the settings of the stack."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from chatscope.names import ANSWERS_ACTIVE
from stack import grafana
from stack.facts import ROOT, load
from stack.images import IMAGES
from stack.waiting import poll_until
from tests.config.files import (
    COLLECTOR,
    COMPOSE,
    DATASOURCES,
    DOCKER_TARGETS,
    GRAFANA_INI,
    KUBERNETES,
    LOKI,
    PROMETHEUS,
    TEMPO,
    parsed,
    variables,
)
from tests.stores import free_ports

_TAGS = {image.part: image.tag for image in IMAGES}
_FACTS = load({})
_SECRET_KEYS = {"token", "bearer", "otlp_headers", "metrics_token", "password", "basic"}
_PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
_CONFIG_MAP = "chatscope-config"


def _values(name: str) -> Any:
    return parsed(KUBERNETES / "values" / f"{name}.yaml")


def _env(variables: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each.get("value", "from a secret") for each in variables}


_COLLECTOR_ENV = _env(_values("collector")["extraEnvs"])
_LOKI_ENV = _env(_values("loki")["singleBinary"]["extraEnv"])
_TEMPO_ENV = _env(_values("tempo")["tempo"]["extraEnv"])
# Addresses and places of the cluster; listening on all addresses of a pod.
_OTHER = {
    *("APP_URL", "PROMETHEUS_URL", "LOKI_URL", "TEMPO_URL", "TEMPO_OTLP_ENDPOINT"),
    *("ALERTMANAGER_URL", "GRAFANA_PUBLIC_URL", "STACK_LISTEN"),
}


def test_releases_are_those_of_the_stack() -> None:
    assert _values("collector")["image"]["tag"] == _TAGS["collector"]
    assert _values("loki")["loki"]["image"]["tag"] == _TAGS["loki"]
    assert _values("tempo")["tempo"]["tag"] == _TAGS["tempo"]
    assert (
        _values("prometheus")["prometheus"]["prometheusSpec"]["image"]["tag"]
        == (_TAGS["prometheus"])
    )
    assert _values("grafana")["image"]["tag"] == grafana.VERSION


@pytest.mark.parametrize(
    ("file", "env"),
    [(COLLECTOR, _COLLECTOR_ENV), (LOKI, _LOKI_ENV), (TEMPO, _TEMPO_ENV)],
    ids=["collector", "loki", "tempo"],
)
def test_each_variable_of_a_file_is_set_as_in_the_stack(file: Path, env: Mapping[str, str]) -> None:
    assert variables(file) <= set(env)
    facts = {name: value for name, value in env.items() if name in _FACTS and name not in _OTHER}
    places = {"DATA_DIR", "SECRETS_DIR"}
    assert {name: facts[name] for name in facts if name not in places} == {
        name: _FACTS[name] for name in facts if name not in places
    }


def test_each_variable_of_grafana_is_set() -> None:
    values = _values("grafana")
    given = set(values["env"]) | set(values["envValueFrom"])
    assert set(re.findall(r"\$__env\{(\w+)\}", GRAFANA_INI.read_text())) <= given
    # The chart replaces the two that lead through the gateway.
    used = set(re.findall(r"(?<!\$)\$(\w+)", yaml.safe_dump(parsed(DATASOURCES)))) - {"GATEWAY_URL"}
    assert used <= given
    assert {"PROMETHEUS_URL", "ALERTMANAGER_URL"} <= given


def test_addresses_agree() -> None:
    grafanas = _values("grafana")["env"]
    for env in (_COLLECTOR_ENV, _LOKI_ENV):
        common = {name for name in set(env) & set(grafanas) if name.endswith("_URL")}
        assert common
        assert {name: env[name] for name in common} == {name: grafanas[name] for name in common}
    adapter = _values("prometheus-adapter")["prometheus"]
    assert f"{adapter['url']}:{adapter['port']}" == grafanas["PROMETHEUS_URL"]
    names = {
        "COLLECTOR": _values("collector")["fullnameOverride"],
        "LOKI": _values("loki")["fullnameOverride"],
        "TEMPO": _values("tempo")["fullnameOverride"],
        "PROMETHEUS": f"{_values('prometheus')['fullnameOverride']}-prometheus",
        "ALERTMANAGER": f"{_values('prometheus')['fullnameOverride']}-alertmanager",
    }
    for name in ("LOKI", "TEMPO", "PROMETHEUS", "ALERTMANAGER"):
        assert grafanas[f"{name}_URL"] == f"http://{names[name]}:{_FACTS[f'{name}_PORT']}"
    endpoint = parsed(KUBERNETES / "chart" / "values.yaml")["env"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == f"http://{names['COLLECTOR']}:{_FACTS['OTLP_GRPC_PORT']}"


def test_prometheus_runs_with_the_settings_of_the_stack() -> None:
    spec = _values("prometheus")["prometheus"]["prometheusSpec"]
    flags = dict(
        flag.removeprefix("--").partition("=")[::2]
        for flag in parsed(COMPOSE)["services"]["prometheus"]["command"]
    )
    assert spec["query"] == {
        "lookbackDelta": flags["query.lookback-delta"],
        "maxSamples": int(flags["query.max-samples"]),
        "maxConcurrency": int(flags["query.max-concurrency"]),
        "timeout": flags["query.timeout"],
    }
    assert spec["enableFeatures"] == [flags["enable-feature"]]
    assert spec["enableRemoteWriteReceiver"] is ("web.enable-remote-write-receiver" in flags)
    assert spec["retention"] == _FACTS["RETENTION"]
    ours = parsed(PROMETHEUS)
    assert spec["scrapeInterval"] == ours["global"]["scrape_interval"]
    assert spec["evaluationInterval"] == ours["global"]["evaluation_interval"]
    assert spec["nameValidationScheme"].lower() == ours["global"]["metric_name_validation_scheme"]
    tsdb = ours["storage"]["tsdb"]
    assert spec["tsdb"]["outOfOrderTimeWindow"] == tsdb["out_of_order_time_window"]
    assert spec["exemplars"]["maxSize"] == ours["storage"]["exemplars"]["max_exemplars"]


def test_prometheus_scrapes_the_jobs_of_the_rules() -> None:
    jobs = _values("prometheus")["prometheus"]["prometheusSpec"]["additionalScrapeConfigs"]
    expected = {target["labels"]["job"] for target in parsed(DOCKER_TARGETS)}
    assert {job["job_name"] for job in jobs} == expected


def test_adapter_sums_the_metric_of_the_autoscaler() -> None:
    rules = _values("prometheus-adapter")["rules"]
    [rule] = rules["external"]
    assert rule["seriesQuery"] == ANSWERS_ACTIVE.prometheus
    assert rule["metricsQuery"] == "sum(<<.Series>>{<<.LabelMatchers>>})"
    assert rule["resources"] == {"namespaced": False}


def test_components_read_the_config_map_and_secrets_of_the_page() -> None:
    texts = {path.stem: path.read_text() for path in (KUBERNETES / "values").glob("*.yaml")}
    for name in ("collector", "loki", "tempo", "grafana"):
        assert _CONFIG_MAP in texts[name]
    for secret in ("chatscope-telemetry", "chatscope-grafana"):
        [command] = re.findall(rf"generic {secret} (?:.*\\\n)*.*\n", _PAGE)
        created = set(re.findall(r"--from-literal=(\w+)=", command))
        assert created
        # All keys of the first are files of the Collector, too.
        used = {
            key
            for text in texts.values()
            for key in re.findall(rf"(?:name|secret): {secret}, key: (\w+)", text)
        }
        assert used <= created
    files = set(re.findall(r"SECRETS_DIR\}/collector/(\w+)", COLLECTOR.read_text()))
    assert files <= _SECRET_KEYS
    assert files <= set(re.findall(r"--from-literal=(\w+)=", _PAGE))


def test_page_names_the_same_version_of_a_chart_everywhere() -> None:
    rows = dict(re.findall(r"^\| `values/([\w-]+)\.yaml` \|.*\| `.*` ([\d.]+) \|$", _PAGE, re.M))
    section = _PAGE.partition("## The scaled stack\n")[0]
    commands = dict(re.findall(r"--version ([\d.]+) .*--values ([\w-]+)\.yaml$", section, re.M))
    assert {name: version for version, name in commands.items()} == rows
    files = (KUBERNETES / "values").glob("*.yaml")
    assert set(rows) | {"chatscope"} == {path.stem for path in files}


# -- the programs, with these variables and flags -----------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    """Return variables that differ where a component runs outside of its pod."""
    secrets = tmp_path / "secrets"
    for component, keys in {"collector": _SECRET_KEYS, "loki": {"password"}}.items():
        (secrets / component).mkdir(parents=True)
        for key in keys:
            (secrets / component / key).write_text("abc")
    return {**free_ports(), "SECRETS_DIR": str(secrets), "DATA_DIR": str(tmp_path / "data")}


def test_collector_accepts_its_configuration(
    binary: Callable[[str], Path], here: Mapping[str, str]
) -> None:
    done = subprocess.run(
        [
            *(binary("otelcol"), "validate", f"--config={COLLECTOR}"),
            *_values("collector")["command"]["extraArgs"],
        ],
        env={**_COLLECTOR_ENV, "SECRETS_DIR": here["SECRETS_DIR"], "DATA_DIR": here["DATA_DIR"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _ready(
    program: list[str | Path], env: Mapping[str, str], url: str, directory: Path
) -> None:  # fmt: skip
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(program, cwd=directory, env=env, stdout=output, stderr=output)
    try:
        poll_until(lambda: httpx2.get(url).status_code == 200, f"{url}: {log}", 90)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def config(binary: Callable[[str], Path]) -> dict[str, str]:
    """Return the configuration files that our chart makes."""
    chart, values = KUBERNETES / "chart", KUBERNETES / "values" / "chatscope.yaml"
    done = subprocess.run(
        [binary("helm"), "template", "chatscope", chart, "--values", values],
        capture_output=True,
        text=True,
        check=True,
    )
    objects = yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)
    [found] = [each["data"] for each in objects if each["metadata"]["name"] == _CONFIG_MAP]
    return dict(found)


def test_loki_listens_for_other_pods(
    binary: Callable[[str], Path], config: Mapping[str, str], here: Mapping[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    file = tmp_path / "loki.yaml"
    file.write_text(config["config.yaml"])
    arguments = _values("loki")["singleBinary"]["extraArgs"]
    assert "-ruler.storage.local.directory=/etc/loki/rules" in arguments
    elsewhere = f"-ruler.storage.local.directory={ROOT / 'loki' / 'rules'}"
    # The first two are those that the chart of Loki sets itself.
    program = [binary("loki"), f"-config.file={file}", "-target=all", *arguments, elsewhere]
    url = f"http://127.0.0.1:{here['LOKI_PORT']}/ready"
    _ready(program, {**_LOKI_ENV, **here}, url, tmp_path)


def test_tempo_listens_for_other_pods(
    binary: Callable[[str], Path], config: Mapping[str, str], here: Mapping[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    arguments = _values("tempo")["tempo"]["extraArgs"]
    assert arguments.pop("config.file") == "/etc/tempo/tempo.yaml"
    file = tmp_path / "tempo.yaml"
    text = config["tempo.yaml"]
    assert text.count("0.0.0.0:4317") == 1
    file.write_text(text.replace("0.0.0.0:4317", f"127.0.0.1:{here['OTLP_GRPC_PORT']}"))
    # The chart of Tempo names its own file first; the last one counts.
    unused = tmp_path / "unused.yaml"
    unused.write_text("server: {http_listen_port: 1}")
    files = [f"-config.file={unused}", "-mem-ballast-size-mbs=0", f"-config.file={file}"]
    flags = [f"-{name}={value}" for name, value in arguments.items()]
    url = f"http://127.0.0.1:{here['TEMPO_PORT']}/ready"
    _ready([binary("tempo"), *files, *flags], {**_TEMPO_ENV, **here}, url, tmp_path)
