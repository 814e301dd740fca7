"""What would keep the parts from starting here: ports that somebody else holds."""

import socket
from collections.abc import Mapping

import psutil

from stack.parts import PARTS
from stack.supervisor import stack_of


def port_problems(facts: Mapping[str, str]) -> list[str]:
    """One line for each port that is taken: who wants it, who has it, how to mend it."""
    problems = []
    for part in PARTS:
        for name in part.ports:
            port = int(facts[name])
            if not _is_free(facts["STACK_LISTEN"], port):
                problems.append(
                    f"port {port}, which {part.name} wants ({name}), is taken{_holder(port)}:"
                    f" end that program, or choose another port: {name}={_other(port)} make up"
                )
    return problems


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the parts do it: a port whose last connections linger can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            here = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
            if here and connection.pid:
                return _described(psutil.Process(connection.pid))
    except psutil.Error:
        pass
    return ""


def _described(process: psutil.Process) -> str:
    stack = stack_of(process)
    belongs = f", of the Chatscope stack in {stack}" if stack else ""
    return f" by {process.name()} (process {process.pid}{belongs})"


def _other(port: int) -> int:
    return port + 10 if port + 10 <= 65535 else port - 10
