"""Processes that share a spool: one that is suspended or dies delays no other."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from chatscope.otlp.self_metrics import LOGS as LOG_METRICS
from chatscope.otlp.self_metrics import SPANS
from stack.waiting import poll_until
from tests.delivery.conftest import Emitter, Start
from tests.delivery.receiver import (
    ACCEPT,
    LOGS,
    METRICS,
    TRACES,
    Answer,
    Request,
    ScriptedReceiver,
    refuse,
)
from tests.elapsed import assert_at_most, takes_at_most

_BATCH = 10
_SPOOL_ITEMS = "chatscope.spool.items"
_EACH = 4 * _BATCH
# A lease is 5 s, polled every 0.5 s; the rest is for a busy machine.
_TAKEN_OVER_SECONDS = 15.0


def _accept(request: Request) -> Answer:
    return ACCEPT


def _accept_slowly(request: Request) -> Answer:
    return ACCEPT if request.signal == METRICS else Answer(seconds=0.1)


def _lists(prefixes: Iterable[str], count: int) -> list[str]:
    return [f"{prefix}{number}" for prefix in prefixes for number in range(count)]


def _missing(receiver: ScriptedReceiver, expected: list[str]) -> int:
    return sum(len(set(expected) - set(receiver.accepted(signal))) for signal in (TRACES, LOGS))


def _twice(receiver: ScriptedReceiver) -> list[int]:
    return [
        sum(count - 1 for count in Counter(receiver.accepted(signal)).values())
        for signal in (TRACES, LOGS)
    ]


@pytest.fixture
def filled(receiver: ScriptedReceiver, start: Start, spool: Path) -> dict[str, Emitter]:
    """Start three processes, with all of their items on disk; metrics pass."""
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE, TRACES, LOGS)
    emitters = {prefix: start(spool, wait=False) for prefix in "abc"}
    for prefix, emitter in emitters.items():
        emitter.wait_until_ready()
        emitter.emit(prefix, 0, _EACH)
    items = 2 * 3 * _EACH
    poll_until(lambda: sum(receiver.sums(_SPOOL_ITEMS).values()) == items, "all to be on disk")
    return emitters


def _drains(receiver: ScriptedReceiver, emitters: dict[str, Emitter]) -> str:
    """Return the processes that send the spool; spans and records may have two."""
    increments = {prefix: receiver.sums(f"{prefix}.increments") for prefix in emitters}
    waiting = receiver.sums(_SPOOL_ITEMS)
    instance = max(waiting, key=lambda instance: waiting[instance])
    return next(prefix for prefix in emitters if instance in increments[prefix])


def _suspend_all_but_one(receiver: ScriptedReceiver, emitters: dict[str, Emitter]) -> str:
    """Suspend the one that drains, and one more; return the other."""
    first = _drains(receiver, emitters)
    emitters[first].suspend()
    second, third = (prefix for prefix in emitters if prefix != first)
    emitters[second].suspend()
    return third


def test_suspended_process_is_replaced_and_sends_nothing_twice_later(
    receiver: ScriptedReceiver, filled: dict[str, Emitter]
) -> None:
    receiver.decide = _accept_slowly
    poll_until(lambda: receiver.accepted(TRACES), "it to be in the middle of it")
    left = _suspend_all_but_one(receiver, filled)
    began = time.monotonic()
    filled[left].emit(f"{left}-new", 0, _BATCH)
    expected = _lists("abc", _EACH) + _lists([f"{left}-new"], _BATCH)
    poll_until(lambda: not _missing(receiver, expected), "all of all three")
    assert_at_most(time.monotonic() - began, _TAKEN_OVER_SECONDS, factor=1.0)
    for emitter in filled.values():
        emitter.resume()
    for prefix in "abc":
        filled[prefix].emit(f"{prefix}-last", 0, _BATCH)
        filled[prefix].quit()
    expected += [name for prefix in "abc" for name in _lists([f"{prefix}-last"], _BATCH)]
    assert not _missing(receiver, expected)
    assert max(_twice(receiver)) <= 2 * _BATCH
    for metric in (SPANS.exported, LOG_METRICS.exported):
        arrived = sum(receiver.sums(metric, error__type="").values())
        assert arrived == len(expected)


def test_killed_process_is_replaced(receiver: ScriptedReceiver, filled: dict[str, Emitter]) -> None:
    receiver.decide = _accept_slowly
    poll_until(lambda: receiver.accepted(TRACES), "it to be in the middle of it")
    expected = _lists("abc", _EACH)
    with takes_at_most(_TAKEN_OVER_SECONDS, factor=1.0):
        filled[_drains(receiver, filled)].kill()
        poll_until(lambda: not _missing(receiver, expected), "all of all three")
    assert max(_twice(receiver)) <= _BATCH


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Simulate a process that is suspended in the middle of a write."""
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        yield


@pytest.mark.parametrize("new", [False, True], ids=["known file", "opened later"])
def test_process_suspended_in_a_write_holds_up_no_other(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, new: bool
) -> None:
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE, TRACES, LOGS)
    emitter = start(spool)
    emitter.emit("old", 0, _BATCH)
    items = 2 * _BATCH
    poll_until(lambda: sum(receiver.sums(_SPOOL_ITEMS).values()) == items, "on disk")
    with _locked(spool / "spans.db"), _locked(spool / "log-records.db"):
        other = start(spool) if new else emitter
        receiver.decide = _accept
        began = time.monotonic()
        other.emit("new", 0, 10 * _BATCH)
        expected = _lists(["new"], 10 * _BATCH)
        poll_until(lambda: not _missing(receiver, expected), "the new ones")
        # One wait of 5 s for the lock of each signal.
        assert_at_most(time.monotonic() - began, 15, factor=1.0)
    poll_until(lambda: not _missing(receiver, _lists(["old"], _BATCH)), "the old ones")
    emitter.emit("end", 0, _BATCH)
    emitter.quit()
    assert _twice(receiver) == [0, 0]
