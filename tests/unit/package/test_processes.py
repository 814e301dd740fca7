"""Forked processes and the end of a process: nothing is lost, and nothing counted twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatscope.signals import call_when_killed
from stack.facts import ROOT
from tests.elapsed import takes_at_most
from tests.receiver import Receiver

_BEGIN = """
import logging, multiprocessing, os, sys
import chatscope
from opentelemetry import metrics, trace
telemetry = chatscope.configure(service_name="shop", span_delay_ms=3600000, metric_interval_ms=200)
counter = metrics.get_meter("shop").create_counter("orders")
def order(name, count):
    with trace.get_tracer("shop").start_as_current_span(name):
        logging.getLogger("shop").warning(name)
        counter.add(count)
"""
_FORKS = """
order("before", 5)
telemetry.flush()
context = multiprocessing.get_context("fork")
def child(number):
    order(f"child{number}", 3)
pid = os.fork()
if pid == 0:
    child(1)
    sys.exit(0)
process = context.Process(target=child, args=(2,))
process.start()
def parent_of_another():
    child(3)
    inner = context.Process(target=child, args=(4,))
    inner.start()
    inner.join()
other = context.Process(target=parent_of_another)
other.start()
os.waitpid(pid, 0)
process.join()
other.join()
order("after", 2)
"""
_UNREACHABLE = """
order("kept", 1)
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def _environ(endpoint: str, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    path = {"PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return {**kept, **path, **variables}


def _run(code: str, endpoint: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return _python(endpoint, "-c", _BEGIN + code, **variables)


def _python(endpoint: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=_environ(endpoint, **variables),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("instance", ["", "service.instance.id=a1"], ids=["own", "given"])
def test_forked_process_counts_from_zero_and_delivers_at_its_end(
    receiver: Receiver, instance: str
) -> None:
    done = _run(_FORKS, receiver.endpoint, OTEL_RESOURCE_ATTRIBUTES=instance)
    assert done.returncode == 0, done.stderr
    children = [f"child{number}" for number in range(1, 5)]
    names = sorted(["before", "after", *children])
    assert sorted(span.name for span in receiver.spans) == names, done.stderr
    assert sorted(record.body for record in receiver.log_records) == names
    instances = {span.name: span.resource["service.instance.id"] for span in receiver.spans}
    assert instances["before"] == instances["after"]
    counted = receiver.last("orders")
    assert counted == {instances["before"]: 7, **{instances[name]: 3 for name in children}}
    assert len(counted) == 5


_POOL = """
import multiprocessing, sys
import chatscope
from opentelemetry import trace
def configure():
    chatscope.configure(service_name="shop", span_delay_ms=3600000)
def order(number):
    with trace.get_tracer("shop").start_as_current_span("order"):
        return number
if "module" in sys.argv:
    configure()
if __name__ == "__main__":
    initializer = configure if "initializer" in sys.argv else None
    with multiprocessing.get_context(sys.argv[1]).Pool(2, initializer) as pool:
        pool.map(order, range(8))
        if "joined" in sys.argv:
            pool.close()
            pool.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("fork", "initializer", "joined"),
        ("forkserver", "module", "joined"),
        # Leaving the pool's block sends SIGTERM to processes that are ending by themselves.
        ("fork", "module", "terminated"),
    ],
    ids=" ".join,
)
def test_process_of_a_pool_delivers_before_it_ends(
    receiver: Receiver, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "pool.py").write_text(_POOL)
    done = _python(receiver.endpoint, str(tmp_path / "pool.py"), *arguments)
    assert done.returncode == 0, done.stderr
    assert [span.name for span in receiver.spans] == ["order"] * 8, done.stderr


@pytest.mark.slow
def test_signal_during_the_shutdown_waits_for_its_end(receiver: Receiver) -> None:
    receiver.delay()
    code = """
order("ordered", 1)
import atexit, threading, time
def kill():
    print("ending", flush=True)
    threading.Timer(0.3, os.kill, (os.getpid(), 15)).start()
atexit.register(kill)
"""
    with subprocess.Popen(
        [sys.executable, "-c", _BEGIN + code],
        cwd=ROOT,
        env=_environ(receiver.endpoint),
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.8)
        receiver.accept()
        assert process.wait(60) == -signal.SIGTERM
    assert [span.name for span in receiver.spans] == ["ordered"]
    assert list(receiver.last("orders").values()) == [1]


@pytest.mark.slow
def test_script_ends_in_time_and_keeps_what_cannot_be_delivered(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.hang()
    # Importing takes up to two seconds on a busy machine.
    with takes_at_most(5.0, factor=1.5):
        done = _run(_UNREACHABLE, receiver.endpoint, CHATSCOPE_SPOOL_DIR=str(tmp_path))
    assert done.returncode == 0
    assert "are kept on disk" in done.stderr
    receiver.accept()
    done = _run('order("later", 1)', receiver.endpoint, CHATSCOPE_SPOOL_DIR=str(tmp_path))
    assert {span.name for span in receiver.spans} == {"kept", "later"}, done.stderr
    assert {record.body for record in receiver.log_records} == {"kept", "later"}


@pytest.mark.slow
def test_telemetry_of_its_own_is_delivered_as_well(receiver: Receiver) -> None:
    code = """
from chatscope import Telemetry, TelemetrySettings
other = Telemetry(TelemetrySettings(service_name="other", span_delay_ms=3600000))
other.start()
other.tracer.start_span("of the other").end()
"""
    done = _run(code, receiver.endpoint)
    assert [span.name for span in receiver.spans] == ["of the other"]
    assert done.stderr == ""


@pytest.mark.slow
def test_exception_that_ends_a_script_is_delivered_with_the_rest(receiver: Receiver) -> None:
    code = """
try:
    with trace.get_tracer("shop").start_as_current_span("broken"):
        raise LookupError("a bug")
except LookupError:
    logging.getLogger("shop").exception("failed")
    sys.exit(3)
"""
    assert _run(code, receiver.endpoint).returncode == 3
    [span] = receiver.spans
    assert [event.name for event in span.span.events] == ["exception"]
    [record] = receiver.log_records
    assert record.attributes["exception.message"] == "a bug"


def test_signal_handler_of_the_application_is_left_alone() -> None:
    def own(*_: object) -> None:
        """Do nothing."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        call_when_killed(lambda: None)
        assert signal.getsignal(signal.SIGTERM) is own
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        call_when_killed(lambda: None)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_signal_that_the_main_thread_does_not_notice_ends_the_process() -> None:
    """The handler is due, but a system call that began meanwhile is not interrupted."""
    code = """
import signal, threading, time
from chatscope import signals
signals.call_when_killed(lambda: print("called", flush=True))
def kill():
    time.sleep(0.2)
    # The main thread sleeps, and is not interrupted by the signal of another thread.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Thread(target=kill, daemon=True).start()
time.sleep(30)
"""
    with takes_at_most(2.0, factor=2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.stdout == "called\n", done.stderr
    assert done.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_name_of_a_worker_tells_it_from_its_siblings() -> None:
    code = """
import os
from chatscope.processes import worker_name
assert worker_name() is None
if os.fork() == 0:
    print(worker_name() == str(os.getpid()), flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


@pytest.mark.slow
def test_threads_that_gevent_replaced_go_on() -> None:
    code = """
from gevent import monkey
monkey.patch_all()
import gevent
import chatscope
chatscope.configure(service_name="shop")
gevent.sleep(0.5)
print("went on", flush=True)
"""
    # Nothing listens there.
    environ = _environ("http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    command = [sys.executable, "-c", code]
    with takes_at_most(15):
        ended = subprocess.run(
            command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
        )
    assert "went on" in ended.stdout, ended.stderr
    assert ended.returncode == 0, ended.stderr
