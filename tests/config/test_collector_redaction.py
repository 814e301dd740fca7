"""The Collector replaces secrets of services that do not do so themselves."""

import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from chatscope.names import TIME_TO_FIRST_TOKEN
from stack import facts as stack_facts
from stack import redacting
from stack import secrets as stack_secrets
from stack.waiting import poll_until
from tests.config.files import COLLECTOR, parsed
from tests.receiver import Receiver
from tests.running import PATIENCE_SECONDS
from tests.stores import free_ports

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
_SECRET_NAMES: Final = ("authorization", "token", "csrf_token", "st_token", "db.password")
_ORDINARY: Final = {
    "user.id": "jane@example.com",
    "gen_ai.response.id": "chatcmpl-8f2b6cbb9b2d4f0c9a1b5f6f7a8e9d0c",
    "words": "sk-learn-and-other-packages, basic understanding, password: must be long",
    "time": "2026-11-29T03:15:43.123456789Z +0200",
}


def _attributes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(found: Any) -> dict[str, Any]:
    if isinstance(found, str):
        return {"stringValue": found}
    if isinstance(found, int):
        return {"intValue": str(found)}
    if isinstance(found, list):
        return {"arrayValue": {"values": [_value(each) for each in found]}}
    return {"kvlistValue": {"values": _attributes(found)}}


class _Loki(http.server.ThreadingHTTPServer):
    """Records pushed requests."""

    daemon_threads = True

    def __init__(self) -> None:
        self.records: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Push)


class _Push(http.server.BaseHTTPRequestHandler):
    server: _Loki

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                self.server.records += scope.log_records
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def arrived(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Receiver, list[Any], str]]:
    """The spans, the log records and the exposed metrics of one service."""
    directory = tmp_path_factory.mktemp("redaction")
    with Receiver() as receiver, _Loki() as loki:
        threading.Thread(target=loki.serve_forever, args=(0.05,), daemon=True).start()
        facts = {
            **stack_facts.load({**free_ports(), "STATE_DIR": str(directory)}),
            "LOKI_URL": f"http://127.0.0.1:{loki.server_address[1]}",
            "TEMPO_OTLP_ENDPOINT": receiver.endpoint.removeprefix("http://"),
        }
        stack_secrets.make(facts)
        command: list[Any] = [binary("otelcol"), f"--config={COLLECTOR}"]
        with subprocess.Popen(command, env=facts, stderr=subprocess.DEVNULL) as process:
            try:
                poll_until(lambda: _send_all(facts), "the Collector", PATIENCE_SECONDS)
                poll_until(
                    lambda: len(receiver.spans) == 2 and len(loki.records) == 2,
                    "spans and records",
                    PATIENCE_SECONDS,
                )
                exposed = f"http://127.0.0.1:{facts['APP_METRICS_PORT']}/metrics"
                metrics = poll_until(
                    lambda: _exposed(exposed, stack_secrets.metrics_headers(facts)),
                    "the metric",
                    PATIENCE_SECONDS,
                )
                yield receiver, loki.records, metrics
            finally:
                process.kill()
                loki.shutdown()


def _exposed(url: str, headers: Mapping[str, str]) -> str | None:
    text = httpx2.get(url, headers=headers, trust_env=False).text
    return text if "planted_total" in text else None


def _send_all(facts: Mapping[str, str]) -> bool:
    resource = {"attributes": _attributes({"service.name": "other", "note": _SK})}
    texts = {name: text for name, (text, _) in _TEXTS.items()}
    numbers = {"count": 5, TIME_TO_FIRST_TOKEN: 1}
    secrets = dict.fromkeys(_SECRET_NAMES, "words")
    attributes = _attributes({**texts, **_ORDINARY, **numbers, **secrets})
    span = {
        "traceId": f"{1:032x}",
        "spanId": f"{1:016x}",
        "name": f"n {_SK}",
        "kind": 1,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        "traceState": "a=b",
        "status": {"code": 2, "message": f"failed: {_SK}"},
        "attributes": attributes,
        "events": [{"name": _SK, "timeUnixNano": "1", "attributes": _attributes({"text": _SK})}],
    }
    lists = {"headers": [_SK, "x"], "map": {"a": {"b": _SK}}, "user.id": "jane@example.com"}
    nested = {**span, "spanId": f"{2:016x}", "attributes": _attributes(lists)}
    now = str(time.time_ns())
    records = [
        {"timeUnixNano": now, "body": _value(f"body {_SK}"), "attributes": attributes},
        {"timeUnixNano": now, "body": _value({"a": {"b": [_SK]}}), "attributes": []},
    ]
    point = {"asInt": "1", "startTimeUnixNano": now, "timeUnixNano": now}
    counter = {
        "name": "planted",
        "sum": {
            "aggregationTemporality": 2,
            "isMonotonic": True,
            "dataPoints": [{**point, "attributes": _attributes({"label": f"a {_SK}"})}],
        },
    }
    bodies: dict[str, dict[str, Any]] = {
        "traces": {"resourceSpans": [{"scopeSpans": [{"spans": [span, nested]}]}]},
        "logs": {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]},
        "metrics": {"resourceMetrics": [{"scopeMetrics": [{"metrics": [counter]}]}]},
    }
    for signal, body in bodies.items():
        for resources in body.values():
            resources[0]["resource"] = resource
        url = f"{facts['OTLP_HTTP_URL']}/v1/{signal}"
        headers = stack_secrets.telemetry_headers(facts)
        if not httpx2.post(url, json=body, headers=headers, trust_env=False).is_success:
            return False
    return True


Arrived = tuple[Receiver, list[Any], str]


def test_configuration_has_the_rules_of_the_package() -> None:
    text = COLLECTOR.read_text("utf-8")
    assert redacting.written(text) == text


def test_every_pipeline_from_outside_is_redacted_first() -> None:
    pipelines = parsed(COLLECTOR)["service"]["pipelines"].values()
    outside = [each["processors"] for each in pipelines if "otlp" in each["receivers"]]
    assert len(outside) == 3
    assert {tuple(each[:2]) for each in outside} == {("memory_limiter", "transform/redaction")}


@pytest.mark.slow
def test_secrets_in_attributes_are_replaced_and_nothing_else(arrived: Arrived) -> None:
    receiver, records, _ = arrived
    [span] = [each for each in receiver.spans if each.span.span_id[-1] == 1]
    [record] = [each for each in records if each.body.HasField("string_value")]
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
def test_no_other_text_has_a_secret(arrived: Arrived) -> None:
    receiver, records, metrics = arrived
    everything = [each.span.SerializeToString() for each in receiver.spans]
    everything += [each.SerializeToString() for each in records]
    everything += [str(each.resource).encode() for each in receiver.spans]
    assert [each for each in [*everything, metrics.encode()] if _SK.encode() in each] == []
    assert {each.name for each in receiver.spans} == {f"n {_MARK}"}
    assert {each.span.status.message for each in receiver.spans} == {f"failed: {_MARK}"}
    assert f'label="a {_MARK}"' in metrics


@pytest.mark.slow
def test_lists_and_maps_are_redacted(arrived: Arrived) -> None:
    receiver, records, _ = arrived
    [span] = [each for each in receiver.spans if each.span.span_id[-1] == 2]
    assert span.attributes["user.id"] == "jane@example.com"
    assert list(span.attributes["headers"]) == [_MARK, "x"]
    [record] = [each for each in records if each.body.HasField("kvlist_value")]
    [inner] = record.body.kvlist_value.values[0].value.kvlist_value.values
    assert [each.string_value for each in inner.value.array_value.values] == [_MARK]
