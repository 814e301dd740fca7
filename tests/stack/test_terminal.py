"""`chatscope` with the stack: the documented commands, and a doctor that finds injected faults."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chatscope.cli.addresses import GRAFANA, LOKI, PROMETHEUS, SERVICE, TEMPO, Addresses, Place
from chatscope.cli.doctor import Doctor
from chatscope.cli.findings import Finding, State
from drill.webhook import serving
from stack.facts import ROOT
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.chaos.service import service
from tests.clocks import LIBRARY, SteppedClock
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.collectors import collector
from tests.stack.grafana import grafana_alone
from tests.stack.turns import MODEL, Turn, sse_turn
from tests.stores import free_port

_PAGE = (ROOT / "docs" / "terminal.md").read_text()
_EXAMPLE_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_PATIENCE = 2.0
_PLACES = (SERVICE, TEMPO, LOKI, PROMETHEUS, GRAFANA)
_KEY = "key-of-the-terminal-test"


def _environment(stack: Stack, **environ: str) -> dict[str, str]:
    """Return the environment of a shell in the directory in which the stack was started."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("OTEL_", "CHATSC"))
    }
    return {**kept, "STATE_DIR": stack.facts["STATE_DIR"], "COLUMNS": "80", **environ}


def _run(stack: Stack, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "chatscope", *words],
        cwd=ROOT,
        env=_environment(stack, **environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def turn(stack: Stack) -> Turn:
    """Return a response whose trace and log record have arrived."""
    found = sse_turn(stack.facts)
    query = f'{{service_name=~".+"}} | trace_id="{found.trace_id}"'
    for check, what in (
        (lambda: stack.backends.tempo_trace(found.trace_id), "the trace"),
        (lambda: stack.backends.loki(query), "its records"),
    ):
        poll_until(check, what, PATIENCE_SECONDS)
    return found


def _commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", _commands())
def test_command_of_the_page_works(stack: Stack, turn: Turn, command: str) -> None:
    program, *words = shlex.split(command.replace(_EXAMPLE_TRACE, turn.trace_id))
    assert program == "chatscope"
    if words[0] == "conversation":
        pytest.skip("its example is no conversation of this stack; tests/unit/cli runs it")
    done = _run(stack, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or "--json" in words
    # The lines of a response are its own, and an address cannot be broken.
    if words[0] != "chat" and "--json" not in words:
        lines = (line for line in done.stdout.splitlines() if "://" not in line)
        assert max(map(len, lines)) <= 80


def test_page_names_every_command() -> None:
    listed = re.findall(r"^\| `chatscope ([a-z]+)", _PAGE, re.MULTILINE)
    assert {command.split()[1] for command in _commands()} <= set(listed)


def test_trace_has_its_tree_records_tokens_and_cost(stack: Stack, turn: Turn) -> None:
    shown = _run(stack, "trace", turn.trace_id).stdout
    assert re.search(r"(?m)^POST /v1/chat/completions +[\d.]+ m?s  ━", shown)
    assert re.search(r"(?m)^└─ chat simulated-1 +[\d.]+ m?s ", shown)
    tokens = f"{turn.prompt_tokens} + {turn.completion_tokens} tokens"
    assert re.search(rf"(?m)^[ │]+{re.escape(tokens)} · \$0\.\d+ · first token [\d.]+ m?s", shown)
    assert "answer completed" in shown
    assert re.search(rf"(?m)^completed · {re.escape(tokens)} · ", shown)


def test_trace_in_json_has_all_of_it(stack: Stack, turn: Turn) -> None:
    found = json.loads(_run(stack, "trace", turn.trace_id.lstrip("0"), "--json").stdout)
    assert found["trace_id"] == turn.trace_id
    assert found["input_tokens"] == turn.prompt_tokens
    assert found["output_tokens"] == turn.completion_tokens
    assert found["cost"] > 0
    assert {span["trace_id"] for span in found["spans"]} == {turn.trace_id}
    assert {"answer completed"} <= {record["text"] for record in found["records"]}


def test_trace_is_found_by_the_id_of_its_response(stack: Stack, turn: Turn) -> None:
    spans = stack.backends.tempo_trace(turn.trace_id) or []
    [response_id] = {
        value for span in spans if (value := span.attributes.get("gen_ai.response.id"))
    }

    def found() -> str:
        return _run(stack, "trace", str(response_id)).stdout

    assert f"Trace {turn.trace_id}" in poll_until(found, "the search", PATIENCE_SECONDS, 1.0)


def test_unknown_ids_are_named(stack: Stack) -> None:
    unknown = _run(stack, "trace", "1" * 32)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert f"has no trace {'1' * 32}" in unknown.stderr
    neither = _run(stack, "trace", 'chatcmpl-"}')
    assert "is neither a trace ID (32 hex digits) nor the ID of a response" in neither.stderr


def test_top_shows_the_models_that_respond(stack: Stack, turn: Turn) -> None:
    def found() -> Mapping[str, Any] | None:
        done = _run(stack, "top", "--json", "--window", "10m")
        assert done.returncode == 0, done.stderr
        models = json.loads(done.stdout)["models"]
        mine = [each for each in models if each["model"] == MODEL and each["tokens"] > 0]
        return mine[0] if mine else None

    sse_turn(stack.facts)
    row = poll_until(found, "the model", PATIENCE_SECONDS, 1.0)
    assert row["service"] == stack.facts["OTEL_SERVICE_NAME"]
    assert row["requests"] > 0
    assert 0 <= row["error_rate"] <= 1
    assert 0 < row["p95_seconds"] < PATIENCE_SECONDS
    shown = _run(stack, "top", "--once", "--window", "10m").stdout
    assert re.search(rf"(?m)^{MODEL} +\S+ +\d+\.\d\d +\d+\.\d% ", shown)


def test_rating_is_recorded_on_its_trace(stack: Stack, turn: Turn) -> None:
    done = _run(stack, "feedback", turn.trace_id, "good", "--comment", "clear", "--json")
    assert json.loads(done.stdout)["label"] == "good"
    comment = 'gen_ai_evaluation_explanation="clear"'
    query = f'{{service_name=~".+"}} | trace_id="{turn.trace_id}" | {comment}'
    poll_until(lambda: stack.backends.loki(query), "the rating", PATIENCE_SECONDS)


def test_chat_answers_once_and_in_json(stack: Stack) -> None:
    done = _run(stack, "chat", "Hello", "there", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["asked"] == "Hello there"
    assert said["response"]
    assert re.fullmatch("[0-9a-f]{32}", said["trace_id"])
    failed = _run(stack, "chat", "--model", "none", "Hello")
    assert failed.returncode == 1
    assert "error: " in failed.stdout


# -- doctor -------------------------------------------------------------------------------


def _examine(
    stack: Stack,
    environ: Mapping[str, str] | None = None,
    *,
    key: str | None = None,
    patience: float = _PATIENCE,
    urls: Mapping[Place, str] | None = None,
) -> list[Finding]:
    """Return the findings for a service with these variables and component URLs."""
    variables = {"STATE_DIR": stack.facts["STATE_DIR"], **(environ or {})}
    doctor = Doctor(
        Addresses(variables, ROOT),
        variables,
        urls={place: (urls or {}).get(place) for place in _PLACES},
        headers={},
        key=key,
        patience=patience,
    )
    return list(doctor.examine())


def _faults(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings if finding.state is State.FAULT}
    assert all(finding.fix for finding in found.values())
    return found


def _nothing() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_healthy_stack_has_no_faults(stack: Stack) -> None:
    findings = _examine(stack, patience=PATIENCE_SECONDS)
    assert _faults(findings) == {}
    returned = {each.check: each.text for each in findings if "returned the" in each.text}
    assert set(returned) == {"Tempo", "Loki", "Prometheus"}


def test_exit_code_and_json_say_whether_there_is_a_fault(stack: Stack) -> None:
    healthy = _run(stack, "doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert "no faults" in healthy.stdout
    done = _run(stack, "doctor", "--json", "--loki-url", _nothing())
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert [each["check"] for each in found["checks"] if each["state"] == "fault"] == ["Loki"]


def test_invalid_setting_is_a_fault(stack: Stack) -> None:
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "soon", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector"}
    settings = [each for each in _examine(stack, variables) if each.check == "settings"]
    assert len(settings) == 2
    assert {each.state for each in settings} == {State.FAULT}
    assert "OTEL_BSP_SCHEDULE_DELAY must be a whole number" in settings[0].text
    assert "unset" in settings[0].fix


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")]
)
def test_telemetry_that_is_switched_off_is_a_warning(stack: Stack, name: str, value: str) -> None:
    [warning] = [each for each in _examine(stack, {name: value}) if each.state is State.WARNING]
    assert warning.text.startswith(f"{name}={value}: ")
    assert warning.fix == f"unset {name}"


def test_collector_that_does_not_run_is_a_fault(stack: Stack) -> None:
    url = _nothing()
    faults = _faults(_examine(stack, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}))
    assert set(faults) == {"Collector"}
    assert f"nothing listens at {url}" in faults["Collector"].text
    assert "make up" in faults["Collector"].fix
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in faults["Collector"].fix


_SENT = {"send traces", "send metrics", "send logs"}


@pytest.mark.parametrize(
    ("protocol", "port"), [("http/protobuf", "OTLP_GRPC_PORT"), ("grpc", "OTLP_HTTP_PORT")]
)
def test_port_of_another_protocol_is_a_fault(stack: Stack, protocol: str, port: str) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.facts[port]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
    }
    faults = _faults(_examine(stack, variables))
    assert set(faults) == _SENT
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in faults["send logs"].fix


def test_collector_that_has_no_tls_is_a_fault(stack: Stack) -> None:
    endpoint = stack.facts["OTLP_URL"].replace("http", "https")
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "3"}
    faults = _faults(_examine(stack, variables))
    assert set(faults) == _SENT
    assert faults["send traces"].fix.startswith("use http://")


def test_service_without_the_token_of_the_collector_is_a_fault(stack: Stack) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.facts["OTLP_URL"]}
    wrong = {**endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20wrong"}
    for variables in (endpoint, wrong):
        faults = _faults(_examine(stack, variables))
        assert set(faults) == _SENT
        assert "UNAUTHENTICATED" in faults["send logs"].text
        assert "CHATSCOPE_OTLP_HEADERS_FILE" in faults["send logs"].fix
    assert _faults(_examine(stack, telemetry_variables(stack.facts), patience=30.0)) == {}


def test_login_that_a_backend_refuses_is_a_fault(stack: Stack) -> None:
    url = {LOKI: stack.facts["LOKI_URL"].replace("127.0.0.1", "localhost")}
    faults = _faults(_examine(stack, urls=url))
    assert set(faults) == {"Loki"}
    assert "requires credentials (401)" in faults["Loki"].text
    assert "--header" in faults["Loki"].fix


def test_endpoint_that_is_no_receiver_is_a_fault(stack: Stack) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.facts["APP_URL"],
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    faults = _faults(_examine(stack, variables))
    assert set(faults) == _SENT
    assert "no OTLP receiver" in faults["send traces"].fix


@pytest.mark.parametrize("place", [TEMPO, LOKI, PROMETHEUS], ids=lambda place: place.name)
def test_backend_that_does_not_run_is_a_fault(stack: Stack, place: Place) -> None:
    url = _nothing()
    faults = _faults(_examine(stack, urls={place: url}))
    [fault] = faults.values()
    assert fault.check == place.name
    assert f"nothing listens at {url}" in fault.text
    assert place.variable in fault.fix


@pytest.mark.parametrize("place", [TEMPO, LOKI, PROMETHEUS], ids=lambda place: place.name)
def test_another_program_at_the_address_of_a_backend_is_a_fault(stack: Stack, place: Place) -> None:
    faults = _faults(_examine(stack, urls={place: stack.facts["APP_URL"]}))
    [fault] = faults.values()
    assert f"another program than {place.name} answers at" in fault.text


def test_backend_that_its_gateway_does_not_reach_is_a_fault(stack: Stack) -> None:
    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(502)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server, serving(server):
        url = f"http://127.0.0.1:{server.server_port}"
        faults = _faults(_examine(stack, urls={LOKI: url}))
    [fault] = faults.values()
    assert fault.text == f"a gateway answers at {url}, and cannot reach it (502)"
    assert "make logs PART=loki" in fault.fix


@pytest.mark.one_machine("a Collector beside it would write to Prometheus")
@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("TEMPO_OTLP_ENDPOINT", "127.0.0.1:9", "Tempo"),
        ("LOKI_URL", "http://127.0.0.1:9", "Loki"),
        ("PROMETHEUS_URL", "http://127.0.0.1:9", "Prometheus"),
    ],
)
def test_collector_that_does_not_deliver_is_a_fault(
    stack: Stack, tmp_path: Path, variable: str, value: str, check: str
) -> None:
    with collector(stack, tmp_path, {variable: value}) as beside:
        faults = _faults(_examine(stack, telemetry_variables(beside), patience=10.0))
    assert set(faults) == {check}
    assert "the Collector has accepted the" in faults[check].text
    assert "make logs PART=collector" in faults[check].fix


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
def test_clock_that_is_ahead_is_a_fault(stack: Stack, tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path)
    clock.step("+2h")
    done = _run(stack, "doctor", "--json", "--timeout", "2", **clock.environ)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["checks"]
    clocks = [each for each in found if each["check"] == "clock"]
    assert {each["state"] for each in clocks} == {"fault"}
    assert re.match(r"this machine's is 7(19\d|20\d) s ahead of ", clocks[0]["text"])
    assert "NTP" in clocks[0]["fix"]


def test_api_key_that_the_service_refuses_is_a_fault(stack: Stack, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    keys.write_text(f'[[keys]]\nname = "one"\nsha256 = "{digest}"\n')
    with service(stack, tmp_path, KEYS_FILE=str(keys)) as one:
        url = {SERVICE: one.facts["APP_URL"]}
        refused = _faults(_examine(stack, key="wrong", urls=url))
        missing = [each for each in _examine(stack, urls=url) if each.state is State.WARNING]
        accepted = _faults(_examine(stack, key=_KEY, urls=url))
    assert "refuses the API key" in refused["service"].text
    assert "CHATSCOPE_API_KEY" in refused["service"].fix
    assert [each.text == "it requires an API key, and none is set" for each in missing] == [True]
    assert accepted == {}


def test_another_program_at_the_address_of_grafana_is_a_fault(stack: Stack) -> None:
    faults = _faults(_examine(stack, urls={GRAFANA: stack.facts["PROMETHEUS_URL"]}))
    assert set(faults) == {"Grafana"}
    assert "another program than Grafana" in faults["Grafana"].text


def test_datasource_that_does_not_answer_is_a_fault(stack: Stack, tmp_path: Path) -> None:
    addresses = {name: stack.facts[name] for name in ("GATEWAY_URL", "TEMPO_URL")}
    facts = {**addresses, "LOKI_URL": _nothing(), "GRAFANA_PORT": str(free_port())}
    passwords = {"SECRETS_DIR": stack.facts["SECRETS_DIR"]}
    with grafana_alone(tmp_path, facts, passwords) as url:
        faults = _faults(_examine(stack, urls={GRAFANA: url}))
    assert set(faults) == {"link to loki"}
    assert "Grafana cannot read from loki" in faults["link to loki"].text
    assert "datasource loki" in faults["link to loki"].fix
