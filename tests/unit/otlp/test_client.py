"""The clients for gRPC and HTTP, against servers on real sockets."""

import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from chatscope.otlp.client import CANCELLED, Client, Outcome, Result, connect
from chatscope.otlp.settings import EndpointSettings, Signal
from chatscope.otlp.variables import Protocol
from chatscope.otlp.wire import LEN, VARINT, sized, tag, varint
from stack.waiting import poll_until
from tests.elapsed import takes, takes_at_most
from tests.unit.otlp.servers import (
    Call,
    Certificates,
    HttpResponse,
    Server,
    grpc_server,
    http_server,
    make_certificates,
)

pytestmark = pytest.mark.timeout(240)

_BODY = b"an export request"
_PARTIAL = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
).SerializeToString()


@contextmanager
def _client(protocol: Protocol, server: Server, **settings: Any) -> Iterator[Client]:
    host = f"{settings.pop('scheme', 'http')}://127.0.0.1:{server.port}"
    path = "" if protocol is Protocol.GRPC else "/v1/traces"
    client = connect(
        EndpointSettings(
            signal=Signal.TRACES,
            protocol=protocol,
            **{"url": f"{host}{path}", "timeout": 5.0, **settings},
        )
    )
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _grpc(
    respond: Callable[[grpc.ServicerContext], bytes] = lambda context: b"", **settings: Any
) -> Iterator[tuple[Server, Client]]:
    with grpc_server(respond) as server, _client(Protocol.GRPC, server, **settings) as client:
        yield server, client


@contextmanager
def _http(response: HttpResponse | None = None, **settings: Any) -> Iterator[tuple[Server, Client]]:
    answer = response or HttpResponse()
    with (
        http_server(lambda: answer) as server,
        _client(Protocol.HTTP, server, **settings) as client,
    ):
        yield server, client


def _send(client: Client, body: bytes = _BODY) -> Result:
    return client.send(body).result(20)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_grpc_carries_body_and_headers_to_the_signals_method() -> None:
    with _grpc(headers=(("authorization", "Bearer a"),)) as (server, client):
        assert _send(client) == Result(Outcome.ACCEPTED)
    [call] = server.calls
    assert call.path == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    assert call.body == _BODY
    assert call.headers["authorization"] == "Bearer a"


def test_http_posts_body_and_headers_to_the_signals_path() -> None:
    with _http(headers=(("authorization", "Bearer a"),)) as (server, client):
        assert _send(client) == Result(Outcome.ACCEPTED)
        assert _send(client) == Result(Outcome.ACCEPTED)
    assert [call.path for call in server.calls] == ["/v1/traces"] * 2
    assert server.calls[0].body == _BODY
    assert server.calls[0].headers["authorization"] == "Bearer a"
    assert server.calls[0].headers["content-type"] == "application/x-protobuf"
    assert "content-encoding" not in server.calls[0].headers


def test_http_compresses() -> None:
    with _http(gzip=True) as (server, client):
        assert _send(client).outcome is Outcome.ACCEPTED
    [call] = server.calls
    assert call.headers["content-encoding"] == "gzip"
    assert gzip.decompress(call.body) == _BODY


def test_grpc_compresses() -> None:
    """The server library hides the encoding; on the wire there are fewer bytes than sent."""
    body = b"x" * 100_000
    with grpc_server() as server, _counted(server.port) as (port, passed):
        behind = Server(port)
        with _client(Protocol.GRPC, behind, gzip=True) as client:
            assert _send(client, body).outcome is Outcome.ACCEPTED
    assert server.calls[0].body == body
    assert 0 < sum(passed) < 10_000


@contextmanager
def _counted(port: int) -> Iterator[tuple[int, list[int]]]:
    """Forward one connection to `port`; yield the port to use and the sizes of what was sent."""
    passed: list[int] = []

    def copy(source: socket.socket, target: socket.socket, sizes: list[int]) -> None:
        try:
            while data := source.recv(65536):
                sizes.append(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as back:

        def serve() -> None:
            front, _ = listening.accept()
            with front:
                back.connect(("127.0.0.1", port))
                other = threading.Thread(target=copy, args=(back, front, []), daemon=True)
                other.start()
                copy(front, back, passed)
                other.join(60)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], passed
        thread.join(60)


def test_partial_success_is_understood_over_grpc() -> None:
    with _grpc(lambda context: _PARTIAL) as (_, client):
        assert _send(client) == Result(Outcome.ACCEPTED, rejected=3, message="too old")


def test_partial_success_is_understood_over_http() -> None:
    with _http(HttpResponse(body=_PARTIAL)) as (_, client):
        assert _send(client) == Result(Outcome.ACCEPTED, rejected=3, message="too old")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("INVALID_ARGUMENT", Outcome.REFUSED),
        ("UNAUTHENTICATED", Outcome.UNAVAILABLE),
        ("PERMISSION_DENIED", Outcome.UNAVAILABLE),
        ("UNIMPLEMENTED", Outcome.UNAVAILABLE),
        ("RESOURCE_EXHAUSTED", Outcome.UNAVAILABLE),
        ("CANCELLED", Outcome.UNAVAILABLE),
        ("INTERNAL", Outcome.UNAVAILABLE),
    ],
)
def test_status_of_grpc_is_classified(status: str, outcome: Outcome) -> None:
    def refuse(context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode[status], "because")
        raise AssertionError

    with _grpc(refuse) as (_, client):
        assert _send(client) == Result(outcome, status, "because")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, Outcome.ACCEPTED),
        (400, Outcome.REFUSED),
        (401, Outcome.UNAVAILABLE),
        (404, Outcome.UNAVAILABLE),
        (413, Outcome.UNAVAILABLE),
        (429, Outcome.UNAVAILABLE),
        (500, Outcome.UNAVAILABLE),
        (503, Outcome.UNAVAILABLE),
    ],
)
def test_status_of_http_is_classified(status: int, outcome: Outcome) -> None:
    with _http(HttpResponse(status)) as (_, client):
        result = _send(client)
    assert result.outcome is outcome
    assert result.error_type == ("" if outcome is Outcome.ACCEPTED else str(status))


def _retry_info(seconds: int, nanos: int) -> bytes:
    """A `google.rpc.Status` with a `RetryInfo` among its details."""
    delay = duration_pb2.Duration(seconds=seconds, nanos=nanos).SerializeToString()
    url = "type.googleapis.com/google.rpc.RetryInfo"
    info = any_pb2.Any(type_url=url, value=tag(1, LEN) + sized(delay)).SerializeToString()
    other = any_pb2.Any(type_url="type.googleapis.com/google.rpc.Help").SerializeToString()
    code = tag(1, VARINT) + varint(14)
    return b"".join([code, tag(3, LEN), sized(other), tag(3, LEN), sized(info)])


@pytest.mark.parametrize(
    ("details", "seconds"),
    [(_retry_info(7, 500_000_000), 7.5), (b"\xff\xff", 0.0), (_retry_info(0, 0), 0.0)],
)
def test_retry_info_of_grpc_is_read(details: bytes, seconds: float) -> None:
    def refuse(context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        raise AssertionError

    with _grpc(refuse) as (_, client):
        assert _send(client).retry_after == seconds


def test_retry_after_of_http_is_read_as_seconds() -> None:
    for value, seconds in (("7", 7.0), ("-1", 0.0), ("soon", 0.0), ("", 0.0)):
        with _http(HttpResponse(503, headers={"retry-after": value})) as (_, client):
            assert _send(client).retry_after == seconds


def test_retry_after_of_http_is_read_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with _http(HttpResponse(429, headers={"retry-after": date})) as (_, client):
        assert 20 < _send(client).retry_after <= 30


def test_redirect_is_not_followed() -> None:
    with http_server() as elsewhere:
        target = f"http://127.0.0.1:{elsewhere.port}/v1/traces"
        for status in (301, 302, 307, 308):
            with _http(HttpResponse(status, headers={"location": target})) as (server, client):
                result = _send(client)
                assert (result.outcome, result.error_type) == (Outcome.UNAVAILABLE, str(status))
                assert len(server.calls) == 1
    assert not elsewhere.calls


@pytest.mark.parametrize(
    "response",
    [
        HttpResponse(200, b"<html>Please log in</html>"),
        HttpResponse(200, b"", {"content-type": "text/html; charset=utf-8"}),
        # Its first bytes are those of an empty partial success.
        HttpResponse(200, b"\n\0", {"content-type": "text/html"}),
        HttpResponse(200, b"{}", {"content-type": "application/json"}),
    ],
)
def test_page_with_status_200_acknowledges_nothing(response: HttpResponse) -> None:
    with _http(response) as (_, client):
        result = _send(client)
    assert (result.outcome, result.error_type) == (Outcome.UNAVAILABLE, "invalid_response")


def test_bytes_that_are_no_response_acknowledge_nothing_over_grpc() -> None:
    with _grpc(lambda context: b"\xff\xff<html>") as (_, client):
        result = _send(client)
    assert (result.outcome, result.error_type) == (Outcome.UNAVAILABLE, "invalid_response")


@pytest.mark.parametrize("protocol", list(Protocol))
def test_receiver_that_refuses_connections_is_unavailable(protocol: Protocol) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        server = Server(closed.getsockname()[1])
    with _client(protocol, server) as client:
        assert _send(client).outcome is Outcome.UNAVAILABLE


@contextmanager
def _silent() -> Iterator[Server]:
    """Accept connections and answer nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Server(listening.getsockname()[1])


@contextmanager
def _dribbling() -> Iterator[Server]:
    """Send one byte of a response after the other, without an end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopped, server = threading.Event(), Server(listening.getsockname()[1])

        def dribble(connection: socket.socket) -> None:
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not stopped.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        def serve() -> None:
            while not stopped.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                server.calls.append(Call("", {}, b""))
                threading.Thread(target=dribble, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server
        stopped.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_call_ends_with_its_timeout(protocol: Protocol) -> None:
    with (
        _silent() as server,
        _client(protocol, server, timeout=0.3) as client,
        takes(0.3, factor=5),
    ):
        assert _send(client).outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("protocol", list(Protocol))
def test_closing_ends_calls_under_way_at_once(protocol: Protocol) -> None:
    with _silent() as server, _client(protocol, server, timeout=30.0) as client:
        call = client.send(_BODY)
        time.sleep(0.1)
        with takes_at_most(1, factor=1.0):
            client.close()
            assert call.result(20).error_type == CANCELLED
            assert _send(client).error_type == CANCELLED


def test_calls_over_grpc_one_after_the_other_share_threads() -> None:
    before = set(threading.enumerate())
    with _grpc() as (server, client):
        for _ in range(20):
            assert client.send(_BODY).result(20).outcome is Outcome.ACCEPTED
        own = [each for each in threading.enumerate() if each.name == "otlp-grpc-traces"]
        # A second one where a call begins before the first thread is seen to be idle.
        assert len(set(own) - before) in (1, 2)
        assert len(server.calls) == 20


def test_call_that_hangs_delays_no_other_over_grpc() -> None:
    hanging = threading.Event()
    turns = iter([30.0, 0.0])  # s

    def respond(context: grpc.ServicerContext) -> bytes:
        hanging.wait(next(turns))
        return b""

    with _grpc(respond) as (server, client):
        first = client.send(_BODY)
        poll_until(lambda: len(server.calls) == 1, "the first call")
        assert client.send(_BODY).result(20).outcome is Outcome.ACCEPTED
        assert not first.done()
        hanging.set()
        assert first.result(20).outcome is Outcome.ACCEPTED


def test_response_that_never_ends_blocks_no_later_call() -> None:
    """Each single read of it is within the timeout."""
    with _dribbling() as server, _client(Protocol.HTTP, server, timeout=0.2) as client:
        first = client.send(_BODY)

        def connected_again() -> bool:
            client.send(_BODY)
            return len(server.calls) >= 2

        poll_until(connected_again, "a later call", interval=0.2)
        assert first.result(0).outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("protocol", list(Protocol))
def test_headers_file_is_read_again_when_it_changes(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatscope.otlp.credentials._CHECK_SECONDS", 0.0)
    path = tmp_path / "headers"
    path.write_text("# of the receiver\nauthorization=Bearer old\n")
    start = _grpc if protocol is Protocol.GRPC else _http
    headers = (("authorization", "Bearer none"), ("x-tenant", "a"))
    with start(headers=headers, headers_file=path) as (server, client):
        assert _send(client).outcome is Outcome.ACCEPTED
        path.write_text("authorization=Bearer newer\n")
        assert _send(client).outcome is Outcome.ACCEPTED
        path.write_text("half of a li")
        assert _send(client).outcome is Outcome.ACCEPTED
    found = [call.headers["authorization"] for call in server.calls]
    assert found == ["Bearer old", "Bearer newer", "Bearer newer"]
    assert {call.headers["x-tenant"] for call in server.calls} == {"a"}


def test_netrc_replaces_no_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine collector.test login mallory password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with _proxied("http", monkeypatch) as proxy, _http_by_name("collector.test") as client:
        assert _send(client).outcome is Outcome.ACCEPTED
    assert proxy.calls[0].headers["authorization"] == "Bearer a"


@contextmanager
def _proxied(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with http_server() as proxy:
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
            for spelling in (name, name.upper()):
                monkeypatch.setenv(spelling, f"http://127.0.0.1:{proxy.port}")
        yield proxy


@contextmanager
def _http_by_name(name: str) -> Iterator[Client]:
    client = connect(
        EndpointSettings(
            signal=Signal.TRACES,
            protocol=Protocol.HTTP,
            url=f"http://{name}:4318/v1/traces",
            headers=(("authorization", "Bearer a"),),
            timeout=5.0,
        )
    )
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_proxy_sees_nothing_of_this_machine(
    protocol: Protocol, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = grpc_server if protocol is Protocol.GRPC else http_server
    path = "" if protocol is Protocol.GRPC else "/v1/traces"
    with _proxied("http", monkeypatch) as proxy, start() as server:
        url = f"http://{host}:{server.port}{path}"
        with _client(protocol, server, url=url) as client:
            assert _send(client).outcome is Outcome.ACCEPTED
    assert len(server.calls) == 1
    assert not proxy.calls


@pytest.mark.parametrize("protocol", list(Protocol))
def test_other_machines_are_reached_by_the_proxy_unless_excepted(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "" if protocol is Protocol.GRPC else "/v1/traces"
    for excepted in (False, True):
        if excepted:
            monkeypatch.setenv("no_proxy", "collector.invalid")
        with _proxied("http", monkeypatch) as proxy:
            url = f"http://collector.invalid:4318{path}"
            with _client(protocol, Server(), url=url, timeout=2.0) as client:
                _send(client)
        assert bool(proxy.calls) is not excepted


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def _tls_server(protocol: Protocol, files: Certificates) -> Iterator[Server]:
    """Serve with TLS, to clients with a certificate only."""
    if protocol is Protocol.GRPC:
        credentials = grpc.ssl_server_credentials(
            [(files.server_key.read_bytes(), files.server.read_bytes())],
            files.authority.read_bytes(),
            require_client_auth=True,
        )
        with grpc_server(credentials=credentials) as server:
            yield server
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.server_key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with http_server(wrap=lambda it: context.wrap_socket(it, server_side=True)) as server:
        yield server


def _tls_url(protocol: Protocol, server: Server) -> str:
    path = "" if protocol is Protocol.GRPC else "/v1/traces"
    host = "localhost" if protocol is Protocol.GRPC else "127.0.0.1"
    return f"https://{host}:{server.port}{path}"


@pytest.mark.parametrize("protocol", list(Protocol))
def test_tls_with_an_own_authority_and_a_client_certificate(
    protocol: Protocol, certificates: Certificates
) -> None:
    with _tls_server(protocol, certificates) as server:
        url = _tls_url(protocol, server)
        known = {"url": url, "certificate": certificates.authority, "timeout": 2.0}
        own = {
            "client_key": certificates.client_key,
            "client_certificate": certificates.client,
        }
        with _client(protocol, server, **known, **own) as client:
            assert _send(client) == Result(Outcome.ACCEPTED)
        with _client(protocol, server, **known) as client:
            assert _send(client).outcome is Outcome.UNAVAILABLE
        with _client(protocol, server, url=url, timeout=2.0, **own) as client:
            assert _send(client).outcome is Outcome.UNAVAILABLE
    assert len(server.calls) == 1


@pytest.mark.parametrize("protocol", list(Protocol))
def test_certificate_that_is_missing_for_a_moment_costs_nothing(
    protocol: Protocol,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatscope.otlp.credentials._CHECK_SECONDS", 0.0)
    authority = tmp_path / "ca.pem"
    authority.write_bytes(certificates.authority.read_bytes())
    with _tls_server(protocol, certificates) as server:
        settings = {
            "url": _tls_url(protocol, server),
            "certificate": authority,
            "client_key": certificates.client_key,
            "client_certificate": certificates.client,
        }
        with _client(protocol, server, **settings) as client:
            assert _send(client).outcome is Outcome.ACCEPTED
            authority.unlink()
            result = _send(client)
            assert result.outcome is Outcome.UNAVAILABLE
            assert result.error_type != CANCELLED
            authority.write_bytes(certificates.authority.read_bytes())
            assert _send(client).outcome is Outcome.ACCEPTED
