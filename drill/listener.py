"""Somebody who is told: a webhook on this machine that keeps all that comes."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack.waiting import poll_until


class Listener:
    """Whom alerts are sent to over HTTP: every JSON body that came, by the path it came to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._bodies: dict[str, list[Any]] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def came(self, path: str) -> list[Any]:
        """What came to that path so far."""
        return list(self._bodies.get(path, []))

    def record(self, path: str, body: Any) -> None:
        self._bodies.setdefault(path, []).append(body)

    def alerts(self, path: str) -> list[dict[str, Any]]:
        """The alerts of all webhook messages so far, oldest first."""
        return [alert for body in self.came(path) for alert in body["alerts"]]

    def told(self, path: str, name: str, status: str = "firing") -> dict[str, Any]:
        """The first message of a webhook about an alert of that name, once it came."""

        def found() -> dict[str, Any] | None:
            return next(
                (
                    alert
                    for alert in self.alerts(path)
                    if alert["labels"]["alertname"] == name and alert["status"] == status
                ),
                None,
            )

        return poll_until(found, f"{name} to be told as {status} at {path}")


@contextmanager
def listener() -> Iterator[Listener]:
    """Somebody who listens on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.record(self.path, body)
            # What PagerDuty says when it took one.
            self.send_response(202 if "enqueue" in self.path else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Listener(server.server_port)
        with serving(server):
            yield found


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """The server answers inside, in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
