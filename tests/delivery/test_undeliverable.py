"""A batch that is always rejected, while others are accepted, delays nothing."""

import re
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import grpc
import pytest

from chatscope.otlp.self_metrics import LOGS as LOG_METRICS
from chatscope.otlp.self_metrics import POINTS, SPANS
from stack.waiting import poll_until
from tests.delivery.conftest import Emitter, Start
from tests.delivery.receiver import (
    ACCEPT,
    LOGS,
    METRICS,
    TRACES,
    Answer,
    Decide,
    Request,
    ScriptedReceiver,
    refuse,
)
from tests.elapsed import assert_at_most

_BATCH = 10
_EXPORTED = {TRACES: SPANS.exported, LOGS: LOG_METRICS.exported}


def _refuse_poison(status: grpc.StatusCode) -> Decide:
    def decide(request: Request) -> Answer:
        poisoned = request.has("poison") and request.signal != METRICS
        return Answer(status) if poisoned else ACCEPT

    return decide


def _refuse_item(name: str) -> Decide:
    def decide(request: Request) -> Answer:
        return Answer(grpc.StatusCode.UNAVAILABLE) if name in request.names else ACCEPT

    return decide


def _refuse_large(request: Request) -> Answer:
    """Reject like a receiver whose limit is smaller than a full batch."""
    large = request.signal != METRICS and len(request.names) > 4
    return Answer(grpc.StatusCode.RESOURCE_EXHAUSTED) if large else ACCEPT


def _numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def _healthy(receiver: ScriptedReceiver) -> list[list[str]]:
    """Return what arrived besides the poison, sorted."""
    return [
        sorted(name for name in receiver.accepted(signal) if not name.startswith("poison"))
        for signal in (TRACES, LOGS)
    ]


def _exported(receiver: ScriptedReceiver) -> list[int]:
    return [sum(receiver.sums(metric, error__type="").values()) for metric in _EXPORTED.values()]


def _undeliverable(receiver: ScriptedReceiver) -> list[int]:
    return [
        sum(receiver.sums(metric, error__type="undeliverable").values())
        for metric in _EXPORTED.values()
    ]


def _dead_letters(spool: Path) -> list[str]:
    command = [sys.executable, "-m", "chatscope.otlp", str(spool)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if ": dead letter " in line]


def _waiting_sums(spool: Path) -> int:
    """Return how many batches of metrics are on disk."""
    command = [sys.executable, "-m", "chatscope.otlp", str(spool)]
    shown = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    found = re.search(r"^metrics: .* in (\d+) batches", shown, re.MULTILINE)
    return int(found[1]) if found else 0


def _has_sums(spool: Path, batches: int) -> bool:
    return _waiting_sums(spool) == batches


def _assert_few_warnings(emitter: Emitter) -> None:
    """At most one test of each kind and signal; each takes less than a minute."""
    kinds = Counter(line.partition("(")[0] for line in emitter.console)
    assert set(kinds.values()) <= {1}, emitter.console


@pytest.mark.parametrize(
    ("status", "on_disk"),
    [("UNAVAILABLE", True), ("RESOURCE_EXHAUSTED", True), ("UNAVAILABLE", False)],
)
def test_batch_that_is_always_refused_is_set_aside_and_the_others_arrive(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, status: str, on_disk: bool
) -> None:
    receiver.decide = _refuse_poison(grpc.StatusCode[status])
    emitter = start(spool if on_disk else None, "--refusals", "3")
    emitter.emit("before", 0, _BATCH)
    emitter.emit("poison", 0, _BATCH)
    began = time.monotonic()
    emitter.emit("after", 0, 10 * _BATCH)
    expected = [sorted(_numbered("before", _BATCH) + _numbered("after", 10 * _BATCH))] * 2
    # Three attempts with pauses up to 1.2 s, and a factor of four for a busy machine.
    poll_until(lambda: _healthy(receiver) == expected, "all others to arrive")
    assert_at_most(time.monotonic() - began, 10, factor=1.0)
    # Other batches continue to be accepted.
    numbers = iter(range(100))

    def given_up() -> bool:
        number = next(numbers)
        emitter.emit("later", number, number + 1)
        return _undeliverable(receiver) == [_BATCH, _BATCH]

    poll_until(given_up, "the batch to be given up", 30, 0.2)
    if on_disk:
        letters = _dead_letters(spool)
        assert all(status in line for line in letters)
        # An overloaded machine may make two batches of them.
        items: Counter[str] = Counter()
        for line in letters:
            kind, _, about = line.partition(":")
            items[kind] += int(re.findall(r" (\d+) items ", about)[0])
        assert items == {"log-records": _BATCH, "spans": _BATCH}
    refused = receiver.refused("poison")
    emitter.emit("end", 0, _BATCH)
    emitter.quit()
    assert receiver.refused("poison") == refused
    assert Counter(receiver.accepted(TRACES)).most_common(1)[0][1] == 1
    _assert_few_warnings(emitter)


@pytest.mark.parametrize("on_disk", [True, False], ids=["spool", "memory"])
def test_receiver_with_a_limit_below_the_batches_gets_all_in_parts(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    receiver.decide = _refuse_large
    emitter = start(spool if on_disk else None)
    emitter.emit("a", 0, 4 * _BATCH)
    expected = [sorted(_numbered("a", 4 * _BATCH))] * 2
    poll_until(lambda: _healthy(receiver) == expected, "all to arrive, once")
    emitter.quit()
    assert _undeliverable(receiver) == [0, 0]
    assert _exported(receiver) == [4 * _BATCH] * 2


@pytest.mark.parametrize("on_disk", [True, False], ids=["spool", "memory"])
def test_one_item_that_is_always_refused_costs_no_other_of_its_batch(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    receiver.decide = _refuse_item("a13")
    emitter = start(spool if on_disk else None, "--refusals", "2")
    emitter.emit("a", 0, 4 * _BATCH)
    numbers = iter(range(4 * _BATCH, 1000))

    def given_up() -> bool:
        number = next(numbers)
        emitter.emit("a", number, number + 1)
        return _undeliverable(receiver) == [1, 1]

    poll_until(given_up, "that one to be given up", 40, 0.2)
    emitter.quit()
    expected = [f"a{number}" for number in range(next(numbers)) if number != 13]
    assert _healthy(receiver) == [sorted(expected)] * 2
    assert _exported(receiver) == [len(expected)] * 2


@pytest.mark.parametrize("on_disk", [True, False], ids=["spool", "memory"])
def test_outage_sets_nothing_aside(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    """A full Collector accepts requests without items, and other signals."""
    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE, TRACES, LOGS)
    emitter = start(spool if on_disk else None, "--refusals", "1")
    emitter.emit("a", 0, 10 * _BATCH)
    poll_until(lambda: receiver.refused("a0") >= 8, "four tries of the first of each signal")
    receiver.decide = lambda request: ACCEPT
    expected = [sorted(_numbered("a", 10 * _BATCH))] * 2
    poll_until(lambda: _healthy(receiver) == expected, "all to arrive")
    emitter.quit()
    assert _undeliverable(receiver) == [0, 0]
    assert not on_disk or not _dead_letters(spool)


def test_receiver_that_comes_and_goes_costs_nothing(
    receiver: ScriptedReceiver, start: Start, spool: Path
) -> None:
    began = time.monotonic()

    def decide(request: Request) -> Answer:
        up = int((time.monotonic() - began) / 0.3) % 2
        return ACCEPT if up else Answer(grpc.StatusCode.UNAVAILABLE)

    receiver.decide = decide
    emitter = start(spool)
    for number in range(0, 30 * _BATCH, _BATCH):
        emitter.emit("a", number, number + _BATCH)
        time.sleep(0.1)
    expected = [sorted(_numbered("a", 30 * _BATCH))] * 2
    poll_until(lambda: _healthy(receiver) == expected, "all to arrive, once")
    receiver.decide = lambda request: ACCEPT
    emitter.quit()
    assert _undeliverable(receiver) == [0, 0]
    assert not _dead_letters(spool)
    _assert_few_warnings(emitter)


def test_sums_of_a_dead_process_that_are_always_refused_are_set_aside(
    receiver: ScriptedReceiver, start: Start, spool: Path
) -> None:
    receiver.decide = lambda request: Answer(grpc.StatusCode.UNAVAILABLE)
    for number, prefix in enumerate(("poison", "sound"), start=1):
        dead = start(spool)
        dead.emit(prefix, 0, _BATCH)
        # One more export that contains the increments.
        time.sleep(0.3)
        poll_until(partial(_has_sums, spool, number), "sums on disk")
        dead.kill()

    def decide(request: Request) -> Answer:
        return Answer(grpc.StatusCode.UNAVAILABLE) if request.has("poison.") else ACCEPT

    receiver.decide = decide
    emitter = start(spool, "--refusals", "3")
    poll_until(lambda: sum(receiver.sums("sound.increments").values()) == _BATCH, "the sound ones")
    poll_until(
        lambda: [line.partition(":")[0] for line in _dead_letters(spool)] == ["metrics"], "one"
    )
    emitter.quit()
    metric = POINTS.exported
    assert sum(receiver.sums(metric, error__type="undeliverable").values()) > 0
