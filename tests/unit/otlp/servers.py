"""Receivers on real sockets whose responses are decided by a test, and certificates for them."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc


@dataclass(frozen=True)
class Call:
    """One received request: method or path, headers, body."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    """A receiver's address, and its requests."""

    port: int = 0
    calls: list[Call] = field(default_factory=list)


GrpcRespond = Callable[[grpc.ServicerContext], bytes]


@contextmanager
def grpc_server(
    respond: GrpcRespond = lambda context: b"",
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[Server]:
    """Serve each method of gRPC by `respond`, which may end the call with a status."""
    server = Server()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
                headers = {str(key): str(value) for key, value in context.invocation_metadata()}
                server.calls.append(Call(handler_call_details.method, headers, body))
                return respond(context)

            return grpc.unary_unary_rpc_method_handler(answer)

    running = grpc.server(ThreadPoolExecutor(4), [Handler()])
    if credentials is None:
        server.port = running.add_insecure_port("127.0.0.1:0")
    else:
        server.port = running.add_secure_port("localhost:0", credentials)
    running.start()
    try:
        yield server
    finally:
        running.stop(0).wait()


@dataclass(frozen=True)
class HttpResponse:
    """One HTTP response."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "application/x-protobuf"}
    )


@contextmanager
def http_server(
    respond: Callable[[], HttpResponse] = HttpResponse,
    wrap: Callable[[Any], Any] = lambda socket: socket,
) -> Iterator[Server]:
    """Respond to each POST by `respond`; `wrap` puts TLS around the listening socket."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.calls.append(Call(self.path, headers, body))
            response = respond()
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_CONNECT = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    running.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    running.socket = wrap(running.socket)
    server.port = running.server_port
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()
        thread.join(60)


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, and of a server and a client that it has signed."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make certificates with the command `openssl`."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority, authority_key = directory / "ca.pem", directory / "ca.key"
    # fmt: off
    _openssl("req", "-x509", *new, "-subj", "/CN=authority", "-days", "1",
             "-addext", "keyUsage=critical,keyCertSign",
             "-keyout", authority_key, "-out", authority)
    # fmt: on
    for name in ("server", "client"):
        request, extensions = directory / f"{name}.csr", directory / f"{name}.txt"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        # fmt: off
        _openssl("req", *new, "-subj", f"/CN={name}",
                 "-keyout", directory / f"{name}.key", "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key,
                 "-CAcreateserial", "-days", "1", "-extfile", extensions,
                 "-out", directory / f"{name}.pem")
        # fmt: on
    return Certificates(
        authority,
        directory / "server.pem",
        directory / "server.key",
        directory / "client.pem",
        directory / "client.key",
    )


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=240)
