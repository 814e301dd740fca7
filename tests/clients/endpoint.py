"""An OpenAI-compatible endpoint on a real socket that replays prepared responses."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic_core import from_json

EVENTS = "text/event-stream"
JSON = "application/json"


@dataclass(frozen=True)
class Response:
    """A response: status, content type, parts of the body as they are sent, further headers."""

    status: int
    kind: str
    parts: Iterable[str]
    headers: Mapping[str, str] = field(default_factory=dict)


Respond = Callable[[dict[str, Any]], Response]


@dataclass(frozen=True)
class Endpoint:
    """Its base URL, and the path and body of each request."""

    url: str
    requests: list[tuple[str, dict[str, Any]]]


@contextmanager
def endpoint(respond: Respond) -> Iterator[Endpoint]:
    """Serve on a free port until the end of the block; `respond` gets a request's body."""
    requests: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = from_json(self.rfile.read(int(self.headers["content-length"])))
            requests.append((self.path, body))
            response = respond(body)
            self.send_response(response.status)
            self.send_header("content-type", response.kind)
            self.send_header("transfer-encoding", "chunked")
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # the response was cancelled
                for part in itertools.chain(response.parts, [""]):
                    data = part.encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
