"""Outages of components of the running stack, natively and in containers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from stack import supervisor
from stack.docker import DockerStack
from stack.waiting import poll_until
from tests.running import Stack

# After a crash a backend first replays its log.
_BACK_SECONDS = 60.0


@contextmanager
def away(stack: Stack, *parts: str) -> Iterator[None]:
    """Kill components by SIGKILL, without restart; at the end start them and wait until ready."""
    for part in parts:
        _kill_for_long(stack, part)
    try:
        yield
    finally:
        for part in parts:
            _start(stack, part)
        for part in parts:
            _ready(stack, part)


@contextmanager
def stopped(stack: Stack, part: str) -> Iterator[None]:
    """Stop a component by SIGTERM, as for an upgrade; at the end start it and wait until ready."""
    _stop(stack, part)
    try:
        yield
    finally:
        _start(stack, part)
        _ready(stack, part)


@contextmanager
def hanging(stack: Stack, *parts: str) -> Iterator[None]:
    """Stop components by SIGSTOP: they accept connections and never respond."""
    pids = [_pid(stack, part) for part in parts]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def killed(stack: Stack, part: str, pid: int = 0) -> None:
    """Kill a component by SIGKILL, and wait until its supervisor has restarted it. With `pid` it is
    killed immediately: an engine may take a second to report the process ID."""
    before = pid or _pid(stack, part)
    os.kill(before, signal.SIGKILL)
    poll_until(
        lambda: stack.pid(part) not in (0, before), f"{part} to be started again", _BACK_SECONDS
    )
    _ready(stack, part)


def _pid(stack: Stack, part: str) -> int:
    # Never 0: that would send the signal to this process group.
    return poll_until(lambda: stack.pid(part), f"{part} to have a process", _BACK_SECONDS)


def _kill_for_long(stack: Stack, part: str) -> None:
    if isinstance(stack.running, DockerStack):
        # A container that the engine itself kills is not restarted.
        assert stack.running.compose("kill", part).returncode == 0
        return
    os.kill(_pid(stack, part), signal.SIGKILL)
    supervisor.stop_part(stack.facts["STATE_DIR"], part)


def _stop(stack: Stack, part: str) -> None:
    if isinstance(stack.running, DockerStack):
        assert stack.running.compose("stop", part).returncode == 0
        return
    supervisor.stop_part(stack.facts["STATE_DIR"], part)


def _start(stack: Stack, part: str) -> None:
    if isinstance(stack.running, DockerStack):
        assert stack.running.compose("start", part).returncode == 0
        return
    supervisor.start_part(stack.facts["STATE_DIR"], part)


def _ready(stack: Stack, part: str) -> None:
    [known] = [each for each in stack.running.parts if each.name == part]
    poll_until(lambda: stack.running.is_ready(known), f"{part} to be ready", _BACK_SECONDS)
