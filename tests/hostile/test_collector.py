"""A Collector that rejects, hangs, sends garbage or is suspended: nothing waits for it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import grpc
import pytest

from chatscope import names
from tests.elapsed import takes_at_most
from tests.hostile.outcome import Attack, attack, ends, healthy, no_errors
from tests.hostile.service import ROOT, How, Service, read_answers, started
from tests.hostile.wire import Fault, Wire, wire
from tests.receiver import Receiver

_AWAY_SECONDS = 0.5
_REQUEST_SECONDS = 2.0
_MANY = 200
_REFUSALS = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture(scope="module")
def line(receiver: Receiver) -> Iterator[Wire]:
    with wire(receiver.endpoint) as one:
        yield one


@pytest.fixture(scope="module")
def memory(
    receiver: Receiver, line: Wire, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run a service that queues telemetry in memory while the Collector does not accept it."""
    with _service(tmp_path_factory.mktemp("memory"), receiver, line) as one:
        yield one


@pytest.fixture(scope="module")
def spool(
    receiver: Receiver, line: Wire, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run a service with a spool on disk."""
    directory = tmp_path_factory.mktemp("spool")
    with _service(directory, receiver, line, TELEMETRY_SPOOL_DIR=str(directory / "spool")) as one:
        yield one


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Service:
    one: Service = request.getfixturevalue(request.param)
    return one


@contextmanager
def _service(directory: Path, receiver: Receiver, line: Wire, **environ: str) -> Iterator[Service]:
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = line.endpoint
    with started(directory, How(receiver), **environ) as one:
        yield one
        no_errors(one)
        # It ends with a Collector that accepts everything and never responds.
        _ask(one, Attack(one))
        line.become(Fault.DEAF)
        _ask(one, Attack(one))
        try:
            ends(one)
        finally:
            line.become(Fault.NONE)


@pytest.mark.parametrize("service", ["memory", "spool"], indirect=True)
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_broken_connection_delays_nothing_and_loses_nothing(
    service: Service, line: Wire, fault: Fault
) -> None:
    with attack(service) as it:
        line.become(fault)
        _ask_for_a_while(service, it)
        line.become(Fault.NONE)
        it.leaves_span(http__response__status_code=404)
        it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)


@pytest.mark.parametrize(
    ("service", "status"),
    [
        # Without a disk the other faults are permanent, or equivalent.
        *(("memory", status) for status in _REFUSALS[:2]),
        *(("spool", status) for status in _REFUSALS),
    ],
    indirect=["service"],
)
def test_refusal_delays_nothing_and_loses_nothing(
    service: Service, receiver: Receiver, status: grpc.StatusCode
) -> None:
    with attack(service) as it:
        receiver.refuse_with(status)
        _ask_for_a_while(service, it)
        receiver.accept()
        it.leaves_span(http__response__status_code=404)
        it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)


def test_suspended_collector_delays_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """Run a proxy in front of the receiver in a process that can be suspended by SIGSTOP."""
    with Receiver() as receiver, _other_process(receiver) as (process, endpoint):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        with started(tmp_path, How(receiver), **environ) as service:
            with attack(service) as it:
                process.send_signal(signal.SIGSTOP)
                _ask_for_a_while(service, it)
                process.send_signal(signal.SIGCONT)
                it.leaves_span(http__response__status_code=404)
                it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
            process.send_signal(signal.SIGSTOP)
            _ask(service, Attack(service))
            ends(service)


@pytest.mark.parametrize("what", ["nobody", "a web server", "the service itself", "no TLS"])
def test_endpoint_that_is_no_collector_delays_nothing(
    tmp_path: Path, receiver: Receiver, what: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    if what == "the service itself":
        environ["PORT"] = str(port)
    if what == "no TLS":
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint.replace("http:", "https:")
    web_server = what == "a web server" and subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with started(tmp_path, **environ) as service:
            it = Attack(service)
            _ask_for_a_while(service, it)
            ends(service)
            assert "lost at shutdown" in service.text() or "dropped" in service.text()
            assert service.text().count("\n") < 300, "the console is flooded"
    finally:
        if web_server:
            web_server.kill()
            web_server.wait()


def _dropped(service: Service, metric: str) -> bool:
    return sum(service.receiver.last(metric, error__type="queue_full").values()) > 0


def test_full_queue_drops_the_oldest_and_says_so_once(tmp_path: Path) -> None:
    # Small, and many requests at once: else an overloaded machine sends each before the next one.
    queues = {"OTEL_BSP_MAX_QUEUE_SIZE": "2", "OTEL_BLRP_MAX_QUEUE_SIZE": "2"}
    with started(tmp_path, **queues) as service:
        service.receiver.hang()
        with service.connect() as client:
            client.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n" * _MANY)
            answers = list(islice(read_answers(client), _MANY))
        assert {answer.status for answer in answers} == {404}
        with attack(service) as it:
            _ask(service, it)
            service.receiver.accept()
            it.leaves_span(http__response__status_code=404)
            it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
            for metric in (names.SPANS_PROCESSED.name, names.LOGS_PROCESSED.name):
                it.leaves(metric, partial(_dropped, service, metric))
        assert "Traceback" not in service.text()
        assert "Logging error" not in service.text()
        assert service.text().count("dropped") < 10
        ends(service)


def test_suspended_neighbour_of_a_shared_spool_keeps_nothing_back(tmp_path: Path) -> None:
    spool = {"TELEMETRY_SPOOL_DIR": str(tmp_path / "spool")}
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with (
        Receiver() as receiver,
        started(first, How(receiver), **spool) as suspended,
        started(second, How(receiver), **spool) as service,
    ):
        receiver.refuse_with(grpc.StatusCode.UNAVAILABLE)
        _ask_for_a_while(suspended, Attack(suspended))
        suspended.process.send_signal(signal.SIGSTOP)
        with attack(service) as it:
            _ask_for_a_while(service, it)
            receiver.accept()
            it.leaves_span(http__response__status_code=404)
            it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
        ends(service)
        suspended.process.send_signal(signal.SIGCONT)
        ends(suspended)


def _ask_for_a_while(service: Service, it: Attack) -> None:
    deadline = time.monotonic() + _AWAY_SECONDS
    while time.monotonic() < deadline:
        _ask(service, it)
        healthy(service)
        time.sleep(0.1)


def _ask(service: Service, it: Attack) -> None:
    with takes_at_most(_REQUEST_SECONDS, factor=1.0):
        assert service.get("/nothing", {"traceparent": it.traceparent}).status == 404


class _other_process:
    """Run a proxy in a separate process."""

    def __init__(self, receiver: Receiver) -> None:
        code = (
            "from tests.hostile.wire import Wire\nimport sys\n"
            "one = Wire(int(sys.argv[1]))\nprint(one.endpoint, flush=True)\none.accept()"
        )
        port = receiver.endpoint.rpartition(":")[2]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, port],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> tuple["subprocess.Popen[str]", str]:
        assert self._process.stdout is not None
        return self._process, self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
