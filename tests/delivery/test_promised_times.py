"""When telemetry is retried and dropped: the durations that docs/telemetry.md promises."""

import time
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from stack.waiting import poll_until
from tests.delivery.conftest import Start
from tests.delivery.receiver import ACCEPT, TRACES, Answer, Request, ScriptedReceiver
from tests.elapsed import assert_elapsed

_FIRST_PAUSE_SECONDS = 0.25
# A pause is up to a fifth shorter than promised, so that processes do not retry at once.
_JITTER = 0.8
_PAUSES = 3
_BUSY_FACTOR = 2.0
_TIMEOUT_SECONDS = 0.5


def test_pauses_between_retries_double(
    receiver: ScriptedReceiver, start: Start, spool: Path
) -> None:
    tried: list[float] = []

    def decide(request: Request) -> Answer:
        if request.signal != TRACES:
            return ACCEPT
        # While the receiver's state is unknown, empty requests are sent.
        if not request.names:
            tried.append(time.monotonic())
        return Answer(grpc.StatusCode.UNAVAILABLE)

    receiver.decide = decide
    start(spool).emit("a", 0, 1)
    poll_until(lambda: len(tried) > _PAUSES, "the retries")
    for number, (earlier, later) in enumerate(pairwise(tried[: _PAUSES + 1])):
        promised = _FIRST_PAUSE_SECONDS * 2**number
        assert_elapsed(later - earlier, promised * _JITTER, _BUSY_FACTOR / _JITTER)


def test_export_without_a_response_is_given_up_after_its_timeout(
    receiver: ScriptedReceiver, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def decide(request: Request) -> Answer:
        # A request without items checks whether the receiver is back.
        if request.signal != TRACES or not request.names:
            return ACCEPT
        tried.append(time.monotonic())
        return Answer(seconds=3.0 * _TIMEOUT_SECONDS)

    receiver.decide = decide
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(_TIMEOUT_SECONDS))
    start(None).emit("a", 0, 1)
    poll_until(lambda: len(tried) > 1, "the second try")
    # Such a check, and its pause, may lie between.
    assert_elapsed(tried[1] - tried[0], _TIMEOUT_SECONDS, 2 * _BUSY_FACTOR)
