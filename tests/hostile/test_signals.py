"""Signals that a user, a shell or an orchestrator sends, to the service and to its workers."""

import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from chatscope import names
from stack.waiting import poll_until
from tests.elapsed import takes_at_most
from tests.hostile.outcome import attack, ends, healthy, no_errors
from tests.hostile.service import START_SECONDS, Service, launched, read_answer, started

_STOPPED_SECONDS = 1.0
_GET = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"
_STREAM = b'{"messages":[{"role":"user","content":"hi"}],"stream":true}'


def test_suspended_service_continues_where_it_was(tmp_path: Path) -> None:
    """A closed laptop lid, a debugger, `kill -STOP`: then a stop with a client that never reads."""
    with started(tmp_path, SIMULATED_TOKENS_PER_SECOND="20") as service:
        with attack(service) as before, attack(service) as amid, service.connect() as client:
            client.sendall(_chat(before.header))
            client.recv(1)
            service.process.send_signal(signal.SIGSTOP)
            other = service.connect()  # the kernel accepts it
            other.sendall(_GET + amid.header + b"\r\n")
            time.sleep(_STOPPED_SECONDS)
            service.process.send_signal(signal.SIGCONT)
            assert read_answer(other).status == 200
            assert b"[DONE]" in _rest(client)
            before.leaves_span(gen_ai__request__model="simulated-1")
            amid.leaves_span(http__response__status_code=200)
        no_errors(service)
        service.connect().sendall(_chat())
        ends(service)


def test_signal_to_a_suspended_service_ends_it_when_it_continues(tmp_path: Path) -> None:
    with started(tmp_path) as service:
        healthy(service)
        service.process.send_signal(signal.SIGSTOP)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert service.process.poll() is None
        service.process.send_signal(signal.SIGCONT)
        ends(service, signal.SIGCONT)


@pytest.mark.parametrize(
    "number", [signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG, signal.SIGCHLD, signal.SIGTSTP]
)
def test_signal_without_meaning_changes_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path) as service:
        with attack(service) as it:
            service.process.send_signal(number)
            service.process.send_signal(signal.SIGCONT)
            assert service.get("/v1/models", {"traceparent": it.traceparent}).status == 200
            it.leaves_span(http__response__status_code=200)
        ends(service, signal.SIGINT)


@pytest.mark.parametrize("seconds", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_signal_during_startup_ends_it(tmp_path: Path, seconds: float, workers: str) -> None:
    with launched(tmp_path, WORKERS=workers) as service:
        time.sleep(seconds)
        # Telemetry has nothing to send, or sends it immediately.
        with takes_at_most(10.0, factor=1.0):
            service.process.send_signal(signal.SIGTERM)
            code = service.process.wait(START_SECONDS)
        assert code in (0, 1, -signal.SIGTERM)
        assert "Traceback" not in service.text()


def test_killed_worker_is_replaced_and_recorded(tmp_path: Path) -> None:
    with started(tmp_path, WORKERS="2") as service:
        _wait_until_serving(service, 2)
        with attack(service) as it:
            victim = service.workers()[0]
            victim.send_signal(signal.SIGKILL)
            for _ in range(20):
                healthy(service)
            poll_until(lambda: _replaced(service, victim), "another worker")
            assert service.get("/v1/models", {"traceparent": it.traceparent}).status == 200
            it.leaves_span(http__response__status_code=200)
            it.leaves_log("worker ended", exit_code=-signal.SIGKILL)
        _wait_until_serving(service, 3)  # with the one that is gone
        ends(service)


def test_suspended_worker_keeps_neither_requests_nor_the_end(tmp_path: Path) -> None:
    with started(tmp_path, WORKERS="2") as service:
        _wait_until_serving(service, 2)
        with attack(service) as it:
            service.workers()[0].send_signal(signal.SIGSTOP)
            for _ in range(20):
                healthy(service)
            assert service.get("/v1/models", {"traceparent": it.traceparent}).status == 200
            it.leaves_span(http__response__status_code=200)
        ends(service, exit_code=1)


def test_suspended_supervisor_keeps_no_request(tmp_path: Path) -> None:
    with started(tmp_path, WORKERS="2") as service:
        service.process.send_signal(signal.SIGSTOP)
        with attack(service) as it:
            assert service.get("/v1/models", {"traceparent": it.traceparent}).status == 200
            it.leaves_span(http__response__status_code=200)
        service.process.send_signal(signal.SIGCONT)
        ends(service)


def test_workers_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    with started(tmp_path, WORKERS="2") as service:
        with attack(service) as it:
            assert service.get("/v1/models", {"traceparent": it.traceparent}).status == 200
            it.leaves_span(http__response__status_code=200)
        workers = service.workers()
        with takes_at_most(10.0, factor=1.0):
            service.process.kill()
            psutil.wait_procs(workers, START_SECONDS)
        assert not [one for one in workers if one.is_running()]


def _replaced(service: Service, victim: psutil.Process) -> bool:
    workers = service.workers()
    return len(workers) == 2 and victim not in workers


def _wait_until_serving(service: Service, workers: int) -> None:
    poll_until(
        lambda: len(service.receiver.last(names.LIMIT_VALUE.name)) == workers,
        f"metrics of {workers} workers",
        START_SECONDS,
    )


def _chat(header: bytes = b"") -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + header
        + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(_STREAM)
        + _STREAM
    )


def _rest(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(65_536):
        data += piece
    return data
