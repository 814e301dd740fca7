"""No planted secret is found in a backend, on disk or on a console."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import pytest

from stack.facts import ROOT
from stack.secrets import telemetry_headers, telemetry_variables
from stack.waiting import poll_until
from tests.harness import notes
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.canaries import library
from tests.stack.canaries.planting import Garden
from tests.stack.canaries.provider import MODELS, Provider, provider
from tests.stack.canaries.searching import Search, files, spooled
from tests.stack.canaries.service import Client

pytestmark = pytest.mark.slow

_SERVICES = ("canaries-service", "canaries-library", "canaries-captured", "canaries-other")
_LEAST_PLACES = 90
# Returned by the provider.
_TEXTS = (
    *("message", "code", "type", "shape", "id", "model", "fingerprint", "reason", "header"),
    *("limit",),
)


@dataclass
class Planted:
    """The planted secrets, and the output of all processes."""

    garden: Garden
    since: float
    directory: Path
    printed: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    received: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def planted(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Plant secrets in all services at once."""
    garden = Garden()
    planted = Planted(garden, time.time(), tmp_path_factory.mktemp("canaries"))
    texts = {name: garden.secret(f"provider's {name}") for name in _TEXTS}
    texts["answer"] = garden.words("provider's answer")
    with provider(texts) as upstream:
        _plant_service(stack, planted, upstream)
        planted.received = upstream.received
    _plant_library(stack, planted)
    _plant_elsewhere(stack, garden)
    return planted


def _plant_service(stack: Stack, planted: Planted, upstream: Provider) -> None:
    garden = planted.garden
    key, password = garden.words("provider's key"), garden.words("password in the base URL")
    planted.keys = (garden.planted["provider's key"], garden.planted["password in the base URL"])
    environ = {
        "OPENAI_BASE_URL": f"http://me:{password}@127.0.0.1:{upstream.server_address[1]}/v1",
        "OPENAI_API_KEY": key,
        "OPENAI_MODELS": ",".join(MODELS),
        "OPENAI_MAX_RETRIES": "0",
        "LOG_LEVEL": "DEBUG",
        "OPENAI_LOG": "debug",
        "SIMULATED_TOKENS_PER_SECOND": "0",
        "SIMULATED_FIRST_TOKEN_SECONDS": "0",
        "TELEMETRY_SPOOL_DIR": str(planted.directory / "sent"),
        "OTEL_SERVICE_NAME": _SERVICES[0],
        **_telemetry(stack),
    }
    with _service(environ, planted, "service") as url:
        client = Client(url, garden)
        client.plant_all()
        planted.answers = client.answers
    # The same without a Collector: the spool on disk.
    kept = {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    kept["TELEMETRY_SPOOL_DIR"] = str(planted.directory / "kept")
    with _service(kept, planted, "service without a Collector") as url:
        for place in ("path", "query", "header", "prompt that up-400 repeats", "stop sequence"):
            _ask_without_collector(url, garden, place)


def _ask_without_collector(url: str, garden: Garden, place: str) -> None:
    text = garden.secret(f"{place}, kept on disk")
    is_prompt = place.startswith("prompt")
    body = {
        "model": "up-400" if is_prompt else "simulated-1",
        "messages": [{"role": "user", "content": text if is_prompt else "Hello"}],
        **({"stop": [text]} if place == "stop sequence" else {}),
    }
    headers = {"user-agent": text} if place == "header" else {}
    with httpx2.Client(base_url=url, trust_env=False, timeout=30.0) as client:
        client.post("/v1/chat/completions", json=body, headers=headers)
        if place in ("path", "query"):
            client.get(f"/{text}" if place == "path" else f"/x?y={text}")


def _telemetry(stack: Stack) -> dict[str, str]:
    return telemetry_variables(stack.facts)


@contextmanager
def _service(environ: Mapping[str, str], planted: Planted, name: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PORT": "0", "PYTHONUNBUFFERED": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Uvicorn running on " in line:
                break
        # Before further lines arrive.
        url = lines[-1].partition("Uvicorn running on ")[2].split()[0]
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        yield url
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        reader.join(PATIENCE_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        planted.printed[name] = "".join(lines)


def _plant_library(stack: Stack, planted: Planted) -> None:
    garden = planted.garden
    texts = {place: garden.secret(place) for place in library.SECRETS}
    texts |= {place: garden.words(place) for place in library.HIDDEN}
    makers = (garden.jwt, garden.block, garden.mail, garden.card, garden.phone, garden.url)
    texts |= {
        place: make(place)
        for place, make in zip(library.OTHER_SHAPES, (*makers, garden.card), strict=True)
    }
    captured = {place: garden.secret(place) for place in library.CAPTURED}
    for name, given, capture in (
        (_SERVICES[1], texts, "NO_CONTENT"),
        (_SERVICES[2], {**texts, **captured}, "SPAN_AND_EVENT"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tests.stack.canaries.library"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "OTEL_SERVICE_NAME": name,
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": capture,
                **_telemetry(stack),
            },
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # Its console is the developer's own.


def _plant_elsewhere(stack: Stack, garden: Garden) -> None:
    """Send telemetry of a service without the package to the Collector."""

    def attributes(**given: str) -> list[dict[str, object]]:
        return [{"key": key, "value": {"stringValue": text}} for key, text in given.items()]

    def secret(place: str) -> str:
        return garden.secret(f"another service's {place}")

    note = secret("resource")
    resource = {"attributes": attributes(**{"service.name": _SERVICES[3], "note": note})}
    now = str(time.time_ns())
    span = {
        "traceId": os.urandom(16).hex(),
        "spanId": os.urandom(8).hex(),
        "name": f"n {secret('span')}",
        "kind": 1,
        "startTimeUnixNano": now,
        "endTimeUnixNano": now,
        "status": {"code": 2, "message": secret("status")},
        "attributes": [
            *attributes(a=secret("attribute"), mail=garden.mail("another service's e-mail")),
            {
                "key": "list",
                "value": {"arrayValue": {"values": [{"stringValue": secret("list")}]}},
            },
        ],
        "events": [{"name": "e", "timeUnixNano": now, "attributes": attributes(a=secret("event"))}],
    }
    record = {
        "timeUnixNano": now,
        "body": {"stringValue": secret("log message")},
        "attributes": attributes(a=secret("log attribute"), token=garden.words("another's token")),
    }
    point = {"asInt": "1", "startTimeUnixNano": now, "timeUnixNano": now}
    points = [{**point, "attributes": attributes(label=secret("label"))}]
    counter = {
        "name": "other.planted",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": points},
    }
    bodies = {
        "traces": {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]},
        "logs": {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]},
        "metrics": {
            "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [counter]}]}]
        },
    }
    for signal, body in bodies.items():
        url = f"{stack.facts['OTLP_HTTP_URL']}/v1/{signal}"
        headers = telemetry_headers(stack.facts)
        httpx2.post(url, json=body, headers=headers, trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def search(stack: Stack, planted: Planted) -> Search:
    """Search once everything has arrived: the last item sent is found."""
    backends = stack.backends
    for name in _SERVICES:
        traces = partial(backends.tempo_search, f'{{resource.service.name="{name}"}}')
        lines = partial(backends.loki, f'{{service_name="{name}"}}', start=planted.since)
        poll_until(traces, f"traces of {name}", PATIENCE_SECONDS)
        poll_until(lines, f"lines of {name}", PATIENCE_SECONDS)
    poll_until(
        lambda: backends.prometheus("other_planted_total"), "the other metric", PATIENCE_SECONDS
    )
    return Search(stack, _SERVICES, planted.since)


def test_no_canary_is_in_a_backend(
    planted: Planted, search: Search, record_property: Callable[[str, object], None]
) -> None:
    garden = planted.garden
    places = len(garden.planted)
    record_property(notes.NOTE, f"canaries were planted in {places} places:\n{garden.report()}")
    found = {each for where, text in search.texts() for each in garden.found_in(where, text)}
    assert len(garden.planted) >= _LEAST_PLACES
    # Otherwise nothing was searched.
    assert search.traces > _LEAST_PLACES
    assert search.lines > _LEAST_PLACES
    assert not found, "\n".join(map(str, sorted(found)))


def test_no_canary_is_on_disk(planted: Planted, search: Search, stack: Stack) -> None:
    del search  # Everything has arrived.
    state = Path(stack.facts["STATE_DIR"])
    read = files([state, planted.directory])
    assert sorted({e for where, text in read for e in planted.garden.found_in(where, text)}) == []
    batches = list(spooled(planted.directory / "kept"))
    assert {name for name, _ in batches} >= {"spans", "log-records"}
    everything = b"".join(body for _, body in batches)
    assert b"<redacted api key>" in everything
    assert planted.garden.found_in("spool", everything.decode("latin-1")) == set()


def test_no_canary_is_on_the_console_of_the_service(planted: Planted) -> None:
    for name, text in planted.printed.items():
        assert "completions" in text
        assert sorted(planted.garden.found_in(name, text)) == []


def test_no_client_gets_a_key(planted: Planted) -> None:
    answers = "\n".join(planted.answers)
    assert "up-ok" in answers
    assert [key for key in planted.keys if key in answers] == []
    message = planted.garden.planted["provider's message"]
    assert message not in answers


def test_no_state_of_a_trace_goes_to_the_provider(planted: Planted) -> None:
    received = "\n".join(planted.received)
    assert "authorization" in received.lower()
    assert planted.garden.planted["header tracestate"] not in received
    assert planted.garden.planted["header baggage"] not in received
