"""Parts of the running stack that are taken away for a while, natively and in containers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from stack import supervisor
from stack.docker import DockerStack
from stack.waiting import poll_until
from tests.running import Stack

# After a crash a store first replays its log.
_BACK_SECONDS = 60.0


@contextmanager
def away(stack: Stack, *parts: str) -> Iterator[None]:
    """Killed by SIGKILL, and not started again before the end, where they become ready again."""
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
    """In peace, by SIGTERM, as for an upgrade; at the end it is started and ready again."""
    _stop(stack, part)
    try:
        yield
    finally:
        _start(stack, part)
        _ready(stack, part)


@contextmanager
def hanging(stack: Stack, *parts: str) -> Iterator[None]:
    """Stopped by SIGSTOP: they take connections, and never answer."""
    pids = [_pid(stack, part) for part in parts]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def killed(stack: Stack, part: str, pid: int = 0) -> None:
    """By SIGKILL; returns when whoever watches over it has started it again. Whoever knows its
    process has it killed at once: an engine may take a second to name it."""
    before = pid or _pid(stack, part)
    os.kill(before, signal.SIGKILL)
    poll_until(
        lambda: stack.pid(part) not in (0, before), f"{part} to be started again", _BACK_SECONDS
    )
    _ready(stack, part)


def _pid(stack: Stack, part: str) -> int:
    # Never 0, the signal to which would be one to ourselves.
    return poll_until(lambda: stack.pid(part), f"{part} to have a process", _BACK_SECONDS)


def _kill_for_long(stack: Stack, part: str) -> None:
    if isinstance(stack.running, DockerStack):
        # What the engine itself kills, it does not start again.
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
