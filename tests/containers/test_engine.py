"""The tests' own engine leaves no changes on this machine."""

import contextlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.engine.daemon import private_engine
from tests.engine.engine import Engine

_BUSYBOX = Path("/bin/busybox")


def _machine() -> dict[str, set[str]]:
    """Return the parts of a machine's state that an engine changes."""
    said = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    rules = {line for line in said.splitlines() if line.startswith("-A")}
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {
        "rules": rules,
        "interfaces": set(psutil.net_if_addrs()),
        "mounts": {line.split()[1] for line in mounts},
        "forwarding": {Path("/proc/sys/net/ipv4/ip_forward").read_text()},
    }


def _commands() -> Iterator[str]:
    for process in psutil.process_iter():
        # A process that ends meanwhile is not left behind.
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


def _with_a_container(host: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(_BUSYBOX.resolve(), "/busybox")

    def docker(*words: str, given: bytes = b"") -> None:
        subprocess.run(["docker", "--host", host, *words], input=given, check=True, timeout=240)

    docker("import", "-", "guest", given=archive.getvalue())
    docker("network", "create", "guests")
    run = ("run", "--detach", "--network", "guests", "--volume", "kept:/kept")
    docker(*run, "--publish", "127.0.0.1::80", "guest", "/busybox", "sleep", "1000")


def test_private_engine_leaves_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    if not engine.private:
        pytest.skip("there is an engine that somebody else has started")
    before = _machine()
    with private_engine(tmp_path / "data") as host:
        _with_a_container(host)
        assert _machine()["interfaces"] > before["interfaces"]
    assert _machine() == before
    scratch = Path(host.removeprefix("unix://")).parent
    assert not scratch.exists()
    left = [line for line in _commands() if str(scratch) in line or str(tmp_path) in line]
    assert left == []
