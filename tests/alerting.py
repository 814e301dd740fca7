"""An Alertmanager for a test, configured by start.sh, and a mail server."""

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
from pathlib import Path
from typing import Any

from drill.webhook import serving
from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import binary_path
from tests.running import PATIENCE_SECONDS

GRAFANA = "https://example.com/grafana"
# Minimum group times, so that tests need not wait.
_AT_ONCE = {"ALERT_GROUP_WAIT": "1s", "ALERT_GROUP_INTERVAL": "1s"}


class Mailbox:
    """Received mail; `next` yields the next message and its recipients."""

    def __init__(self, port: int, mails: "queue.Queue[tuple[list[str], bytes]]") -> None:
        self.address = f"127.0.0.1:{port}"
        self._mails = mails

    def next(self) -> tuple[list[str], EmailMessage]:
        recipients, mail = self._mails.get(timeout=PATIENCE_SECONDS)
        return recipients, message_from_bytes(mail, policy=policy.default)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Run a mail server without TLS and login, on a free port of this machine."""
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

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, serving(server):
        yield Mailbox(server.server_address[1], mails)


class Alertmanager:
    """A running Alertmanager; alerts are pushed into it in the way Prometheus does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def push(self, *alerts: dict[str, Any]) -> None:
        with local_client(self.url) as client:
            client.post("/api/v2/alerts", json=list(alerts)).raise_for_status()

    def state(self, labels: Mapping[str, str]) -> str:
        """Return the state of the alert with those labels: active, suppressed, or unprocessed."""
        asked = {"filter": [f'{name}="{value}"' for name, value in labels.items()]}
        with local_client(self.url) as client:
            [alert] = client.get("/api/v2/alerts", params=asked).raise_for_status().json()
        return str(alert["status"]["state"])


@contextmanager
def alertmanager(directory: Path, **environ: str) -> Iterator[Alertmanager]:
    """Run our Alertmanager with these variables and minimum group times, on a free port."""
    with started(directory, str, **_AT_ONCE, **environ) as process:
        yield Alertmanager(listening(process)[0])


@contextmanager
def started(
    directory: Path, change: Callable[[str], str], **environ: str
) -> Iterator["subprocess.Popen[str]"]:
    """Run start.sh on a copy of our files in a directory; stop it at the end."""
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
    """Wait until it listens; return its address and its output so far."""
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"Listening on.* address=(\S+)", line):
            # Further output must not fill the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return f"http://{found[1]}", said
    raise AssertionError(f"it never listened, and said: {said}")
