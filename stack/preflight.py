"""Checks before startup whether the ports and addresses are available."""

import errno
import socket
from collections.abc import Iterable, Mapping

import psutil

from stack.parts import Part
from stack.supervisor import stack_of


def port_problems(facts: Mapping[str, str], parts: Iterable[Part]) -> list[str]:
    """Return a line for each port in use, with component and process; then one with the fix.

    If PUBLISH_HOST is not an address of this machine, only that is reported.
    """
    host = facts["PUBLISH_HOST"]
    if _refusal(host, 0):
        return [
            f"PUBLISH_HOST={host} is not an address of this machine: set one of its addresses,"
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
        lines = [f"another Chatscope, in {directory}, uses these ports: {numbers}"]
    else:
        lines = [
            f"port {facts[name]} of {part} ({name}) is in use{_described(holders[name])}"
            for name, part in taken.items()
        ]
    others = " ".join(f"{name}={_other(int(facts[name]))}" for name in taken)
    fix = "stop the processes that use them (a Chatscope: make down there), or set other ports"
    return [*lines, f"{fix}: {others} make up"]


def _refusal(host: str, port: int) -> int:
    """Return the system's error number of listening there; 0 if it is possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Like the components: a port whose last connections linger can be used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return 0


def _holder(port: int) -> psutil.Process | None:
    """Return the process that listens on a port; None if the system does not show it."""
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
