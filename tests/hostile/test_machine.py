"""A hostile machine: its clock steps, its disk is full, it has few open files."""

import os
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import pytest

from stack.waiting import poll_until
from tests.clocks import LIBRARY, RIGHT, SteppedClock
from tests.elapsed import takes_at_most
from tests.hostile.outcome import Attack, attack, ends, healthy, no_errors
from tests.hostile.service import START_SECONDS, How, Service, launched, started

_STEPS = ("+2h", "-2h", "+3650d", "-3650d", RIGHT)
_FEW_FILES = 64
# A tmpfs that is nearly full.
_FULL_DISK = (
    "unshare", "--mount", "--map-root-user", "sh", "-c",
    'mount -t tmpfs -o size=1m none "$0" && head -c 1020K /dev/zero > "$0/others"; exec "$@"',
)  # fmt: skip
_READ_ONLY = (
    "unshare", "--mount", "--map-root-user", "sh", "-c",
    'mount -t tmpfs -o ro none "$0"; exec "$@"',
)  # fmt: skip


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
def test_clock_that_steps_changes_nothing(tmp_path: Path) -> None:
    """The last step happens during the shutdown."""
    clock = SteppedClock(tmp_path)
    with started(tmp_path, SIMULATED_TOKENS_PER_SECOND="20", **clock.environ) as service:
        for step in _STEPS:
            with attack(service) as it:
                clock.step(step)
                with takes_at_most(3.0, factor=1.0):
                    answer = service.chat(
                        '{"messages":[{"role":"user","content":"hi"}]}',
                        {"traceparent": it.traceparent},
                    )
                assert answer.status == 200
                it.leaves_span(gen_ai__request__model="simulated-1")
                it.leaves_log("answer completed", trace_id=it.trace_id)
        no_errors(service)
        clock.step("-2h")
        ends(service)


def test_full_disk_keeps_no_request(tmp_path: Path) -> None:
    spool, inside = _mounted(tmp_path, _FULL_DISK)
    with started(tmp_path, How(inside=inside), TELEMETRY_SPOOL_DIR=str(spool)) as service:
        with attack(service) as it:
            service.receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
            for _ in range(5):
                _ask(service, it)
                healthy(service)
            service.receiver.accept()
            it.leaves_span(http__response__status_code=404)
            it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
        ends(service)


def test_read_only_disk_ends_the_start(tmp_path: Path) -> None:
    spool, inside = _mounted(tmp_path, _READ_ONLY)
    with launched(tmp_path, How(inside=inside), TELEMETRY_SPOOL_DIR=str(spool)) as service:
        assert service.process.wait(START_SECONDS) == 2
        assert "TELEMETRY_SPOOL_DIR=" in service.text()


def _mounted(directory: Path, disk: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """Return the spool's directory, and the command that starts a service with `disk` there."""
    spool = directory / "spool"
    spool.mkdir()
    inside = (*disk, str(spool))
    tried = subprocess.run([*inside, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mount of our own: {tried.stderr.strip()}")
    return spool, inside


def _remove(spool: Path) -> None:
    shutil.rmtree(spool)


def _overwrite(spool: Path) -> None:
    for file in spool.iterdir():
        # In place: a file of shared memory that is empty for a moment is one that was truncated.
        with file.open("r+b") as opened:
            opened.write(os.urandom(8192))


def _truncate(spool: Path) -> None:
    # Not the files of shared memory: SQLite maps them, and the kernel kills a process that reads
    # behind their end.
    for file in (*spool.glob("*.db"), *spool.glob("*-wal")):
        os.truncate(file, 100)


def _lock(spool: Path) -> None:
    """Open the files for reading, with a lock that is never released."""
    for file in spool.glob("*.db"):
        other = sqlite3.connect(file, isolation_level=None, timeout=5.0)
        other.execute("BEGIN EXCLUSIVE")
        _OPEN.append(other)


_OPEN: list[sqlite3.Connection] = []
_DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "removed": _remove,
    "overwritten": _overwrite,
    "truncated": _truncate,
    "locked": _lock,
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES)
def test_spool_that_is_damaged_under_the_service_keeps_no_request(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Items on disk may be lost with it; later ones are not."""
    spool = tmp_path / "spool"
    with started(tmp_path, TELEMETRY_SPOOL_DIR=str(spool)) as service:
        service.receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
        lost = Attack(service)
        _ask(service, lost)
        poll_until(lambda: any(spool.glob("*.db")), "files of the spool")
        damage(spool)
        for _ in range(3):
            _ask(service, lost)
            healthy(service)
        service.receiver.accept()
        for other in _OPEN:
            other.close()
        _OPEN.clear()
        with attack(service) as it:
            _ask(service, it)
            it.leaves_span(http__response__status_code=404)
            it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
        ends(service)


@pytest.mark.parametrize("umask", ["077", "000"])
def test_umask_decides_nothing_about_the_spool(tmp_path: Path, umask: str) -> None:
    spool = tmp_path / "spool"
    inside = ("sh", "-c", f'umask {umask}; exec "$@"', "sh")
    with started(tmp_path, How(inside=inside), TELEMETRY_SPOOL_DIR=str(spool)) as service:
        with attack(service) as it:
            service.receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
            _ask(service, it)
            poll_until(lambda: any(spool.glob("*.db")), "files of the spool")
            modes = {stat.S_IMODE(file.stat().st_mode) for file in spool.iterdir()}
            service.receiver.accept()
            it.leaves_span(http__response__status_code=404)
        ends(service)
    assert modes == {0o600}
    assert stat.S_IMODE(spool.stat().st_mode) & 0o077 == 0


def test_few_open_files_are_given_back(tmp_path: Path) -> None:
    inside = ("sh", "-c", f'ulimit -n {_FEW_FILES}; exec "$@"', "sh")
    spool = tmp_path / "spool"
    with started(tmp_path, How(inside=inside), TELEMETRY_SPOOL_DIR=str(spool)) as service:
        with attack(service) as it:
            clients = []
            for _ in range(2 * _FEW_FILES):
                try:
                    clients.append(service.connect())
                except OSError:
                    break
            time.sleep(0.2)
            for client in clients:
                client.close()
            poll_until(lambda: service.get("/healthz").status == 200, "the service to accept")
            healthy(service)
            _ask(service, it)
            it.leaves_span(http__response__status_code=404)
            it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
        ends(service)


@pytest.mark.parametrize(
    "limit", ["-f 0", "-s 256", "-c 0"], ids=["no file", "small stack", "no core"]
)
def test_other_limits_keep_no_request(tmp_path: Path, limit: str) -> None:
    inside = ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh")
    # A console's file may be empty, too.
    spool = str(tmp_path / "spool")
    with started(
        tmp_path, How(inside=inside, console=subprocess.DEVNULL), TELEMETRY_SPOOL_DIR=spool
    ) as service:
        with attack(service) as it:
            _ask(service, it)
            it.leaves_span(http__response__status_code=404)
            it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
        ends(service)


def test_too_few_files_to_start_is_a_failed_start(tmp_path: Path) -> None:
    inside = ("sh", "-c", 'ulimit -n 12; exec "$@"', "sh")
    with launched(tmp_path, How(inside=inside)) as service:
        code = service.process.wait(START_SECONDS)
    assert code not in (0, None)


def _ask(service: Service, it: Attack) -> None:
    assert service.get("/nothing", {"traceparent": it.traceparent}).status == 404
