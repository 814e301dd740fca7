"""An Alertmanager of a test's own, as start.sh makes it, and those whom it tells."""

import json
import os
import queue
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import binary_path
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS

GRAFANA = "https://grafana.example.com"
# All that would make a test wait.
_AT_ONCE = {"ALERT_GROUP_WAIT": "1s", "ALERT_GROUP_INTERVAL": "1s"}


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
        """The alerts of all webhook messages so far."""
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

        return poll_until(found, f"{name} to be told as {status} at {path}", PATIENCE_SECONDS)


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
        with _serving(server):
            yield found


class Mailbox:
    """Who takes mail: the next message, and to whom it went."""

    def __init__(self, port: int, mails: "queue.Queue[tuple[list[str], bytes]]") -> None:
        self.address = f"127.0.0.1:{port}"
        self._mails = mails

    def next(self) -> tuple[list[str], EmailMessage]:
        recipients, mail = self._mails.get(timeout=PATIENCE_SECONDS)
        return recipients, message_from_bytes(mail, policy=policy.default)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server without TLS and without a login, on a free port of this machine."""
    mails: queue.Queue[tuple[list[str], bytes]] = queue.Queue()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipients: list[str] = []
            self.wfile.write(b"220 here\r\n")
            for line in iter(self.rfile.readline, b""):
                command = line[:4].upper()
                if command == b"RCPT":
                    recipients += re.findall("<(.+)>", line.decode())
                if command == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    mails.put((recipients, b"".join(iter(self.rfile.readline, b".\r\n"))))
                self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
                if command == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        yield Mailbox(server.server_address[1], mails)


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class Alertmanager:
    """One that runs; alerts are pushed into it as Prometheus does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def push(self, *alerts: dict[str, Any]) -> None:
        with local_client(self.url) as client:
            client.post("/api/v2/alerts", json=list(alerts)).raise_for_status()

    def state(self, labels: Mapping[str, str]) -> str:
        """What it does with the alert of those labels: active, suppressed, or unprocessed."""
        asked = {"filter": [f'{name}="{value}"' for name, value in labels.items()]}
        with local_client(self.url) as client:
            [alert] = client.get("/api/v2/alerts", params=asked).raise_for_status().json()
        return str(alert["status"]["state"])


@contextmanager
def alertmanager(directory: Path, **environ: str) -> Iterator[Alertmanager]:
    """Our Alertmanager with these variables set, with nothing to wait for, on a free port."""
    with started(directory, str, **_AT_ONCE, **environ) as process:
        yield Alertmanager(listening(process)[0])


@contextmanager
def started(
    directory: Path, change: Callable[[str], str], **environ: str
) -> Iterator["subprocess.Popen[str]"]:
    """Runs start.sh on a copy of our files in that directory; ended in the end."""
    files = shutil.copytree(ROOT / "alertmanager", directory / "alertmanager")
    configuration = files / "alertmanager.yml"
    configuration.write_text(change(configuration.read_text()))
    run = directory / "run"
    run.mkdir()
    flags = (
        f"--storage.path={directory / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    )
    with subprocess.Popen(
        ["sh", files / "start.sh", binary_path("alertmanager"), *flags],
        env={"PATH": os.defpath, "RUN_DIR": str(run), "GRAFANA_PUBLIC_URL": GRAFANA, **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def listening(process: "subprocess.Popen[str]") -> tuple[str, list[str]]:
    """Its address, once it listens there, and what it said so far."""
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"Listening on.* address=(\S+)", line):
            # What it says from now on must not fill the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return f"http://{found[1]}", said
    raise AssertionError(f"it never listened, and said: {said}")
