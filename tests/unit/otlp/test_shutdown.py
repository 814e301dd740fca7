"""The shutdown ends within its deadline, whatever hangs, and a disk keeps what is left."""

import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from chatscope.otlp import Signal
from chatscope.otlp.spool import Spool
from stack.waiting import poll_until
from tests.elapsed import assert_at_most
from tests.receiver import Receiver
from tests.unit.otlp.emitting import Emitting, emitting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_ROOT = Path(__file__).parents[3]
_SECONDS = 1.5
# A busy machine lets a thread wait before it goes on.
_FACTOR = 1.3
_ITEMS = 40

Trouble = Callable[[], AbstractContextManager[str]]


@contextmanager
def _refused() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def _hung() -> Iterator[str]:
    """Accept connections and answer nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def _blackhole() -> Iterator[str]:
    """Drop each attempt to connect, as a firewall does: the queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(address)
        yield f"http://127.0.0.1:{address[1]}"
        for each in filling:
            each.close()


_troubles = pytest.mark.parametrize("trouble", [_refused, _hung, _blackhole])
_protocols = pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])


def _emitting(endpoint: str, spool: Path | None, protocol: str) -> Emitting:
    return emitting(endpoint, spool, variables={"PROTOCOL": protocol})


@_protocols
@_troubles
def test_shutdown_is_in_time_and_all_is_on_disk(
    trouble: Trouble, protocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with trouble() as endpoint:
        emitted = _emitting(endpoint, tmp_path, protocol)
        emitted.emit(range(_ITEMS))
        emitted.meter_provider.force_flush()
        kept, seconds = emitted.shutdown(_SECONDS)
    assert_at_most(seconds, _SECONDS, _FACTOR)
    assert kept
    assert "did not stop in time" not in caplog.text
    for name in ("spans", "log records"):
        assert f"{_ITEMS} {name} are kept on disk" in caplog.text
    with Receiver() as receiver:
        after = emitting(receiver.endpoint, tmp_path)
        after.emit([_ITEMS])
        poll_until(lambda: len(receiver.spans) == len(receiver.log_records) == _ITEMS + 1, "all")
        after.delivery.shutdown(5.0)
    assert {span.name for span in receiver.spans} == {str(n) for n in range(_ITEMS + 1)}


@_protocols
@_troubles
def test_shutdown_without_a_disk_is_in_time_and_reports_the_loss(
    trouble: Trouble, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    with trouble() as endpoint:
        emitted = _emitting(endpoint, None, protocol)
        emitted.emit(range(_ITEMS))
        kept, seconds = emitted.shutdown(_SECONDS)
    assert_at_most(seconds, _SECONDS, _FACTOR)
    assert not kept
    for name in ("spans", "log records"):
        assert f"{_ITEMS} {name} were lost at shutdown" in caplog.text
    for counts in emitted.statistics():
        assert counts.exported["shutdown"] == _ITEMS


@pytest.mark.parametrize("accepts", [True, False], ids=["receiver", "no receiver"])
def test_shutdown_with_a_locked_spool_is_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, accepts: bool
) -> None:
    with Receiver() as receiver, _refused() as nowhere:
        emitted = emitting(receiver.endpoint if accepts else nowhere, tmp_path)
        # Makes the file.
        poll_until(emitted.delivery.pipelines[Signal.TRACES].spool.is_empty, "a spool")
        with sqlite3.connect(tmp_path / "spans.db") as other:
            other.execute("BEGIN EXCLUSIVE")
            emitted.emit(range(5))
            kept, seconds = emitted.shutdown(_SECONDS)
            other.rollback()
        other.close()
        assert_at_most(seconds, _SECONDS, _FACTOR)
        if accepts:
            assert len(receiver.spans) == len(receiver.log_records) == 5
        else:
            assert not kept
            assert "spans" in caplog.text


def test_batch_that_is_stuck_on_its_way_to_the_disk_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = threading.Event(), threading.Event()

    def never(self: Spool, body: bytes, items: int, claim_seconds: float = 0.0) -> None:
        stuck.set()
        free.wait(30)

    with _refused() as nowhere:
        emitted = emitting(nowhere, tmp_path)
        monkeypatch.setattr(Spool, "append", never)
        emitted.tracer_provider.get_tracer("test").start_span("span").end()
        assert stuck.wait(60)
        kept, seconds = emitted.shutdown(_SECONDS)
        free.set()
    assert_at_most(seconds, _SECONDS, _FACTOR)
    assert not kept
    assert "1 spans were lost at shutdown" in caplog.text


def test_second_shutdown_does_nothing_and_later_items_are_counted() -> None:
    with Receiver() as receiver:
        emitted = emitting(receiver.endpoint)
        emitted.emit(range(5))
        assert emitted.shutdown(5.0)[0]
        assert len(receiver.spans) == 5
        kept, seconds = emitted.shutdown(5.0)
        assert kept
        assert seconds < 0.5
        emitted.emit(range(3))
    assert [emitted.delivery.pipelines[signal].queue.late for signal in Signal] == [3, 0, 3]
    emitted.assert_even()


def test_healthy_shutdown_is_quick_and_delivers_what_is_queued() -> None:
    with Receiver() as receiver:
        emitted = emitting(receiver.endpoint)
        emitted.emit(range(45))
        kept, seconds = emitted.shutdown(30.0)
        assert kept
        assert len(receiver.spans) == len(receiver.log_records) == 45
    # Without waiting it takes milliseconds.
    assert seconds < 5
    emitted.assert_even()


_AT_EXIT = """
import atexit, sys
from tests.unit.otlp.emitting import emitting
emitted = emitting(sys.argv[1])
atexit.register(emitted.delivery.shutdown, 5.0)
emitted.emit(range(5))
"""


def test_shutdown_can_run_at_exit() -> None:
    with Receiver() as receiver:
        done = subprocess.run(
            [sys.executable, "-c", _AT_EXIT, receiver.endpoint],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(receiver.spans) == len(receiver.log_records) == 5
