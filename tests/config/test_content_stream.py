"""Captured content has its own stream in Loki, with its own retention."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chatscope.names import EVENT_INFERENCE_DETAILS, GEN_AI_INPUT_MESSAGES
from stack import facts as stack_facts
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.config.conftest import Run
from tests.config.files import COLLECTOR, LOKI, parsed
from tests.running import PATIENCE_SECONDS
from tests.stores import free_ports, prepare, running_loki


def test_texts_have_a_retention_of_their_own() -> None:
    [stream] = parsed(LOKI)["limits_config"]["retention_stream"]
    assert stream["selector"] == '{chatscope_kind="content"}'
    assert stream["period"] == "${CONTENT_RETENTION}"
    assert stack_facts.load({"RETENTION": "48h"})["CONTENT_RETENTION"] == "48h"
    assert stack_facts.load({"CONTENT_RETENTION": "24h"})["RETENTION"] == "360h"


@pytest.mark.parametrize(("period", "accepted"), [("24h", True), ("23h", False)])
def test_shortest_retention_is_a_day(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    stack_env: dict[str, str],
    period: str,
    accepted: bool,
) -> None:
    monkeypatch.setitem(stack_env, "CONTENT_RETENTION", period)
    judged = run("loki", f"-config.file={LOKI}", "-config.expand-env=true", "-verify-config")
    assert (judged.returncode == 0) is accepted, judged.stderr


def _record(text: str, event: str = "", **attributes: str) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return {
        "timeUnixNano": str(time.time_ns()),
        "body": {"stringValue": text},
        "eventName": event,
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in named.items()],
    }


@pytest.mark.slow
def test_records_with_texts_are_another_stream(
    binary: Callable[[str], Path], tmp_path: Path
) -> None:
    records = [
        _record("plain"),
        _record("details", EVENT_INFERENCE_DETAILS),
        _record("older", **{GEN_AI_INPUT_MESSAGES: "[]"}),
        _record("hostile", chatscope__kind="a new stream"),
    ]
    service = {"key": "service.name", "value": {"stringValue": "talks"}}
    body = {
        "resourceLogs": [
            {"resource": {"attributes": [service]}, "scopeLogs": [{"logRecords": records}]}
        ]
    }
    with running_loki(tmp_path) as loki:
        facts = stack_facts.load({**free_ports(), "STATE_DIR": str(tmp_path)}) | {"LOKI_URL": loki}
        prepare(facts)
        command: list[Any] = [binary("otelcol"), f"--config={COLLECTOR}"]
        with subprocess.Popen(command, env=facts, stderr=subprocess.DEVNULL) as process:
            try:
                poll_until(
                    lambda: (
                        httpx2.post(
                            f"{facts['OTLP_HTTP_URL']}/v1/logs",
                            json=body,
                            headers=telemetry_headers(facts),
                            trust_env=False,
                        ).is_success
                    ),
                    "the Collector",
                    PATIENCE_SECONDS,
                )
                found = poll_until(lambda: _streams(loki), "the records", PATIENCE_SECONDS)
            finally:
                process.kill()
    assert found == {"plain": None, "details": "content", "older": "content", "hostile": None}


def _streams(url: str) -> dict[str, str | None] | None:
    """Return the kind of each record's stream, once all have arrived."""
    found = httpx2.get(
        f"{url}/loki/api/v1/query_range",
        params={"query": '{service_name="talks"}'},
        headers={"X-Loki-Response-Encoding-Flags": "categorize-labels"},
        trust_env=False,
    ).json()["data"]["result"]
    kinds = {
        value[1]: stream["stream"].get("chatscope_kind")
        for stream in found
        for value in stream["values"]
    }
    return kinds if len(kinds) == 4 else None
