"""Client of a stack's process-compose, and search for the stack's processes."""

import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack.facts import ROOT, sockets_dir
from stack.local_http import local_client

CONFIGURATION = ROOT / "stack" / "process-compose.yaml"
# Set for process-compose and inherited by all its processes: identifies a stack's processes.
MARKER = "CHATSCOPE_STACK"
# More than the longest shutdown timeout, that of Kafka in deploy/scale/process-compose.yaml.
_STOP_SECONDS = 40.0


class SupervisorError(RuntimeError):
    """process-compose did not start; the text contains its output."""


@dataclass(frozen=True)
class ProcessState:
    """The state of one process; memory in bytes, uptime in seconds."""

    name: str
    status: str
    running: bool
    pid: int
    restarts: int
    exit_code: int
    memory: int
    uptime: float
    # The health status of a container; not used natively.
    healthy: bool = False

    def ended(self, restarts_before: int = 0) -> bool:
        """Return whether it has exited, restarted or not, since that number of restarts."""
        over = {"Completed", "Error", "Skipped", "Restarting"}
        return self.restarts > restarts_before or self.status in over


def control_socket(state_dir: str) -> Path:
    """Return the socket of the stack in `state_dir`."""
    return sockets_dir(Path(state_dir)) / "control.sock"


def make_private(directory: Path) -> None:
    """Create a directory that only this user can access. Raises SupervisorError.

    In /tmp another user can create it first, and would then own the sockets in it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (directory, directory.parent):
        status = each.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if not mine or status.st_mode & 0o022:
            raise SupervisorError(f"{each} must be a directory that only you can write: remove it")
    directory.chmod(0o700)


def launch(
    program: Path,
    state_dir: str,
    environ: Mapping[str, str],
    log: Path,
    configuration: Path = CONFIGURATION,
) -> None:
    """Start process-compose in the background. Raises SupervisorError."""
    command = [
        *(str(program), "--detached", "--keep-project", "--disable-dotenv"),
        *("--config", str(configuration)),
        *("--unix-socket", str(control_socket(state_dir)), "--log-file", str(log)),
    ]
    # Its own variables would change its configuration and socket.
    inherited = {name: value for name, value in environ.items() if not name.startswith("PC_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, MARKER: state_dir},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        # Also for all files that the components write.
        umask=0o077,
    )
    if done.returncode != 0:
        raise SupervisorError(f"process-compose: {(done.stderr or done.stdout).strip()}")


def states(state_dir: str) -> dict[str, ProcessState]:
    """Return the processes by name. Raises httpx2.TransportError without process-compose."""
    with local_client("http://stack", uds=_socket(state_dir)) as client:
        rows = client.get("/processes").raise_for_status().json()["data"]
    return {row["name"]: _state(row) for row in rows}


def stop_part(state_dir: str, name: str) -> None:
    """Stop one process without restart, and wait until it has exited."""
    with local_client("http://stack", uds=_socket(state_dir), timeout=_STOP_SECONDS) as client:
        client.patch(f"/process/stop/{name}").raise_for_status()


def start_part(state_dir: str, name: str) -> None:
    """Start one process that was stopped."""
    with local_client("http://stack", uds=_socket(state_dir)) as client:
        client.post(f"/process/start/{name}").raise_for_status()


def _socket(state_dir: str) -> str:
    return str(control_socket(state_dir))


def _state(row: Mapping[str, object]) -> ProcessState:
    def number(key: str) -> int:
        value = row[key]
        return value if isinstance(value, int) else 0

    return ProcessState(
        name=str(row["name"]),
        status=str(row["status"]),
        running=row["is_running"] is True,
        pid=number("pid"),
        restarts=number("restarts"),
        exit_code=number("exit_code"),
        memory=number("mem"),
        uptime=number("age") / 1e9,
    )


def own_processes(state_dir: str) -> list[psutil.Process]:
    """Return all live processes of the stack in `state_dir`."""
    return [process for process in psutil.process_iter() if stack_of(process) == state_dir]


def stack_of(process: psutil.Process) -> str | None:
    """Return the state directory of the stack that started a process; None if none did."""
    try:
        return process.environ().get(MARKER)
    except (psutil.Error, OSError):
        return None


def is_supervisor(process: psutil.Process) -> bool:
    """Return whether it is a process-compose, which has to receive the stop signal."""
    try:
        # A release may be called process-compose-linux-amd64.
        return process.name().startswith("process-compose")
    except psutil.Error:
        return False
