"""Ports in use are reported before anything starts."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import facts
from stack.parts import PARTS
from stack.preflight import port_problems
from stack.supervisor import MARKER


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def _free_facts() -> dict[str, str]:
    """Return facts with ports that the system has just assigned, and so are free."""
    names = facts.ports(facts.load({}))
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    numbers = [str(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return facts.load(dict(zip(names, numbers, strict=True)))


def test_free_ports_are_no_problem() -> None:
    assert port_problems(_free_facts(), PARTS) == []


def test_port_in_use_is_reported_with_component_process_and_fix(taken: int) -> None:
    line, mend = port_problems({**_free_facts(), "LOKI_GRPC_PORT": str(taken)}, PARTS)
    assert f"port {taken} of loki (LOKI_GRPC_PORT) is in use" in line
    assert f"process {os.getpid()}" in line
    assert "LOKI_GRPC_PORT=" in mend
    assert "make up" in mend


def test_port_of_a_component_that_does_not_run_may_be_in_use(taken: int) -> None:
    others = [part for part in PARTS if part.name != "grafana"]
    assert port_problems({**_free_facts(), "GRAFANA_PORT": str(taken)}, others) == []


def test_ports_of_app_and_grafana_are_checked_on_publish_host() -> None:
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = str(server.getsockname()[1])
        taken_there = {**_free_facts(), "APP_PORT": port, "GRAFANA_PORT": port, "LOKI_PORT": port}
        *lines, _ = port_problems({**taken_there, "PUBLISH_HOST": "127.0.0.2"}, PARTS)
    assert [re.findall(r"of (\w+) \(", line) for line in lines] == [["app"], ["grafana"]]


def test_address_of_another_machine_is_reported_once() -> None:
    # 203.0.113.0/24 is reserved for documentation.
    [line] = port_problems({**_free_facts(), "PUBLISH_HOST": "203.0.113.7"}, PARTS)
    assert line.startswith("PUBLISH_HOST=203.0.113.7 is not an address of this machine")


def test_ports_of_another_chatscope_are_reported_in_one_line(tmp_path: Path) -> None:
    program = "import socket, sys, time; s = [socket.create_server(('127.0.0.1', 0)) for _ in 'ab']"
    program += "; print(*[each.getsockname()[1] for each in s], flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, MARKER: str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        one, two = other.stdout.readline().split()
        wanted = {**_free_facts(), "LOKI_PORT": one, "TEMPO_PORT": two}
        line, mend = port_problems(wanted, PARTS)
        other.communicate()
    assert line == f"another Chatscope, in {tmp_path}, uses these ports: {one}, {two}"
    assert "make down there" in mend
