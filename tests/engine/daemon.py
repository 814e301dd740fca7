"""A private Docker engine for tests, from this machine's dockerd; it leaves nothing behind.

It does not change the machine's firewall, which another engine may use: its containers can reach
each other and this machine, but no other network. So any download at their startup would fail.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from stack.waiting import WaitError, poll_until

START_SECONDS = 60.0
STOP_SECONDS = 60.0
TAIL_LINES = 5
# Address ranges of its networks that are usually free: another engine uses 172.x first.
SUBNETS = ("10.213.240.0/20", "192.168.240.0/20")
_NEEDED = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    # Name resolution between containers uses it, inside each container.
    "iptables": "iptables",
}


class EngineError(RuntimeError):
    """No engine is available here; the text contains the reason."""


@contextlib.contextmanager
def private_engine(data_root: Path) -> Iterator[str]:
    """Run an engine; yield its address for DOCKER_HOST. Afterwards only `data_root` remains.

    Raises EngineError.
    """
    _check()
    _end_orphan(data_root)
    # Not pytest's own directory, whose path is too long for a socket.
    scratch = Path(tempfile.mkdtemp(prefix="chatscope-"))
    host = f"unix://{scratch}/docker.sock"
    try:
        with _forwarding(), (scratch / "log").open("w") as log:
            daemon = _launch(data_root, scratch, host, log)
            try:
                _wait(daemon, host, scratch / "log")
                _remove_all(host)
                yield host
                _remove_all(host)
            finally:
                _end(daemon)
    finally:
        _sweep(data_root, scratch)


def _check() -> None:
    if os.geteuid() != 0:
        raise EngineError("only root can start one")
    for program, package in _NEEDED.items():
        if not shutil.which(program):
            raise EngineError(
                f"there is no {program} to start one (on Debian: apt-get install {package})"
            )


def _launch(data_root: Path, scratch: Path, host: str, log: IO[str]) -> "subprocess.Popen[bytes]":
    data_root.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        *("dockerd", "--host", host),
        *("--data-root", data_root, "--exec-root", scratch / "exec"),
        *("--pidfile", _pid_file(data_root)),
        *("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"),
        *(f"--default-address-pool=base={subnet},size=24" for subnet in SUBNETS),
        # Without a bridge of its own it cannot determine host-gateway, which is not used.
        *("--host-gateway-ip", "127.0.0.1"),
    ]
    # In a session of its own: an interrupt at the terminal must reach this process only.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait(daemon: "subprocess.Popen[bytes]", host: str, log: Path) -> None:
    def answers() -> bool:
        if daemon.poll() is not None:
            raise ChildProcessError
        return _docker(host, "version").returncode == 0

    try:
        poll_until(answers, "dockerd to answer", START_SECONDS, giving_up_on=(ChildProcessError,))
    except (ChildProcessError, WaitError) as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise EngineError(f"dockerd does not start here; the end of its log:\n{tail}") from error


def _remove_all(host: str) -> None:
    """Remove containers with their volumes, and networks; keep images."""
    containers = _docker(host, "ps", "--all", "--quiet").stdout.split()
    if containers:
        _docker(host, "rm", "--force", "--volumes", *containers)
    volumes = _docker(host, "volume", "ls", "--quiet").stdout.split()
    if volumes:
        _docker(host, "volume", "rm", "--force", *volumes)
    _docker(host, "network", "prune", "--force")
    # Untagged layers of an earlier state of the checkout.
    _docker(host, "image", "prune", "--force")


def _docker(host: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["docker", "--host", host, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _end_orphan(data_root: Path) -> None:
    """End processes that a killed test session left running on this directory."""
    try:
        process = psutil.Process(int(_pid_file(data_root).read_text()))
        words = process.cmdline()
        if str(data_root) not in words:
            return
        process.terminate()
        process.wait(STOP_SECONDS)
    except (OSError, ValueError, psutil.Error):
        return
    _sweep(data_root, Path(words[words.index("--exec-root") + 1]).parent)
    _allow("--delete")


def _pid_file(data_root: Path) -> Path:
    return data_root / "dockerd.pid"


@contextlib.contextmanager
def _forwarding() -> Iterator[None]:
    """Allow forwarding between our addresses only.

    On a machine whose policy is to drop forwarded packets, as set by Docker itself, containers on
    one network could otherwise not reach each other.
    """
    _allow("--insert")
    try:
        yield
    finally:
        _allow("--delete")


def _allow(verb: str) -> None:
    for subnet in SUBNETS:
        rule = ("FORWARD", "-s", subnet, "-d", subnet, "-j", "ACCEPT")
        subprocess.run(["iptables", verb, *rule], capture_output=True, check=False)


def _sweep(data_root: Path, scratch: Path) -> None:
    """Clean up after a killed dockerd: its helper processes, and its mounts."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(scratch) in word for word in process.cmdline()):
                process.send_signal(signal.SIGKILL)
                process.wait(STOP_SECONDS)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        # dockerd mounts its data on itself if the surrounding file system is not shared.
        if f"{place}/".startswith((f"{scratch}/", f"{data_root}/")):
            subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(scratch, ignore_errors=True)
