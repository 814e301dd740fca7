"""The Collector replaces secrets of services that do not do so themselves."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from chatscope.names import TIME_TO_FIRST_TOKEN
from stack import redacting
from stack.waiting import poll_until
from tests.config.collecting import Collected, attributes, collecting, value
from tests.config.files import COLLECTOR, parsed
from tests.running import PATIENCE_SECONDS

_SK: Final = "sk-" + "canary0123456789abcdef"
_MARK: Final = "<redacted secret>"
# Texts of another service, and the stored results.
_TEXTS: Final = {
    "openai": (f"key {_SK}.", f"key {_MARK}."),
    "github": ("ghp_" + "a1B2" * 9, _MARK),
    "aws": ("AKIA" + "IOSFODNN7EXAMPLE", _MARK),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0" + ".abcDEF123_-xyz", _MARK),
    "block": (
        "-----BEGIN PRIVATE " + "KEY-----\nMII=\n-----END PRIVATE " + "KEY----- x",
        f"{_MARK} x",
    ),
    "header": ("authorization: Bearer abcdef1234567890abcdef", f"authorization: Bearer {_MARK}"),
    "url": ("http://me:pass@h/x", f"http://me:{_MARK}@h/x"),
    "query": ("/x?api_key=abcd12345&y=1", f"/x?api_key={_MARK}&y=1"),
    "cookie line": ("Cookie: session=abcdef; a=b", f"Cookie: {_MARK}"),
    "mail": ("to jane@example.com, ok", "to <redacted e-mail>, ok"),
    "card": ("4111 1111 1111 1111", "<redacted card number>"),
    "phone": ("+49 170 1234567", "<redacted phone number>"),
}
_SECRET_NAMES: Final = (
    *("authorization", "token", "csrf_token", "st_token", "db.password", "DB_PASSWD", "X-API-Key"),
    *("http.cookie", "client_secret", "passphrase", "privateKey", "session-token"),
)
_ORDINARY: Final = {
    "user.id": "jane@example.com",
    "gen_ai.response.id": "chatcmpl-8f2b6cbb9b2d4f0c9a1b5f6f7a8e9d0c",
    "words": "sk-learn-and-other-packages, basic understanding, password: must be long",
    "time": "2026-11-29T03:15:43.123456789Z +0200",
}


@pytest.fixture(scope="module")
def collected(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collected]:
    """The telemetry of one service."""
    with collecting(binary("otelcol"), tmp_path_factory.mktemp("redaction")) as collector:
        poll_until(lambda: collector.send(_bodies()), "the Collector", PATIENCE_SECONDS)
        poll_until(
            lambda: len(collector.spans) == 2 and len(collector.records) == 2,
            "spans and records",
            PATIENCE_SECONDS,
        )
        yield collector


def _bodies() -> dict[str, dict[str, Any]]:
    resource = {"attributes": attributes({"service.name": "other", "note": _SK})}
    texts = {name: text for name, (text, _) in _TEXTS.items()}
    numbers = {"count": 5, TIME_TO_FIRST_TOKEN: 1}
    secrets = dict.fromkeys(_SECRET_NAMES, "words")
    all_attributes = attributes({**texts, **_ORDINARY, **numbers, **secrets})
    span = {
        "traceId": f"{1:032x}",
        "spanId": f"{1:016x}",
        "name": f"n {_SK}",
        "kind": 1,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        "traceState": "a=b",
        "status": {"code": 2, "message": f"failed: {_SK}"},
        "attributes": all_attributes,
        "events": [{"name": _SK, "timeUnixNano": "1", "attributes": attributes({"text": _SK})}],
    }
    lists = {"headers": [_SK, "x"], "map": {"a": {"b": _SK}}, "user.id": "jane@example.com"}
    nested = {**span, "spanId": f"{2:016x}", "attributes": attributes(lists)}
    now = str(time.time_ns())
    records = [
        {"timeUnixNano": now, "body": value(f"body {_SK}"), "attributes": all_attributes},
        {"timeUnixNano": now, "body": value({"a": {"b": [_SK]}}), "attributes": []},
    ]
    point = {"asInt": "1", "startTimeUnixNano": now, "timeUnixNano": now}
    counter = {
        "name": "planted",
        "sum": {
            "aggregationTemporality": 2,
            "isMonotonic": True,
            "dataPoints": [{**point, "attributes": attributes({"label": f"a {_SK}"})}],
        },
    }
    bodies: dict[str, dict[str, Any]] = {
        "traces": {"resourceSpans": [{"scopeSpans": [{"spans": [span, nested]}]}]},
        "logs": {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]},
        "metrics": {"resourceMetrics": [{"scopeMetrics": [{"metrics": [counter]}]}]},
    }
    for body in bodies.values():
        for resources in body.values():
            resources[0]["resource"] = resource
    return bodies


def test_configuration_has_the_rules_of_the_package() -> None:
    text = COLLECTOR.read_text("utf-8")
    assert redacting.written(text) == text


def test_every_pipeline_from_outside_is_redacted_first() -> None:
    pipelines = parsed(COLLECTOR)["service"]["pipelines"].values()
    outside = [each["processors"] for each in pipelines if "otlp" in each["receivers"]]
    assert len(outside) == 3
    assert {tuple(each[:2]) for each in outside} == {("memory_limiter", "transform/redaction")}


@pytest.mark.slow
def test_secrets_in_attributes_are_replaced_and_nothing_else(collected: Collected) -> None:
    [span] = [each for each in collected.spans if each.span.span_id[-1] == 1]
    [record] = [each for each in collected.records if each.body.HasField("string_value")]
    logged = {each.key: each.value.string_value for each in record.attributes}
    for found in (span.attributes, logged):
        assert {name: found[name] for name in _TEXTS} == {
            name: shown for name, (_, shown) in _TEXTS.items()
        }
        assert {name: found[name] for name in _ORDINARY} == _ORDINARY
        assert not {*_SECRET_NAMES} & {*found}
    assert span.attributes["count"] == 5
    assert span.attributes[TIME_TO_FIRST_TOKEN] == 1
    assert span.resource["note"] == _MARK


@pytest.mark.slow
def test_no_other_text_has_a_secret(collected: Collected) -> None:
    metrics = collected.metrics("planted_total")
    everything = [each.span.SerializeToString() for each in collected.spans]
    everything += [each.SerializeToString() for each in collected.records]
    everything += [str(each.resource).encode() for each in collected.spans]
    assert [each for each in [*everything, metrics.encode()] if _SK.encode() in each] == []
    assert {each.name for each in collected.spans} == {f"n {_MARK}"}
    assert {each.span.status.message for each in collected.spans} == {f"failed: {_MARK}"}
    assert f'label="a {_MARK}"' in metrics


@pytest.mark.slow
def test_lists_and_maps_are_redacted(collected: Collected) -> None:
    [span] = [each for each in collected.spans if each.span.span_id[-1] == 2]
    assert span.attributes["user.id"] == "jane@example.com"
    assert list(span.attributes["headers"]) == [_MARK, "x"]
    [record] = [each for each in collected.records if each.body.HasField("kvlist_value")]
    [inner] = record.body.kvlist_value.values[0].value.kvlist_value.values
    assert [each.string_value for each in inner.value.array_value.values] == [_MARK]


@pytest.mark.parametrize("name", _SECRET_NAMES)
def test_each_secret_name_is_searched_on_its_own(name: str) -> None:
    """The names of one record would find each other."""
    searched = json.dumps({name: "x"}, separators=(",", ":")).lower()
    assert any(needle in searched for needle in redacting._HIDDEN_NEEDLES)
