"""What would keep the parts from starting here: ports and addresses that cannot be had."""

import errno
import socket
from collections.abc import Iterable, Mapping

import psutil

from stack.parts import Part
from stack.supervisor import stack_of


def port_problems(facts: Mapping[str, str], parts: Iterable[Part]) -> list[str]:
    """A line for each port that is taken: who wants it and who has it; then one with the mend.

    An address that this machine does not have is told instead: no port of it could be had.
    """
    host = facts["PUBLISH_HOST"]
    if _refusal(host, 0):
        return [
            f"PUBLISH_HOST={host} is no address of this machine: give one that it has,"
            " or 0.0.0.0 for all of them"
        ]
    taken = {
        name: part.name
        for part in parts
        for name in part.ports
        if _refusal(facts[part.listen], int(facts[name]))
    }
    if not taken:
        return []
    holders = {name: _holder(int(facts[name])) for name in taken}
    stacks = {stack_of(holder) if holder else None for holder in holders.values()}
    if len(stacks) == 1 and (directory := stacks.pop()):
        numbers = ", ".join(facts[name] for name in taken)
        lines = [f"another Chatscope, in {directory}, has these ports: {numbers}"]
    else:
        lines = [
            f"port {facts[name]}, for {part} ({name}), is taken{_described(holders[name])}"
            for name, part in taken.items()
        ]
    others = " ".join(f"{name}={_other(int(facts[name]))}" for name in taken)
    mend = "end what holds them (a Chatscope: make down there), or choose other ports"
    return [*lines, f"{mend}: {others} make up"]


def _refusal(host: str, port: int) -> int:
    """Why nobody could listen there, as the system's error number; 0 when one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the parts do it: a port whose last connections linger can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return 0


def _holder(port: int) -> psutil.Process | None:
    """The process that listens on a port; None where the system does not say."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            here = connection.laddr[1:2] == (port,)
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                return psutil.Process(connection.pid)
    except psutil.Error:
        pass
    return None


def _described(process: psutil.Process | None) -> str:
    if process is None:
        return ""
    stack = stack_of(process)
    belongs = f" of the Chatscope in {stack}" if stack else ""
    try:
        return f" by {process.name()}{belongs}, process {process.pid}"
    except psutil.Error:
        return ""


def _other(port: int) -> int:
    return port + 20 if port + 20 <= 65535 else port - 20
