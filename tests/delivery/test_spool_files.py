"""Spool directories in different states: older, foreign, broken, read-only, readable."""

import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chatscope.otlp.self_metrics import LOGS as LOG_METRICS
from chatscope.otlp.self_metrics import SPANS
from stack.waiting import poll_until
from tests.delivery.conftest import Start
from tests.delivery.receiver import ACCEPT, LOGS, TRACES, ScriptedReceiver, refuse
from tests.elapsed import assert_at_most

_BATCH = 10
_LOST = {TRACES: SPANS.exported, LOGS: LOG_METRICS.exported}
_FILES = {TRACES: "spans.db", LOGS: "log-records.db"}
# Schema of the version without a version number.
_FIRST_SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL, held_until REAL NOT NULL, body BLOB NOT NULL
);
CREATE TABLE totals (items INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER added AFTER INSERT ON batches BEGIN
    UPDATE totals SET items = items + new.items, bytes = bytes + new.bytes;
END;
CREATE TRIGGER removed AFTER DELETE ON batches BEGIN
    UPDATE totals SET items = items - old.items, bytes = bytes - old.bytes;
END;
"""


def _old_batch(signal: str) -> bytes:
    """Return an encoded request with three items, old0 to old2."""
    if signal == TRACES:
        traces = ExportTraceServiceRequest()
        spans = traces.resource_spans.add().scope_spans.add().spans
        for number in range(3):
            spans.add().name = f"old{number}"
        return bytes(traces.SerializeToString())
    logs = ExportLogsServiceRequest()
    records = logs.resource_logs.add().scope_logs.add().log_records
    for number in range(3):
        records.add().body.string_value = f"old{number}"
    return bytes(logs.SerializeToString())


def _first_version(file: Path, signal: str, *more: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.executescript(_FIRST_SCHEMA)
        connection.execute(
            "INSERT INTO batches (items, bytes, held_until, body) VALUES (3, 4096, 0, ?)",
            (zlib.compress(_old_batch(signal)),),
        )
        for statement in more:
            connection.execute(statement)
    connection.close()


def _without_totals(file: Path, signal: str) -> None:
    _first_version(file, signal, "DELETE FROM totals")


def _with_wrong_totals(file: Path, signal: str) -> None:
    """As many items as would drop all of it, in an endless loop."""
    _first_version(file, signal, "UPDATE totals SET items = 10, bytes = 1000000000")


def _foreign(file: Path, signal: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE batches (number INTEGER PRIMARY KEY, text TEXT)")
    connection.close()


def _newer(file: Path, signal: str) -> None:
    _first_version(file, signal, "PRAGMA user_version = 99")


def _no_database(file: Path, signal: str) -> None:
    file.write_bytes(b"no database at all" * 1000)


def _truncated(file: Path, signal: str) -> None:
    _first_version(file, signal)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    os.truncate(file, 6000)


def _empty(file: Path, signal: str) -> None:
    file.touch()


State = Callable[[Path, str], None]


@pytest.mark.parametrize(
    ("states", "old", "lost"),
    [
        ((_without_totals, _with_wrong_totals), (3, 3), (0, 0)),
        ((_foreign, _newer), (0, 0), (1, 3)),
        ((_no_database, _truncated), (0, 0), (1, 1)),
        ((_empty, _empty), (0, 0), (0, 0)),
    ],
    ids=["totals", "schema", "broken", "empty"],
)
def test_spool_that_is_found_is_used_or_set_aside_and_counted(
    receiver: ScriptedReceiver,
    start: Start,
    spool: Path,
    states: tuple[State, State],
    old: tuple[int, int],
    lost: tuple[int, int],
) -> None:
    spool.mkdir()
    for (signal, name), state in zip(_FILES.items(), states, strict=True):
        state(spool / name, signal)
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE, TRACES, LOGS)
    emitter = start(spool)
    emitter.emit("new", 0, 3 * _BATCH)
    poll_until(lambda: receiver.refused() >= 4, "an outage")
    receiver.decide = lambda request: ACCEPT
    expected = [
        sorted([f"old{n}" for n in range(count)] + [f"new{n}" for n in range(3 * _BATCH)])
        for count in old
    ]
    poll_until(
        lambda: [sorted(receiver.accepted(signal)) for signal in _FILES] == expected,
        "what is there and what is new",
    )
    emitter.quit()
    counted = tuple(
        sum(receiver.sums(metric, error__type="spool_broken").values()) for metric in _LOST.values()
    )
    assert counted == lost
    set_aside = tuple((spool / f"{name}.broken").exists() for name in _FILES.values())
    assert set_aside == tuple(bool(items) for items in lost)
    assert sum("set aside" in line for line in emitter.console) == sum(set_aside)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_spool_that_cannot_be_written_leaves_memory_and_is_reported_once(
    receiver: ScriptedReceiver, start: Start, spool: Path
) -> None:
    """Existing items remain, as they cannot be deleted; new ones are not delayed by them."""
    spool.parent.chmod(0o755)
    for parent in spool.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    spool.mkdir()
    for signal, name in _FILES.items():
        _first_version(spool / name, signal)
        (spool / name).chmod(0o644)
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE, TRACES, LOGS)
    emitter = start(spool, "--user", "65534")
    emitter.emit("new", 0, 2 * _BATCH)
    poll_until(lambda: receiver.refused() >= 4, "an outage")
    receiver.decide = lambda request: ACCEPT
    expected = [f"new{n}" for n in range(2 * _BATCH)]
    poll_until(lambda: all(sorted(receiver.accepted(s)) == sorted(expected) for s in _FILES), "all")
    emitter.quit()
    unusable = [line for line in emitter.console if "cannot be used" in line]
    assert len(unusable) == 3, emitter.console


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_no_other_user_can_read_a_spool(
    receiver: ScriptedReceiver, start: Start, spool: Path, umask: str
) -> None:
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE)
    emitter = start(spool / "new", "--umask", umask)
    emitter.emit("a", 0, _BATCH)
    poll_until(lambda: len(list((spool / "new").glob("*.db-wal"))) == 3, "a file of each signal")
    assert {stat.S_IMODE(file.stat().st_mode) for file in (spool / "new").iterdir()} == {0o600}
    for directory in (spool, spool / "new"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_files_in_a_directory_that_others_can_read_are_made_private(
    receiver: ScriptedReceiver, start: Start, spool: Path
) -> None:
    spool.mkdir(mode=0o755)
    for signal, name in _FILES.items():
        _first_version(spool / name, signal)
        (spool / name).chmod(0o644)
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE)
    began = time.monotonic()
    start(spool).emit("a", 0, _BATCH)
    poll_until(lambda: receiver.refused() >= 4, "an outage")
    assert {stat.S_IMODE(file.stat().st_mode) for file in spool.iterdir()} == {0o600}
    assert_at_most(time.monotonic() - began, 30, factor=1.0)
