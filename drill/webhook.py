"""A webhook receiver on this machine that records all messages."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack.waiting import poll_until


class WebhookReceiver:
    """Records every JSON body that is sent to it over HTTP, by path."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._bodies: dict[str, list[Any]] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def bodies(self, path: str) -> list[Any]:
        """Return the bodies that were received at a path so far."""
        return list(self._bodies.get(path, []))

    def record(self, path: str, body: Any) -> None:
        self._bodies.setdefault(path, []).append(body)

    def alerts(self, path: str) -> list[dict[str, Any]]:
        """Return the alerts of all messages of Alertmanager's webhook so far, oldest first."""
        return [alert for body in self.bodies(path) for alert in body["alerts"]]

    def wait_for_alert(self, path: str, name: str, status: str = "firing") -> dict[str, Any]:
        """Wait for an alert of that name and status, and return the first one."""

        def found() -> dict[str, Any] | None:
            return next(
                (
                    alert
                    for alert in self.alerts(path)
                    if alert["labels"]["alertname"] == name and alert["status"] == status
                ),
                None,
            )

        return poll_until(found, f"a message at {path} that {name} is {status}")


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """Run a receiver on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.record(self.path, body)
            # PagerDuty responds 202.
            self.send_response(202 if "enqueue" in self.path else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = WebhookReceiver(server.server_port)
        with serving(server):
            yield receiver


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Run a server in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
