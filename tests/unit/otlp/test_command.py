"""The command that shows a spool and sends its dead letters again."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from chatscope.otlp import PipelineLimits
from chatscope.otlp.spool import Spool
from stack.waiting import poll_until
from tests.receiver import Receiver
from tests.unit.otlp.emitting import emitting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_ROOT = Path(__file__).parents[3]


def _run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatscope.otlp", str(directory), *options],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _spool(directory: Path) -> Spool:
    return Spool(directory / "spans.db", 1_000_000, lambda *_: None, lambda *_: None)


def test_backlog_and_dead_letters_are_shown(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append(b"a", 3)
    spool.append(b"b", 4)
    assert spool.bury(b"c", 5, "INVALID_ARGUMENT: no trace ID")
    spool.close()
    done = _run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "spans: 7 items in 2 batches wait, 8192 bytes"
    assert second.startswith("spans: dead letter 1 with 5 items (4096 bytes, since 20")
    assert second.endswith("): INVALID_ARGUMENT: no trace ID")


def test_dead_letters_are_sent_again_on_request(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.refuse_with(grpc.StatusCode.INVALID_ARGUMENT)
        limits = PipelineLimits(delay=0.02, batch_items=10)
        emitted = emitting(receiver.endpoint, tmp_path, limits=limits)
        emitted.emit(range(10))
        poll_until(
            lambda: [each.exported["refused"] for each in emitted.statistics()] == [10, 10],
            "the refusal",
        )
        receiver.accept()
        emitted.delivery.shutdown(5.0)
        # On a busy machine in more than one batch.
        letters = re.findall(r": dead letter \d+ with (\d+) items", _run(tmp_path).stdout)
        assert sum(map(int, letters)) == 20
        done = _run(tmp_path, "--retry")
        assert done.returncode == 0
        assert done.stdout.count("all dead letters are sent again") == len(
            list(tmp_path.glob("*.db"))
        )
        assert "dead letter 1" not in _run(tmp_path).stdout
        after = emitting(receiver.endpoint, tmp_path)
        after.emit([10])
        poll_until(lambda: len(receiver.spans) == len(receiver.log_records) == 11, "all")
        after.delivery.shutdown(5.0)


def test_spool_that_is_in_use_can_be_shown(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append(b"a", 3)
    assert _run(tmp_path).stdout == "spans: 3 items in 1 batches wait, 4096 bytes\n"
    spool.append(b"b", 1)
    assert spool.claim(5.0)
    spool.close()


def test_directory_without_a_spool_is_an_error(tmp_path: Path) -> None:
    done = _run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path} has no spool\n"
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_read_is_reported_and_the_others_are_shown(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append(b"a", 3)
    spool.close()
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    with sqlite3.connect(tmp_path / "newer.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    done = _run(tmp_path)
    assert done.returncode == 1
    assert "spans: 3 items in 1 batches wait" in done.stdout
    assert "broken.db: cannot be read (file is not a database)" in done.stderr
    assert "newer.db: cannot be read (schema version 99 is not 2)" in done.stderr
