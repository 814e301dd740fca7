"""Losses by SIGKILL: only telemetry of the last moment, as docs/telemetry.md promises."""

import sqlite3
import statistics
import time
import uuid
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from chatscope import names
from tests.elapsed import overload
from tests.hostile.service import Service, started

# The promises, with the default intervals of export.
_SPANS_AND_LOGS_SECONDS = 0.2
_METRICS_SECONDS = 1.0
_HANGING_SECONDS = 0.7
# Accepted factor of the promised duration on a busy machine.
_BUSY_FACTOR = 2.0
_PAUSE_SECONDS = 0.02
# Requests continue for longer than the part that may be lost.
_MORE_SECONDS = 0.3
_DEFAULTS = {"OTEL_BSP_SCHEDULE_DELAY": "", "OTEL_BLRP_SCHEDULE_DELAY": ""}


@dataclass(frozen=True)
class _Asked:
    """A completed request: its trace, time, and duration."""

    trace_id: str
    ended: float
    seconds: float


def test_kill_costs_only_what_was_not_due_to_be_sent(tmp_path: Path) -> None:
    with started(tmp_path, **_DEFAULTS) as service:
        busy = _BUSY_FACTOR * overload()
        asked = _ask_for(service, _METRICS_SECONDS * busy + _MORE_SECONDS)
        service.process.kill()
        killed = time.monotonic()
        service.process.wait()
        receiver = service.receiver
    due = _until(asked, killed - _SPANS_AND_LOGS_SECONDS * busy)
    assert due - {span.trace_id for span in receiver.spans} == set()
    assert due - {log.trace_id for log in receiver.log_records} == set()
    counted = sum(
        receiver.last(names.HTTP_REQUEST_DURATION.name, http__response__status_code=404).values()
    )
    assert counted >= len(_until(asked, killed - _METRICS_SECONDS * busy)) > 0


def test_hang_delays_no_request_and_a_kill_during_it_loses_only_the_last_moment(
    tmp_path: Path,
) -> None:
    """Without the restart that sends the spool, which tests/delivery and tests/chaos cover."""
    spool = tmp_path / "spool"
    with started(tmp_path, **_DEFAULTS, TELEMETRY_SPOOL_DIR=str(spool)) as service:
        busy = _BUSY_FACTOR * overload()
        healthy = _ask_for(service, 0.3)
        service.receiver.hang()
        asked = _ask_for(service, _HANGING_SECONDS * busy + _MORE_SECONDS)
        service.process.kill()
        killed = time.monotonic()
        service.process.wait()
    due = _until(asked, killed - _HANGING_SECONDS * busy)
    assert due
    for file in ("spans.db", "log-records.db"):
        kept = _batches(spool / file)
        assert not [trace_id for trace_id in due if bytes.fromhex(trace_id) not in kept], file
    before, amid = (statistics.median(one.seconds for one in each) for each in (healthy, asked))
    assert amid <= before * busy + 0.01, (before, amid)


def _ask_for(service: Service, seconds: float) -> list[_Asked]:
    asked = []
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        trace_id = uuid.uuid4().hex
        traceparent = f"00-{trace_id}-00f067aa0ba902b7-01"
        assert service.get("/nothing", {"traceparent": traceparent}).status == 404
        ended = time.monotonic()
        asked.append(_Asked(trace_id, ended, ended - begun))
        time.sleep(_PAUSE_SECONDS)
    return asked


def _until(asked: list[_Asked], moment: float) -> set[str]:
    """Return the traces of requests that had ended at that moment."""
    return {one.trace_id for one in asked if one.ended <= moment}


def _batches(file: Path) -> bytes:
    """Return all batches of a spool's file: encoded requests, with trace IDs of 16 bytes."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT body FROM batches").fetchall()
    return b"".join(zlib.decompress(body) for (body,) in rows)
