"""Without a password, no component can be changed, stopped or read: each endpoint and attacker.

`python -m pytest tests/stack/test_doors.py` compares the results with docs/access.md, and writes
them to .chatscope/access.md.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import pytest

from ledger import otlp
from stack import facts as stack_facts
from stack.facts import ROOT
from stack.local_http import local_client
from stack.secrets import backend_client, telemetry_headers
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.doors import ATTACKERS, DOORS, Door, is_refusal, table

_PAGE = ROOT / "docs" / "access.md"
_FOUND = ROOT / ".chatscope" / "access.md"
# Address of a neighbouring host, and of this machine as seen from it.
_HERE, _THERE = "198.51.100.1", "198.51.100.2"

Results = Mapping[Door, Mapping[str, str]]


@pytest.fixture(scope="module")
def results(stack: Stack) -> Results:
    before = _starts(stack)
    found = {
        door: {name: attack(stack.facts, door) for name, attack in ATTACKERS.items()}
        for door in DOORS
    }
    assert _starts(stack) == before
    return found


def _starts(stack: Stack) -> dict[str, tuple[int, int]]:
    """Return the process of each component, and its number of restarts."""
    return {name: (state.pid, state.restarts) for name, state in stack.running.states().items()}


def test_every_endpoint_refuses_every_attacker(results: Results) -> None:
    let_in = {
        f"{door.component} {door.name}": {
            name: result for name, result in found.items() if not is_refusal(result)
        }
        for door, found in results.items()
    }
    assert {name: found for name, found in let_in.items() if found} == {}


def test_nothing_was_changed(stack: Stack, results: Results) -> None:
    assert results
    with backend_client(stack.facts, "ALERTMANAGER_URL") as client:
        assert client.get("/api/v2/silences").raise_for_status().json() == []
        alerts = client.get("/api/v2/alerts").raise_for_status().json()
    assert "Forged" not in {alert["labels"]["alertname"] for alert in alerts}
    assert stack.backends.loki('{service_name="forged"}') == []
    for part in stack.running.parts:
        assert stack.running.is_ready(part), part.name


def test_table_of_endpoints_is_the_one_in_the_documentation(results: Results) -> None:
    _FOUND.parent.mkdir(exist_ok=True)
    _FOUND.write_text(table(results))
    assert table(results) in _PAGE.read_text(), f"put the table of {_FOUND} into {_PAGE}"


@pytest.mark.parametrize(
    "port",
    [
        "OTLP_GRPC_PORT",
        pytest.param(
            "COLLECTOR_HOP_PORT", marks=pytest.mark.one_machine("its agents have no such receiver")
        ),
    ],
)
@pytest.mark.parametrize("token", ["", "wrong"])
def test_telemetry_without_the_token_is_refused(stack: Stack, port: str, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    service = f"forged-{uuid.uuid4().hex[:8]}"
    endpoint = f"{stack.facts['STACK_HOST']}:{stack.facts[port]}"
    with otlp.sender(endpoint, headers) as sender, pytest.raises(grpc.RpcError) as refused:
        sender.send(otlp.sums(service, "forged", otlp.point(1)))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_telemetry_with_the_token_is_accepted(stack: Stack) -> None:
    """The result of the test above if the Collector accepted nothing at all."""
    with otlp.sender(stack.facts["OTLP_URL"], telemetry_headers(stack.facts)) as sender:
        sender.send(otlp.sums("doors", "opened", otlp.point(1)))


def test_sockets_and_secrets_are_for_their_user_alone(stack: Stack) -> None:
    if not Path(stack.facts["SOCKETS_DIR"]).exists():
        pytest.skip("in containers they are in volumes")
    places = [Path(stack.facts[name]) for name in ("STATE_DIR", "SOCKETS_DIR", "SECRETS_DIR")]
    for place in places:
        assert place.stat().st_mode & 0o777 == 0o700, place
    for path in places[2].rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_files_of_the_stack_are_for_its_user_alone(stack: Stack) -> None:
    if not Path(stack.facts["DATA_DIR"]).exists():
        pytest.skip("in containers they are in volumes")
    places = [Path(stack.facts["DATA_DIR"]), Path(stack.facts["STATE_DIR"]) / "logs"]
    written = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_component_has_no_variables_of_another(stack: Stack) -> None:
    """A user's secret reaches only the component that needs it."""
    if not (pid := stack.pid("loki")) or not Path(f"/proc/{pid}").exists():
        pytest.skip("its processes cannot be seen from here")
    for part in ("collector", "prometheus", "loki", "tempo", "gateway"):
        text = Path(f"/proc/{stack.pid(part)}/environ").read_bytes().decode()
        names = {each.partition("=")[0] for each in text.split("\0")}
        foreign = {n for n in names if n.endswith("_API_KEY") or n.startswith(("ALERT_", "GF_"))}
        assert foreign - {"ALERTMANAGER_PORT", "ALERTMANAGER_URL"} == set(), part
        passwords = {n for n in names if n.endswith("_PASSWORD")}
        assert passwords <= ({"LOKI_PASSWORD"} if part == "loki" else set()), part


@pytest.fixture
def neighbour() -> Iterator[list[str]]:
    """Return a command that runs another in a network namespace next to this machine's."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("only root, with ip, can make a network namespace that leads here")
    name = f"cs{uuid.uuid4().hex[:8]}"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr}")
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "there", "netns", name)
        _ip("addr", "add", f"{_HERE}/30", "dev", name)
        _ip("link", "set", name, "up")
        _ip("-n", name, "addr", "add", f"{_THERE}/30", "dev", "there")
        _ip("-n", name, "link", "set", "there", "up")
        yield ["ip", "netns", "exec", name]
    finally:
        _ip("netns", "delete", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


_CONNECT = """
import json, socket, sys
found = []
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), timeout=5).close()
    except OSError:
        continue
    found.append(port)
print(json.dumps(found))
"""


def test_neighbour_on_the_network_reaches_no_component(stack: Stack, neighbour: list[str]) -> None:
    ports = [int(stack.facts[name]) for name in stack_facts.ports(stack.facts)]
    # On all addresses: otherwise nothing is reachable there, whatever listens.
    with socket.create_server(("", 0)) as everywhere:
        control = everywhere.getsockname()[1]
        done = subprocess.run(
            [
                *neighbour,
                sys.executable,
                "-c",
                _CONNECT,
                _HERE,
                *map(str, [*ports, control]),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS * 4,
        )
    assert json.loads(done.stdout) == [control]


@pytest.fixture(scope="module")
def grafana(stack: Stack) -> str:
    if missing := stack.running.missing.get("grafana"):
        pytest.skip(f"no Grafana: {missing}")
    return stack.facts["GRAFANA_URL"]


def test_viewer_of_grafana_is_refused_through_its_datasources(stack: Stack, grafana: str) -> None:
    before = _starts(stack)
    let_in = {}
    with local_client(grafana, timeout=PATIENCE_SECONDS) as client:
        for door in DOORS:
            if door.uid:
                path = f"/api/datasources/proxy/uid/{door.uid}{door.path}"
                answer = client.request(door.method, path, content=door.body or None)
                if answer.is_success:
                    let_in[f"{door.component} {door.name}"] = answer.status_code
        silence = {"matchers": [], "startsAt": "2026-01-01T00:00:00Z", "comment": "no"}
        path = "/api/datasources/proxy/uid/alertmanager/api/v2/silences"
        assert not client.post(path, json=silence).is_success
    assert let_in == {}
    assert _starts(stack) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", path) for path in ("/api/dashboards/db", "/api/folders", "/api/annotations")],
        *[("POST", path) for path in ("/api/snapshots", "/api/query-history", "/api/datasources")],
        ("DELETE", "/api/datasources/uid/loki"),
        ("GET", "/api/admin/settings"),
        ("GET", "/metrics"),
        ("GET", "/api/gnet/plugins"),
    ],
)
def test_viewer_of_grafana_changes_nothing_there(grafana: str, method: str, path: str) -> None:
    with local_client(grafana, timeout=PATIENCE_SECONDS) as client:
        answer = client.request(method, path, json={} if method == "POST" else None)
    assert not answer.is_success


def test_grafana_refuses_pages_of_other_origins_and_names(grafana: str) -> None:
    with local_client(grafana, timeout=PATIENCE_SECONDS) as client:
        asked = {"queries": [], "from": "now-1m", "to": "now"}
        foreign = client.post(
            "/api/ds/query", json=asked, headers={"origin": "http://evil.example"}
        )
        assert foreign.status_code == 403
        renamed = client.get("/api/datasources", headers={"host": "evil.example"})
        assert renamed.status_code == 301
        assert renamed.headers["location"].startswith(grafana)
