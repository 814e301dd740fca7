"""Metrics in Prometheus and at the scrape endpoint: the same names, labels and values."""

from urllib.parse import urlsplit

import httpx2
import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Scraped

from chatscope import names
from chatscope.names import METRICS, Kind, Metric
from stack.secrets import backend_client, metrics_headers
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import WAYS

# By the labels of each series.
Values = dict[frozenset[tuple[str, str]], float]

_OWN_LABELS = {"__name__", "job", "instance", "service_name", "le"}
_SCRAPED = {"collector", "prometheus", "loki", "tempo", "alertmanager"}
_OF_HOST = {
    "system_cpu_time_seconds_total",
    "system_cpu_load_average_1m",
    "system_memory_usage_bytes",
    "system_disk_io_bytes_total",
    "system_filesystem_usage_bytes",
    "system_network_io_bytes_total",
    "system_paging_operations_total",
    "system_processes_count",
}
_PRODUCT = (
    names.SOCKET_CONNECTIONS,
    names.MESSAGE_COUNT,
    names.LLM_RESPONSE_TIME,
    names.LLM_TOKEN_USAGE,
    names.LLM_COST,
)


@pytest.fixture(scope="module", autouse=True)
def _traffic(stack: Stack) -> None:
    for turn in WAYS.values():
        turn(stack.facts)


def _series(metric: Metric) -> str:
    return f"{metric.prometheus}_count" if metric.kind is Kind.HISTOGRAM else metric.prometheus


def _scrape(stack: Stack) -> dict[str, Family]:
    headers = {
        "accept": "application/openmetrics-text; version=1.0.0",
        **metrics_headers(stack.facts),
    }
    answer = httpx2.get(stack.facts["APP_METRICS_URL"], headers=headers, trust_env=False)
    answer.raise_for_status()
    assert "openmetrics" in answer.headers["content-type"]
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    return {family.name: family for family in families}


def _scraped(stack: Stack, name: str) -> list[Scraped]:
    return [
        sample
        for family in _scrape(stack).values()
        for sample in family.samples
        if sample.name == name
    ]


def test_every_metric_is_in_prometheus_under_its_name_with_closed_labels(stack: Stack) -> None:
    optional = names.OF_RECORDERS | names.OF_KEYS | names.OF_REPLICAS | names.OF_SHUTDOWN
    waiting = [metric for metric in METRICS if metric not in optional]
    assert waiting

    def all_there() -> bool:
        for metric in tuple(waiting):
            found = stack.backends.prometheus(f'{_series(metric)}{{service_name="chatscope"}}')
            allowed = _OWN_LABELS | {names.prometheus_label(name) for name in metric.attributes}
            for sample in found:
                assert {"job", "instance", "service_name"} <= set(sample.labels) <= allowed, metric
            if found:
                waiting.remove(metric)
        assert not waiting, [metric.name for metric in waiting]
        return True

    poll_until(all_there, "each metric in Prometheus", PATIENCE_SECONDS)


def test_rest_of_the_resource_is_in_target_info(stack: Stack) -> None:
    [info, *_] = poll_until(
        lambda: stack.backends.prometheus('target_info{job="chatscope"}'),
        "target_info in Prometheus",
        PATIENCE_SECONDS,
    )
    assert info.labels["service_version"]
    assert info.labels["deployment_environment_name"] == "local"


def _instances(values: Values) -> set[str]:
    return {dict(labels)["instance"] for labels in values}


def _of(values: Values, instances: set[str]) -> Values:
    return {
        labels: value
        for labels, value in values.items()
        if _instances({labels: value}) <= instances
    }


def test_scraped_values_are_those_of_remote_write(stack: Stack) -> None:
    def the_same() -> bool:
        for metric in _PRODUCT:
            written = {
                frozenset((k, v) for k, v in sample.labels.items() if k != "__name__"): sample.value
                for sample in stack.backends.prometheus(_series(metric))
            }
            scraped = {
                frozenset(sample.labels.items()): sample.value
                for sample in _scraped(stack, _series(metric))
            }
            # The series of an ended process expire at different times.
            known = _instances(written) & _instances(scraped)
            assert known, metric.name
            assert _of(scraped, known) == pytest.approx(_of(written, known)), metric.name
        return True

    poll_until(the_same, "each metric to be the same by both ways", PATIENCE_SECONDS)


def test_scraped_buckets_carry_exemplars_that_lead_to_traces(stack: Stack) -> None:
    buckets = _scraped(stack, f"{names.LLM_RESPONSE_TIME.prometheus}_bucket")
    exemplars = [sample.exemplar for sample in buckets if sample.exemplar]
    assert exemplars
    for exemplar in exemplars:
        trace_id = exemplar.labels["trace_id"]
        assert poll_until(
            lambda: stack.backends.tempo_trace(trace_id),  # noqa: B023
            f"trace {trace_id} in Tempo",
            PATIENCE_SECONDS,
        )


def test_scrapers_get_the_services_metrics_only(stack: Stack) -> None:
    families = _scrape(stack)
    jobs = {
        sample.labels["job"]
        for family in families.values()
        for sample in family.samples
        if "job" in sample.labels
    }
    # Other services send here, too; the host and the Collector's derived metrics are excluded.
    assert "chatscope" in jobs
    assert "host" not in jobs
    made = ("system_", "traces_", "httpcheck_")
    assert [name for name in families if name.startswith(made)] == []


def test_host_is_measured(stack: Stack) -> None:
    def all_there() -> bool:
        found = stack.backends.prometheus('count by (__name__) ({__name__=~"system_.+"})')
        assert {sample.labels["__name__"] for sample in found} >= _OF_HOST
        return True

    poll_until(all_there, "the metrics of the host", PATIENCE_SECONDS)


@pytest.mark.one_machine("Thanos lists no targets")
def test_only_the_components_are_scraped(stack: Stack) -> None:
    """The service itself is not scraped: it sends its metrics."""

    def all_up() -> bool:
        found = {s.labels["job"]: s.value for s in stack.backends.prometheus("up")}
        assert found == dict.fromkeys(_SCRAPED, 1.0)
        return True

    poll_until(all_up, "each component to be scraped, and nothing else", PATIENCE_SECONDS)
    with backend_client(stack.facts, "PROMETHEUS_URL") as client:
        found = client.get("/api/v1/targets", params={"state": "active"}).raise_for_status().json()
    targets = found["data"]["activeTargets"]
    assert sorted(target["labels"]["job"] for target in targets) == sorted(_SCRAPED)
    addresses = {urlsplit(target["scrapeUrl"]).netloc for target in targets}
    # Its address for other containers, too.
    assert not addresses & {urlsplit(stack.facts["APP_URL"]).netloc, "app:3000"}
