"""Ports that are taken, told before anything starts."""

import os
import socket
from collections.abc import Iterator

import pytest

from stack import facts
from stack.preflight import port_problems


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def _free_facts() -> dict[str, str]:
    """Facts whose ports the system has just handed out, and so are free."""
    names = facts.ports(facts.load({}))
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    numbers = [str(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return facts.load(dict(zip(names, numbers, strict=True)))


def test_free_ports_are_no_problem() -> None:
    assert port_problems(_free_facts()) == []


def test_taken_port_is_told_with_its_part_its_holder_and_the_mend(taken: int) -> None:
    line, mend = port_problems({**_free_facts(), "LOKI_GRPC_PORT": str(taken)})
    assert f"port {taken}, for loki (LOKI_GRPC_PORT), is taken" in line
    assert f"process {os.getpid()}" in line
    assert "LOKI_GRPC_PORT=" in mend
    assert "make up" in mend
