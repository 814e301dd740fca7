"""The Collector's configuration: pipelines, limits and protection."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.config.conftest import Run
from tests.config.files import (
    COLLECTOR,
    MANIFEST,
    TEMPO,
    broken_copy,
    literal_addresses,
    parsed,
    seconds,
)
from tests.config.files import variables as variables_of

KINDS = ("receivers", "processors", "connectors", "exporters", "extensions")
# Component ID by module. Other spellings are accepted, with a warning at each start.
IDS = {
    "otlpreceiver": "otlp",
    "hostmetricsreceiver": "host_metrics",
    "httpcheckreceiver": "http_check",
    "memorylimiterprocessor": "memory_limiter",
    "transformprocessor": "transform",
    "deltatocumulativeprocessor": "delta_to_cumulative",
    "spanmetricsconnector": "span_metrics",
    "servicegraphconnector": "service_graph",
    "otlpexporter": "otlp_grpc",
    "otlphttpexporter": "otlp_http",
    "prometheusexporter": "prometheus",
    "prometheusremotewriteexporter": "prometheus_remote_write",
    "bearertokenauthextension": "bearertokenauth",
    "healthcheckextension": "health_check",
    "filestorage": "file_storage",
}


@pytest.fixture(scope="module")
def config() -> Any:
    return parsed(COLLECTOR)


def used(config: Any, kind: str) -> set[str]:
    """Return the IDs of that kind that are used in a pipeline or as an extension."""
    if kind == "extensions":
        return set(config["service"]["extensions"])
    places = ("receivers", "exporters") if kind == "connectors" else (kind,)
    pipelines = config["service"]["pipelines"].values()
    return {name for pipeline in pipelines for place in places for name in pipeline[place]}


def test_memory_limiter_stands_first_in_every_pipeline(config: Any) -> None:
    firsts = {
        name: pipeline["processors"][0] for name, pipeline in config["service"]["pipelines"].items()
    }
    assert set(firsts.values()) == {"memory_limiter"}, firsts


@pytest.mark.parametrize("kind", KINDS)
def test_everything_defined_is_used(config: Any, kind: str) -> None:
    assert set(config[kind]) <= used(config, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_components_are_those_of_the_manifest_by_their_present_names(
    config: Any, kind: str
) -> None:
    modules = [entry["gomod"].split()[0].rpartition("/")[2] for entry in parsed(MANIFEST)[kind]]
    assert {name.partition("/")[0] for name in config[kind]} == {IDS[module] for module in modules}


def test_spans_wait_for_tempos_late_answer(config: Any) -> None:
    # Tempo's delay: artificial_delay, and randomly up to a tenth more.
    late = 1.1 * seconds(parsed(TEMPO)["distributor"]["artificial_delay"])
    exporter = config["exporters"]["otlp_grpc/tempo"]
    assert 1.5 * late < seconds(exporter["timeout"]) < 2 * late
    queue = exporter["sending_queue"]
    waiting = late / seconds(queue["batch"]["flush_timeout"])
    assert queue["num_consumers"] > 1.2 * waiting


def test_no_span_is_dropped_for_its_size(config: Any) -> None:
    """A single span could be larger than a batch's limit."""
    assert "max_size" not in config["exporters"]["otlp_grpc/tempo"]["sending_queue"]["batch"]


def test_scrape_endpoint_exposes_app_metrics_only(config: Any) -> None:
    pipelines = config["service"]["pipelines"]
    offering = {name for name, flow in pipelines.items() if "prometheus" in flow["exporters"]}
    assert offering == {"metrics/app"}


def test_scraped_and_written_metrics_are_named_alike(config: Any) -> None:
    scraped, written = (
        config["exporters"][name] for name in ("prometheus", "prometheus_remote_write")
    )
    assert scraped["translation_strategy"] == written["translation_strategy"]
    assert scraped["without_scope_info"] is written["disable_scope_info"] is True


def _to_stores(config: Any) -> dict[str, Any]:
    """Return the exporters that send to other components."""
    return {name: each for name, each in config["exporters"].items() if name != "prometheus"}


def test_queue_is_on_disk_and_its_items_are_never_dropped(config: Any) -> None:
    past_queue = _to_stores(config).pop("prometheus_remote_write")
    assert past_queue["remote_write_queue"]["enabled"] is False
    assert past_queue["retry_on_failure"]["enabled"] is False
    waiting = _to_stores(config)
    del waiting["prometheus_remote_write"]
    for name, exporter in waiting.items():
        assert exporter["sending_queue"]["storage"] == "file_storage/queue", name
        assert exporter["sending_queue"]["sizer"] == "bytes", name
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0, name


def test_metrics_wait_before_they_are_written(config: Any) -> None:
    """Each pipeline of metrics ends in the queue, except the one behind it."""
    pipelines = config["service"]["pipelines"]
    flows = {name: flow for name, flow in pipelines.items() if name.startswith("metrics/")}
    behind = flows.pop("metrics/prometheus")
    assert behind["receivers"] == ["otlp/prometheus"]
    assert behind["exporters"] == ["prometheus_remote_write"]
    for name, flow in flows.items():
        assert "otlp_grpc/prometheus" in flow["exporters"], name
        assert "prometheus_remote_write" not in flow["exporters"], name
    hop, written = (
        config["exporters"][name] for name in ("otlp_grpc/prometheus", "prometheus_remote_write")
    )
    receiver = config["receivers"]["otlp/prometheus"]["protocols"]["grpc"]["endpoint"]
    assert hop["endpoint"] == receiver
    # One consumer keeps the order. Its timeout must be shorter: that of the next hop would count as
    # a rejection.
    assert hop["sending_queue"]["num_consumers"] == 1
    assert seconds(hop["timeout"]) < seconds(written["timeout"])


def test_span_metrics_are_bounded_and_survive_a_restart(config: Any) -> None:
    connector = config["connectors"]["span_metrics"]
    assert connector["aggregation_cardinality_limit"] > 0
    assert "collector.instance.id" in connector["exclude_dimensions"]
    assert connector["resource_metrics_key_attributes"] == ["service.name"]


def test_every_variable_is_a_fact_of_the_stack(stack_env: dict[str, str]) -> None:
    assert variables_of(COLLECTOR) <= set(stack_env)


def test_no_address_or_port_is_spelled_out() -> None:
    assert literal_addresses(COLLECTOR) == []


@pytest.fixture
def secret_files(
    stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It reads its secrets before anything else."""
    monkeypatch.setitem(stack_env, "SECRETS_DIR", str(tmp_path))
    for name in re.findall(r"\{file:\$\{env:SECRETS_DIR\}(/[\w/]+)\}", COLLECTOR.read_text()):
        path = tmp_path / name[1:]
        path.parent.mkdir(exist_ok=True)
        path.write_text("Basic c2VjcmV0")


@pytest.mark.usefixtures("secret_files")
def test_the_collector_accepts_it(run: Run) -> None:
    judged = run("otelcol", "validate", f"--config={COLLECTOR}")
    assert judged.returncode == 0, judged.stderr


@pytest.mark.usefixtures("secret_files")
def test_the_collector_refuses_an_unknown_key(run: Run, tmp_path: Path) -> None:
    broken = broken_copy(COLLECTOR, tmp_path, "limit_mib:", "limit_mb:")
    judged = run("otelcol", "validate", f"--config={broken}")
    assert judged.returncode != 0
    assert "limit_mb" in judged.stderr


def test_the_service_is_asked_under_its_own_name(stack_env: dict[str, str]) -> None:
    assert stack_env["OTEL_SERVICE_NAME"] == Settings.model_fields["otel_service_name"].default
