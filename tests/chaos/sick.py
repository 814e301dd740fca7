"""Faulty backends: proxies in front of the real ones that inject errors."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from stack.local_http import local_client
from tests.running import tempo_otlp

_SLOW_SECONDS = 1.5
_GARBAGE = b"\x00\xff no protocol at all \xfe\r\n\r\n"
_DETAILS = "grpc-status-details-bin"


class Health(Enum):
    """The state of the backends."""

    WELL = "well"
    SLOW = "slow"
    TOO_MANY = "429"
    AWAY = "503"
    GARBAGE = "garbage"


class Stores:
    """The state of all backends, counts of requests, and their addresses."""

    def __init__(self) -> None:
        self.health = Health.WELL
        self.asked: Counter[tuple[str, Health]] = Counter()
        self.loki = ""
        self.prometheus = ""
        self.tempo = ""

    def ask(self, store: str) -> Health:
        """Count a request to `store`; return how to respond."""
        health = self.health
        self.asked[store, health] += 1
        if health is Health.SLOW:
            time.sleep(_SLOW_SECONDS)
        return health


@contextmanager
def stores(facts: dict[str, str]) -> Iterator[Stores]:
    """Run proxies in front of the stack's backends until the end of the block."""
    made = Stores()
    with ExitStack() as running:
        made.loki = running.enter_context(_http(made, "loki", facts["LOKI_URL"]))
        made.prometheus = running.enter_context(_http(made, "prometheus", facts["PROMETHEUS_URL"]))
        behind = running.enter_context(_grpc(made, tempo_otlp(facts)))
        made.tempo = running.enter_context(_wire(made, behind))
        yield made


@contextmanager
def _http(stores: Stores, name: str, url: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            health = stores.ask(name)
            if health is Health.GARBAGE:
                self.wfile.write(_GARBAGE)
                self.close_connection = True
            elif health in (Health.TOO_MANY, Health.AWAY):
                self._answer(int(health.value), b"not now")
            else:
                passed = (
                    "authorization",
                    "content-type",
                    "content-encoding",
                    "x-prometheus-remote-write-version",
                )
                headers = {key: self.headers[key] for key in passed if key in self.headers}
                with local_client(url) as client:
                    answer = client.post(self.path, content=body, headers=headers)
                self._answer(answer.status_code, answer.content)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Pass(grpc.GenericRpcHandler):
    """Forwards bytes unchanged."""

    def __init__(self, stores: Stores, channel: grpc.Channel) -> None:
        self._stores = stores
        self._channel = channel

    def service(self, details: Any) -> Any:
        call: Any = self._channel.unary_unary(details.method)

        def handle(body: bytes, context: grpc.ServicerContext) -> Any:
            match self._stores.ask("tempo"):
                case Health.TOO_MANY:
                    context.set_trailing_metadata(((_DETAILS, _try_again()),))
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
                case Health.AWAY:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return call(body, timeout=10.0)

        return grpc.unary_unary_rpc_method_handler(handle)


def _try_again() -> bytes:
    """Return Tempo's retry delay (tempo.yaml): otherwise the Collector would drop the batch."""
    details = AnyMessage()
    details.Pack(RetryInfo(retry_delay=Duration(nanos=100_000_000)))
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    said: bytes = Status(code=code, message="not now", details=[details]).SerializeToString()
    return said


@contextmanager
def _grpc(stores: Stores, endpoint: str) -> Iterator[tuple[str, int]]:
    with grpc.insecure_channel(endpoint) as channel:
        server = grpc.server(ThreadPoolExecutor(16), handlers=[_Pass(stores, channel)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield "127.0.0.1", port
        finally:
            server.stop(grace=0).wait()


@contextmanager
def _wire(stores: Stores, behind: tuple[str, int]) -> Iterator[str]:
    """Forward connections to a backend; send garbage to new and active ones in that state."""

    def pump(source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if stores.health is Health.GARBAGE:
                    stores.asked["tempo", Health.GARBAGE] += 1
                    (target if answers else source).sendall(_GARBAGE)
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(behind)
                opened.extend((client, server))
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Closing alone does not wake a thread in `accept`.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in opened:
                each.close()
