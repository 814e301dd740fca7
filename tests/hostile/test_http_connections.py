"""Misbehaving clients below HTTP: slow, silent, many, or gone."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.elapsed import assert_at_most, assert_elapsed, overload
from tests.hostile.outcome import Group, attack, ends, group, healthy, no_errors, nothing_is_active
from tests.hostile.service import ANSWER_SECONDS, Service, read_all, read_answer

_RECEIVE_SECONDS = 1.0
_SEND_SECONDS = 1.0
_MOST_ANSWERS = 4
_MANY = 400
_BODY = b'{"messages":[{"role":"user","content":"hi"}],"stream":true}'
_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n" % len(_BODY)
)
_GET = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def connections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    directory = tmp_path_factory.mktemp("connections")
    with group(
        directory,
        RECEIVE_TIMEOUT_SECONDS=str(_RECEIVE_SECONDS),
        SEND_TIMEOUT_SECONDS=str(_SEND_SECONDS),
        MAX_ANSWERS=str(_MOST_ANSWERS),
        # A response that fills every buffer between the service and a client.
        SIMULATED_ANSWER_TOKENS="100000",
        SIMULATED_STALL_SECONDS="0",
        ANSWER_STALL_SECONDS="60",
    ) as one:
        yield one
        service = one.service()
        no_errors(service)
        nothing_is_active(service)
        # It ends with open connections in every unfinished state.
        for data in (b"", b"G", _GET, _HEAD + b"\r\n", _HEAD + b"\r\n" + _BODY):
            service.connect().sendall(data)
        ends(service)


@pytest.fixture
def service(connections: Group) -> Service:
    return connections.service()


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"GET / HT", 408), (_GET, 408), (b"GET /\r\n", 408), (b"", None), (b"\r\n\r\n", None)],
    ids=["half a line", "half a head", "HTTP/0.9", "nothing", "empty lines"],
)
def test_half_a_request_is_refused_in_time(
    service: Service, data: bytes, status: int | None
) -> None:
    with attack(service) as it, service.connect() as client:
        begun = time.monotonic()
        client.sendall(data)
        answer = read_all(client)
        assert_elapsed(time.monotonic() - begun, _RECEIVE_SECONDS)
        if status is None:
            assert answer == b""
        else:
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            it.leaves_log("request refused", code="request_timeout")


@pytest.mark.parametrize("body", [b"", b'{"mess'], ids=["no body", "half a body"])
def test_half_a_body_is_refused_in_time(service: Service, body: bytes) -> None:
    with attack(service) as it, service.connect() as client:
        begun = time.monotonic()
        client.sendall(_HEAD + it.header + b"\r\n" + body)
        answer = read_answer(client)
        assert_elapsed(time.monotonic() - begun, _RECEIVE_SECONDS)
        assert (answer.status, answer.trace_id) == (408, it.trace_id)
        it.leaves_span(http__response__status_code=408)


def test_slow_headers_do_not_extend_the_time(service: Service) -> None:
    """Each byte arrives before the end of any timeout that restarts with it."""
    with attack(service) as it, service.connect() as client:
        begun = time.monotonic()
        client.sendall(_GET)
        _drip(client, b"a: b\r\n" * 1_000)
        assert_elapsed(time.monotonic() - begun, _RECEIVE_SECONDS)
        it.leaves_log("request refused", code="request_timeout")


def test_slow_body_does_not_extend_the_time(service: Service) -> None:
    with attack(service) as it, service.connect() as client:
        begun = time.monotonic()
        client.sendall(_HEAD.replace(b"%d" % len(_BODY), b"10000") + it.header + b"\r\n")
        _drip(client, b" " * 10_000)
        assert_elapsed(time.monotonic() - begun, _RECEIVE_SECONDS)
        it.leaves_span(http__response__status_code=408)


def test_slow_chunk_extensions_do_not_extend_the_time(service: Service) -> None:
    with attack(service) as it, service.connect() as client:
        begun = time.monotonic()
        head = _HEAD.replace(b"content-length: %d" % len(_BODY), b"transfer-encoding: chunked")
        client.sendall(head + it.header + b"\r\n1;")
        _drip(client, b"a" * 10_000)
        assert_elapsed(time.monotonic() - begun, _RECEIVE_SECONDS)
        it.leaves_span(http__response__status_code=408)


def test_endless_trailers_are_bounded(service: Service) -> None:
    """After the last chunk a client may send trailers, which have no header limits."""
    with attack(service) as it, service.connect() as client:
        head = _HEAD.replace(b"content-length: %d" % len(_BODY), b"transfer-encoding: chunked")
        client.sendall(head + it.header + b"\r\n%x\r\n%s\r\n0\r\n" % (len(_BODY), _BODY))
        begun = time.monotonic()
        _drip(client, b"trailer: x\r\n" * 1_000)
        assert_elapsed(time.monotonic() - begun, _RECEIVE_SECONDS)
        it.leaves_log(trace_id=it.trace_id)


def test_request_byte_by_byte_is_served(service: Service) -> None:
    with attack(service) as it, service.connect() as client:
        for byte in _GET + it.header + b"\r\n":
            client.send(bytes([byte]))
        assert read_answer(client).status == 200
        it.leaves_span(http__response__status_code=200)


def test_client_that_stops_sending_still_gets_its_answer(service: Service) -> None:
    """`shutdown(SHUT_WR)`, as by `nc -N`; closing the connection is also an accepted response."""
    with attack(service) as it, service.connect() as client:
        client.sendall(_GET + it.header + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client)[:12] in (b"HTTP/1.1 200", b"")
        it.leaves_log(trace_id=it.trace_id)


@pytest.mark.parametrize("body", [b"", _BODY], ids=["before its body", "after its body"])
def test_client_that_resets_leaves_a_record(service: Service, body: bytes) -> None:
    with attack(service) as it:
        client = service.connect()
        client.sendall(_HEAD + it.header + b"\r\n" + body)
        if body:
            client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        it.leaves_span(http__route="/v1/chat/completions")
        it.leaves_log(trace_id=it.trace_id)


def test_client_that_never_reads_is_cut_off_in_time(service: Service) -> None:
    with attack(service) as it:
        client = _tiny(service)
        client.sendall(_HEAD + it.header + b"\r\n" + _BODY)
        filled = _filled(service, client)
        it.leaves_span(http__route="/v1/chat/completions")
        it.leaves_span(error__type="cancelled")
        it.check()
        request = next(span.span for span in it.spans if "http.route" in span.attributes)
        began, ended = request.start_time_unix_nano / 1e9, request.end_time_unix_nano / 1e9
        assert ended - began >= _SEND_SECONDS
        assert_at_most(ended - filled, _SEND_SECONDS)
        it.leaves_log(trace_id=it.trace_id)


def test_full_service_refuses_more_and_recovers(service: Service) -> None:
    with attack(service) as it:
        readers = []
        for _ in range(_MOST_ANSWERS):
            readers.append(_tiny(service))
            readers[-1].sendall(_HEAD + b"\r\n" + _BODY)
            assert readers[-1].recv(1) == b"H"
        answer = service.chat(_BODY.decode(), {"traceparent": it.traceparent})
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "too_many_answers"
        assert answer.headers["retry-after"]
        healthy(service)
        it.leaves_log("request refused", trace_id=it.trace_id, code="too_many_answers")
        for client in readers:
            client.close()


def test_many_idle_connections_do_not_keep_others_out(service: Service) -> None:
    with attack(service) as it:
        clients = [service.connect() for _ in range(_MANY)]
        for number, client in enumerate(clients):
            client.sendall(_GET[: number % len(_GET)])
        answer = service.get("/v1/models", {"traceparent": it.traceparent})
        assert answer.status == 200
        it.leaves_span(http__response__status_code=200)
        for client in clients:
            client.close()


def test_many_requests_on_one_connection_are_all_served(service: Service) -> None:
    """All of them are sent before any response."""
    with attack(service) as it, service.connect() as client:
        long = _GET + b"a: " + b"b" * 300 + b"\r\n\r\n"
        client.sendall(long * _MANY + _GET + it.header + b"connection: close\r\n\r\n")
        assert read_all(client, quiet_seconds=2.0 * overload()).count(b"HTTP/1.1 200") == _MANY + 1
        it.leaves("a span for each", lambda: len(it.spans) >= _MANY + 1)


def test_garbage_behind_a_request_closes_the_connection(service: Service) -> None:
    with attack(service) as it, service.connect() as client:
        client.sendall(_GET + it.header + b"\r\n")
        assert read_answer(client).status == 200
        client.sendall(b"\x00\xff garbage\r\n\r\n")
        assert read_answer(client).status == 400
        assert client.recv(1) == b""
        it.leaves_span(http__response__status_code=200)
        it.leaves_log("request refused", code="invalid_http")


def test_endless_body_is_cut_off(service: Service) -> None:
    with attack(service) as it, service.connect() as client:
        head = _HEAD.replace(b"content-length: %d" % len(_BODY), b"transfer-encoding: chunked")
        client.sendall(head + it.header + b"\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(10_000):
                client.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        it.leaves_span(http__response__status_code=413)


def _tiny(service: Service) -> socket.socket:
    """Open a connection with a small receive buffer, which is not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.settimeout(ANSWER_SECONDS)
    client.connect(("127.0.0.1", service.port))
    service.opened.append(client)
    return client


def _filled(service: Service, client: socket.socket) -> float:
    """Wait until the service can send no more; return when it last could, in Unix seconds.

    On a loaded machine, filling the buffers takes longer than the limit on sending.
    """
    size, since = _unsent(service, client), time.time()
    while size == 0 or time.time() - since < _SEND_SECONDS / 2:
        time.sleep(0.01)
        latest = _unsent(service, client)
        if latest != size:
            size, since = latest, time.time()
    return since


def _unsent(service: Service, client: socket.socket) -> int:
    """Return how many bytes wait in the kernel for the client to read others (see proc(5))."""
    ports = [f"{port:04X}" for port in (service.port, client.getsockname()[1])]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if [address.rpartition(":")[2] for address in (local, remote)] == ports:
            return int(queues.partition(":")[0], 16)
    raise AssertionError("the connection is closed")


def _drip(client: socket.socket, data: bytes) -> None:
    """Send a byte every 20 ms until the other side closes."""
    client.setblocking(False)
    for byte in data:
        try:
            client.send(bytes([byte]))
            if client.recv(65_536) == b"":
                return
        except BlockingIOError:
            pass
        except ConnectionError:
            return
        time.sleep(0.02)
    raise AssertionError("the service read all of it")
