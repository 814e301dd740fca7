"""Responses of a receiver or a proxy: nothing is lost, or the loss is counted."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

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

_BATCH = 10
_SIGNALS = (TRACES, LOGS)
_EXPORTED = (SPANS.exported, LOG_METRICS.exported)
_DROPPED = (SPANS.processed, LOG_METRICS.processed)
# All except OK and INVALID_ARGUMENT.
_STATUSES = [
    status
    for status in grpc.StatusCode
    if status not in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
]
_PARAMETERS = pytest.mark.parametrize("on_disk", [True, False], ids=["spool", "memory"])


def _accept(request: Request) -> Answer:
    return ACCEPT


def _arrived(receiver: ScriptedReceiver, expected: list[str]) -> bool:
    return all(set(receiver.accepted(signal)) >= set(expected) for signal in _SIGNALS)


def _was_refused(receiver: ScriptedReceiver, prefix: str) -> bool:
    refused = Counter(
        request.signal
        for request, answer in receiver.answered
        if answer.status is not grpc.StatusCode.OK and request.has(prefix)
    )
    return all(refused[signal] for signal in _SIGNALS)


def _twice(receiver: ScriptedReceiver) -> int:
    """Return the maximum number of extra acceptances of an item, for spans and records."""
    return max(
        sum(count - 1 for count in Counter(receiver.accepted(signal)).values())
        for signal in _SIGNALS
    )


def _lost(receiver: ScriptedReceiver) -> list[int]:
    """Return how many spans and records were counted as lost, for any reason."""
    lost = []
    for exported, dropped in zip(_EXPORTED, _DROPPED, strict=True):
        arrived = sum(receiver.sums(exported, error__type="").values())
        given_up = sum(receiver.sums(exported).values()) - arrived
        processed = sum(receiver.sums(dropped).values())
        before_export = processed - sum(receiver.sums(dropped, error__type="").values())
        lost.append(given_up + before_export)
    return lost


@_PARAMETERS
def test_no_status_but_invalid_argument_costs_anything(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    """UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED: a proxy during a rollout."""
    emitter = start(spool if on_disk else None)
    expected: list[str] = []
    for status in _STATUSES:
        receiver.decide = refuse(status, *_SIGNALS)
        emitter.emit(f"{status.name}-", 0, _BATCH)
        expected += [f"{status.name}-{number}" for number in range(_BATCH)]
        poll_until(partial(_was_refused, receiver, f"{status.name}-"), f"{status.name}")
        receiver.decide = _accept
        poll_until(partial(_arrived, receiver, expected), f"all after {status.name}")
    emitter.quit()
    assert _lost(receiver) == [0, 0]
    assert _twice(receiver) == 0


@_PARAMETERS
def test_invalid_argument_is_a_loss_that_is_counted(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    receiver.decide = refuse(grpc.StatusCode.INVALID_ARGUMENT, *_SIGNALS)
    emitter = start(spool if on_disk else None)
    emitter.emit("refused", 0, _BATCH)
    poll_until(lambda: _lost(receiver) == [_BATCH, _BATCH], "the losses")
    refused = receiver.refused()
    receiver.decide = _accept
    emitter.emit("a", 0, _BATCH)
    poll_until(lambda: _arrived(receiver, [f"a{n}" for n in range(_BATCH)]), "what came after")
    emitter.quit()
    assert receiver.refused() == refused
    assert [sum(receiver.sums(m, error__type="refused").values()) for m in _EXPORTED] == [10, 10]


@_PARAMETERS
def test_items_that_a_partial_success_rejects_are_counted(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    traces = ExportTraceServiceResponse()
    traces.partial_success.rejected_spans = 1
    traces.partial_success.error_message = "too old"
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 1
    responses = {TRACES: traces.SerializeToString(), LOGS: logs.SerializeToString(), METRICS: b""}

    def decide(request: Request) -> Answer:
        return Answer(response=responses[request.signal]) if "a0" in request.names else ACCEPT

    receiver.decide = refuse(grpc.StatusCode.UNAVAILABLE, *_SIGNALS)
    emitter = start(spool if on_disk else None)
    emitter.emit("a", 0, _BATCH)
    poll_until(lambda: receiver.refused() >= 2, "an outage, so that it goes to disk")
    receiver.decide = decide
    poll_until(lambda: _lost(receiver) == [1, 1], "the rejected ones to be counted")
    emitter.emit("b", 0, _BATCH)
    emitter.quit()
    assert [sum(receiver.sums(m, error__type="").values()) for m in _EXPORTED] == [19, 19]
    assert [sum(receiver.sums(m, error__type="refused").values()) for m in _EXPORTED] == [1, 1]
    assert sum("too old" in line for line in emitter.console) == 1


@_PARAMETERS
def test_response_that_is_no_otlp_acknowledges_nothing(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    garbled = Answer(response=b"\xff\xff<html>")

    def decide(request: Request) -> Answer:
        return garbled if request.signal in _SIGNALS else ACCEPT

    receiver.decide = decide
    emitter = start(spool if on_disk else None)
    emitter.emit("a", 0, _BATCH)
    # The first request may hold few of the items; the others wait for the end of the outage.
    poll_until(lambda: all(map(receiver.accepted, _SIGNALS)), "a garbled response to each signal")
    receiver.decide = _accept

    def acknowledged() -> set[tuple[str, str]]:
        return {
            (request.signal, name)
            for request, answer in receiver.answered
            if request.signal in _SIGNALS and answer is not garbled
            for name in request.names
        }

    expected = {(signal, f"a{number}") for signal in _SIGNALS for number in range(_BATCH)}
    poll_until(lambda: acknowledged() == expected, "all to arrive again")
    emitter.quit()
    assert _lost(receiver) == [0, 0]
    assert [sum(receiver.sums(m, error__type="").values()) for m in _EXPORTED] == [10, 10]


@_PARAMETERS
def test_receiver_that_restarts_under_load_costs_nothing(
    start: Start, spool: Path, *, on_disk: bool
) -> None:
    """GOAWAY, calls that are cut, refused connections."""
    receiver = ScriptedReceiver()
    receiver.decide = lambda request: Answer(seconds=0.02)
    numbers = iter(range(0, 1000, _BATCH))
    emitter: Emitter | None = None
    for grace in (0.0, 0.05, 0.0, 0.05):
        with receiver.listening(grace):
            emitter = emitter or start(spool if on_disk else None, "--endpoint", receiver.endpoint)
            for number in islice(numbers, 5):
                emitter.emit("a", number, number + _BATCH)
    assert emitter
    with receiver.listening(grace=1.0):
        expected = [f"a{number}" for number in range(next(numbers))]
        poll_until(lambda: _arrived(receiver, expected), "all to arrive")
        emitter.quit()
    assert _lost(receiver) == [0, 0]
    # One request in progress at each of four shutdowns.
    assert _twice(receiver) <= 4 * _BATCH


@_PARAMETERS
def test_http_404_of_a_proxy_is_an_outage(start: Start, spool: Path, *, on_disk: bool) -> None:
    receiver = ScriptedReceiver()
    with _not_found() as (port, answered):
        emitter = start(spool if on_disk else None, "--endpoint", f"http://127.0.0.1:{port}")
        emitter.emit("a", 0, _BATCH)
        poll_until(lambda: len(answered) >= 8, "requests")
    receiver.port = port
    with receiver.listening(grace=1.0):
        expected = [f"a{number}" for number in range(_BATCH)]
        poll_until(lambda: _arrived(receiver, expected), "all to arrive")
        emitter.quit()
    assert any("UNIMPLEMENTED" in line and "404" in line for line in emitter.console)
    assert _lost(receiver) == [0, 0]


@_PARAMETERS
def test_slow_receiver_gets_each_batch_once(
    receiver: ScriptedReceiver, start: Start, spool: Path, *, on_disk: bool
) -> None:
    receiver.decide = lambda request: Answer(seconds=1.0 if request.signal != METRICS else 0.0)
    emitter = start(spool if on_disk else None)
    emitter.emit("a", 0, 2 * _BATCH)
    expected = [f"a{number}" for number in range(2 * _BATCH)]
    poll_until(lambda: _arrived(receiver, expected), "all to arrive")
    emitter.quit()
    assert _twice(receiver) == 0
    assert _lost(receiver) == [0, 0]


_SETTINGS, _HEADERS, _PING = 4, 1, 6
_ACK, _END = 1, 0b101  # of the stream and of the headers
_STATUS_404 = b"\x8d"  # HPACK's static table, entry 13


@contextmanager
def _not_found() -> Iterator[tuple[int, list[int]]]:
    """Respond to HTTP/2 requests with 404, like a proxy without a route; yield port and count."""
    answered: list[int] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as stream:
            stream.read(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            _send_frame(connection, _SETTINGS)
            while head := stream.read(9):
                payload = stream.read(int.from_bytes(head[:3], "big"))
                kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind in (_SETTINGS, _PING) and not flags & _ACK:
                    echo = payload if kind == _PING else b""
                    _send_frame(connection, kind, _ACK, payload=echo)
                elif kind == _HEADERS:
                    _send_frame(connection, _HEADERS, _END, number, _STATUS_404)
                    answered.append(number)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(server.accept()[0])
                threading.Thread(target=serve, args=(connections[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1], answered
        finally:
            for closing in (server, *connections):
                with suppress(OSError):
                    closing.shutdown(socket.SHUT_RDWR)
                closing.close()


def _send_frame(
    connection: socket.socket, kind: int, flags: int = 0, number: int = 0, payload: bytes = b""
) -> None:
    size = len(payload).to_bytes(3, "big")
    connection.sendall(size + bytes([kind, flags]) + number.to_bytes(4, "big") + payload)
