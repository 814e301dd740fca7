"""No stored identifier breaks out of a query that a link in Grafana puts it into."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from chatscope.names import (
    CONNECTION_ID,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_REQUEST_MODEL,
    HTTP_ROUTE,
    USER_ID,
    prometheus_label,
)
from dashboards.others import SERVICE_NAME
from stack.facts import ROOT
from stack.identifiers import IDENTIFIERS, UNSAFE, cleaned
from stack.waiting import poll_until
from tests.config.collecting import Collected, attributes, collecting
from tests.config.files import COLLECTOR, parsed
from tests.running import PATIENCE_SECONDS

_DATASOURCES: Final = ROOT / "grafana-provisioning" / "datasources" / "datasources.yaml"
_BOARDS: Final = sorted((ROOT / "grafana-provisioning" / "dashboards").glob("*.json"))
# Ends a text in double quotes, and one in backquotes, and would then match everything.
_EVIL: Final = 'x"} or {service_name=~".+` or a=~`.+\\\n\x1b\x9b'
_LONG: Final = "é" * 300
# With all that occurs in ordinary names.
_ORDINARY: Final = {
    SERVICE_NAME: "shop (EU)/checkout: v1.2 日本 'test'",
    GEN_AI_REQUEST_MODEL: "meta-llama/Llama-3.3-70B@fp8:free+tools",
    HTTP_ROUTE: "/users/{id}/orders/<int:order>?x=1&y=$2",
    USER_ID: "o'brien+a@example.com",
}
_SAME: Final = (SERVICE_NAME, GEN_AI_REQUEST_MODEL)


def _tempo() -> Any:
    [tempo] = [each for each in parsed(_DATASOURCES)["datasources"] if each["type"] == "tempo"]
    return tempo["jsonData"]


def _texts_left_out(query: str) -> str:
    """Return a query with empty texts; raise ValueError if one has no end."""
    rest = re.sub(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`', '""', query)
    if re.search(r'(?<!")"(?!")|`', rest):
        raise ValueError(f"a text without an end: {query}")
    return rest


def _link_queries(resource: Mapping[str, Any], span: Mapping[str, Any], name: str) -> list[str]:
    """Return the queries of Grafana's links from a span, as Grafana fills them in."""
    # Attributes of the span replace those of its resource.
    values = {**resource, **span}
    tags = _tempo()["tracesToMetrics"]["tags"]
    labels = [f'{each["value"]}="{values[each["key"]]}"' for each in tags if each["key"] in values]
    queries = [_tempo()["tracesToLogsV2"]["query"]]
    queries += [each["query"] for each in _tempo()["tracesToMetrics"]["queries"]]
    return [
        query.replace('$${__span.tags["service.name"]}', str(values[SERVICE_NAME]))
        .replace("$${__span.name}", name)
        .replace("$$__tags", ", ".join(labels))
        for query in queries
    ]


def test_evil_name_breaks_out_of_the_links() -> None:
    """The attack works without the Collector."""
    [ordinary, *_] = _link_queries({SERVICE_NAME: "x"}, {}, "GET /")
    [broken, *_] = _link_queries({SERVICE_NAME: 'x"} or {a=~".+'}, {}, "GET /")
    assert _texts_left_out(broken) != _texts_left_out(ordinary)


def test_every_attribute_that_a_datasource_inserts_is_an_identifier() -> None:
    text = _DATASOURCES.read_text("utf-8")
    inserted = set(re.findall(r'__span\.tags\["([^"]+)"\]', text))
    inserted |= {each["key"] for each in _tempo()["tracesToMetrics"]["tags"]}
    assert inserted <= {*IDENTIFIERS}
    labels = set(re.findall(r"matcherRegex: \^(\w+)\$", text)) - {"trace_id"}
    assert labels == {prometheus_label(CONNECTION_ID)}
    assert labels <= {*map(prometheus_label, IDENTIFIERS)}


def test_every_attribute_that_a_dashboard_inserts_is_an_identifier() -> None:
    found: set[str] = set()
    for path in _BOARDS:
        text = path.read_text("utf-8")
        # Values that variables offer, and text fields that links fill.
        found |= set(re.findall(r"label_values\([^)]*, (\w+)\)", text))
        found |= set(re.findall(r"(\w+)=~`\$\{\w+:regex\}", text))
    known = {*map(prometheus_label, IDENTIFIERS)}
    assert {prometheus_label(USER_ID), prometheus_label(SERVICE_NAME)} <= found
    assert found - {"trace_id"} <= known


def test_every_identifier_is_documented() -> None:
    _, _, text = (ROOT / "docs" / "telemetry.md").read_text("utf-8").partition("### Identifiers\n")
    section, _, _ = text.partition("\n### ")
    listed = section[section.index("`service.name`") : section.index("they become texts")]
    assert re.findall(r"`([^`]+)`", listed) == [*IDENTIFIERS]


def test_links_of_dashboards_escape_values_in_their_address() -> None:
    """Otherwise a value with & sets other variables of the dashboard."""
    links = [
        each for path in _BOARDS for each in re.findall(r'"url": ("/d/[^\n]*")', path.read_text())
    ]
    raw = [
        found
        for url in map(json.loads, links)
        for found in re.findall(r"var-\w+=\$\{(__[^}]*)\}", url)
        if not found.endswith(":percentencode")
    ]
    assert links
    assert raw == []


def test_identifiers_are_cleaned_in_every_pipeline_from_outside() -> None:
    pipelines = parsed(COLLECTOR)["service"]["pipelines"].values()
    outside = [each["processors"] for each in pipelines if "otlp" in each["receivers"]]
    for processors in outside:
        # After all that copies attributes, before all that makes labels of them.
        assert {*processors[processors.index("transform/identifiers") + 1 :]} <= {
            "transform/content",
            "transform/service_name",
        }


def _bodies() -> dict[str, Any]:
    evil = attributes(dict.fromkeys([*IDENTIFIERS, "any.other.label"], _EVIL))
    spelled = attributes({"user_id": _EVIL, "chatscope..connection-id": _EVIL, "trace_id": "{} a1"})
    twice = attributes({SERVICE_NAME: "first"}) + attributes({SERVICE_NAME: _EVIL})
    kinds = attributes({"chatscope.kind": "a"}) + attributes({"chatscope.kind": "b"})
    resources = (
        evil,
        attributes(_ORDINARY),
        twice,
        attributes({SERVICE_NAME: [_EVIL]}),
        attributes({SERVICE_NAME: {_EVIL: _EVIL}}),
        attributes({SERVICE_NAME: _LONG}),
    )
    now = str(time.time_ns())
    times = {"startTimeUnixNano": now, "endTimeUnixNano": now}
    bodies: dict[str, Any] = {name: [] for name in ("traces", "logs", "metrics")}
    for number, given in enumerate(resources, 1):
        resource = {"attributes": given}
        own = attributes(_ORDINARY) if given == resources[1] else evil + evil
        name = "GET /users/{id}" if given == resources[1] else _EVIL
        ids = {"traceId": f"{number:032x}", "spanId": f"{number:016x}"}
        span = {**ids, **times, "name": name, "kind": 3, "attributes": own}
        record = {
            **ids,
            "timeUnixNano": now,
            "body": {"stringValue": '"a" `b`'},
            "attributes": [*own, *spelled, *kinds],
        }
        point = {"asInt": "1", "startTimeUnixNano": now, "timeUnixNano": now}
        points = [{**point, "attributes": own}]
        counter = {
            "name": f"planted_{number}",
            "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": points},
        }
        scope = {"scope": {"name": "s", "attributes": evil}}
        bodies["traces"].append({"resource": resource, "scopeSpans": [{"spans": [span]}]})
        bodies["logs"].append(
            {"resource": resource, "scopeLogs": [{**scope, "logRecords": [record]}]}
        )
        bodies["metrics"].append({"resource": resource, "scopeMetrics": [{"metrics": [counter]}]})
    return {
        "traces": {"resourceSpans": bodies["traces"]},
        "logs": {"resourceLogs": bodies["logs"]},
        "metrics": {"resourceMetrics": bodies["metrics"]},
    }


@pytest.fixture(scope="module")
def collected(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collected]:
    """The telemetry of six services, of which the second one is ordinary."""
    with collecting(binary("otelcol"), tmp_path_factory.mktemp("identifiers")) as collector:
        poll_until(lambda: collector.send(_bodies()), "the Collector", PATIENCE_SECONDS)
        poll_until(
            lambda: len(collector.spans) == len(collector.records) == 6,
            "spans and records",
            PATIENCE_SECONDS,
        )
        yield collector


def _unsafe(pairs: Any) -> list[str]:
    """Return identifiers with unsafe characters, of attributes in OTLP."""
    found: list[str] = []
    each: KeyValue
    for each in pairs:
        if re.sub(r"[\W_]+", ".", each.key) in {re.sub("_", ".", n) for n in IDENTIFIERS}:
            text = each.value.string_value
            assert each.value.HasField("string_value"), each
            if re.search(UNSAFE, text) or len(text.encode()) > 256:
                found.append(f"{each.key}: {text!r}")
    return found


@pytest.mark.slow
def test_no_link_from_a_span_is_another_query(collected: Collected) -> None:
    ordinary = [*map(_texts_left_out, _link_queries(_ORDINARY, _ORDINARY, "GET /users/{id}"))]
    assert len(ordinary) == 7
    for each in collected.spans:
        queries = _link_queries(each.resource, each.attributes, each.name)
        assert [*map(_texts_left_out, queries)] == ordinary


@pytest.mark.slow
def test_no_record_has_an_unsafe_identifier(collected: Collected) -> None:
    found: list[str] = []
    for each in collected.resource_logs:
        found += _unsafe(each.resource.attributes)
        for scope in each.scope_logs:
            found += _unsafe(scope.scope.attributes)
            for record in scope.log_records:
                found += _unsafe(record.attributes)
                assert {a.value.string_value for a in record.attributes if a.key == "trace_id"} == {
                    "a1"
                }
                # Texts of a record stay as they are.
                assert record.body.string_value == '"a" `b`'
    for span in collected.spans:
        found += _unsafe(span.span.attributes)
    assert found == []


@pytest.mark.slow
def test_second_attribute_of_a_name_is_not_stored(collected: Collected) -> None:
    maps = [each.resource.attributes for each in collected.resource_logs]
    maps += [record.attributes for record in collected.records]
    maps += [each.span.attributes for each in collected.spans]
    for each in maps:
        names = [pair.key for pair in each]
        assert len(names) == len({*names})
    # Each value would be a stream of Loki.
    assert not [a for r in collected.records for a in r.attributes if a.key == "chatscope.kind"]


@pytest.mark.slow
def test_ordinary_names_are_stored_as_they_are(collected: Collected) -> None:
    [span] = [each for each in collected.spans if each.span.span_id[-1] == 2]
    assert span.resource == _ORDINARY
    assert span.attributes == _ORDINARY
    assert span.name == "GET /users/{id}"
    [record] = [each for each in collected.records if each.span_id[-1] == 2]
    logged = {each.key: each.value.string_value for each in record.attributes}
    assert logged == {**logged, **_ORDINARY}


@pytest.mark.slow
def test_long_names_are_cut_between_characters(collected: Collected) -> None:
    [span] = [each for each in collected.spans if each.span.span_id[-1] == 6]
    assert span.resource[SERVICE_NAME] == "é" * 128


@pytest.mark.slow
def test_no_label_is_unsafe_or_long(collected: Collected) -> None:
    exposed = collected.metrics("planted_6_total{")
    lines = [line for line in exposed.splitlines() if line.startswith("planted_")]
    assert {line.partition("_total{")[0] for line in lines} == {
        f"planted_{number}" for number in range(1, 7)
    }
    labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', "\n".join(lines))
    assert [each for each in labels if re.search(UNSAFE, each[1])] == []
    # "job" is the namespace and the name.
    assert max(len(text.encode()) for _, text in labels) <= 2 * 256 + 1
    [ordinary] = [line for line in lines if line.startswith("planted_2_")]
    for name in _SAME:
        assert f'{prometheus_label(name)}="{_ORDINARY[name]}"' in ordinary


def test_cleaned_is_what_the_collector_stores() -> None:
    assert cleaned('CORP\\ann "`\n') == "CORP_ann ___"
    assert cleaned(_ORDINARY[USER_ID]) == _ORDINARY[USER_ID]
    assert GEN_AI_CONVERSATION_ID in IDENTIFIERS
