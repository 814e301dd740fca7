"""A stack identifies its own processes, and reports an exited component."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import facts, supervisor
from stack.base import PartDiedError
from stack.native import NativeStack
from stack.recorded import recorded
from stack.supervisor import ProcessState


@pytest.fixture
def stack(tmp_path: Path) -> NativeStack:
    return NativeStack(facts.load({"STATE_DIR": str(tmp_path)}))


@pytest.fixture
def orphan(stack: NativeStack) -> Iterator[subprocess.Popen[bytes]]:
    """A process that a killed process-compose left running."""
    marked = {**os.environ, supervisor.MARKER: str(stack.state_dir)}
    command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    with subprocess.Popen(command, env=marked, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def _state(status: str, restarts: int = 0) -> ProcessState:
    return ProcessState("loki", status, status == "Running", 1, restarts, 3, 0, 0.0)


def test_own_processes_are_those_with_the_mark(
    stack: NativeStack, orphan: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    found = supervisor.own_processes(str(stack.state_dir))
    assert [process.pid for process in found] == [orphan.pid]
    assert supervisor.own_processes(str(tmp_path / "other")) == []


def test_stop_ends_orphans_and_says_whether_there_were_any(
    stack: NativeStack, orphan: subprocess.Popen[bytes]
) -> None:
    assert stack.stop()
    assert orphan.poll() is not None
    assert not stack.stop()


def test_orphan_alone_is_no_running_stack(
    stack: NativeStack, orphan: subprocess.Popen[bytes]
) -> None:
    assert not stack.running()


@pytest.mark.parametrize(
    ("state", "died"),
    [
        (_state("Running"), False),
        (_state("Pending"), False),
        (_state("Restarting"), True),
        (_state("Running", restarts=1), True),
        (_state("Completed"), True),
        (_state("Error"), True),
    ],
)
def test_part_that_ended_once_counts_as_ended(state: ProcessState, died: bool) -> None:
    assert state.ended() is died


def test_earlier_restart_is_no_end() -> None:
    assert not _state("Running", restarts=2).ended(restarts_before=2)
    assert _state("Running", restarts=3).ended(restarts_before=2)


def test_waiting_ends_with_the_log_of_the_part_that_died(
    stack: NativeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.log_dir.mkdir()
    log = "an earlier run\n==== started now\nlisten tcp: address in use\n"
    (stack.log_dir / "loki.log").write_text(log)
    monkeypatch.setattr(stack, "states", lambda: {"loki": _state("Restarting")})
    with pytest.raises(PartDiedError) as caught:
        stack.wait_ready()
    assert "loki exited with code 3" in str(caught.value)
    assert "address in use" in str(caught.value)
    assert "an earlier run" not in str(caught.value)


def test_socket_of_a_deep_directory_is_short_and_its_own() -> None:
    deep = "/tmp/" + "deep/" * 40  # noqa: S108  # only a name; nothing is made there
    first, second = supervisor.control_socket(deep + "a"), supervisor.control_socket(deep + "b")
    assert max(len(str(first)), len(str(second))) <= 100
    assert first != second


def test_facts_of_the_running_stack_win_over_the_environment(stack: NativeStack) -> None:
    assert recorded(stack.facts) == stack.facts
    stack.run_dir.mkdir()
    (stack.run_dir / "facts.json").write_text('{"APP_PORT": "3777"}')
    assert recorded(stack.facts) == {"APP_PORT": "3777"}
