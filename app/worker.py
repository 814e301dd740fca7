"""One worker process. Imports the server only after the capture of log lines has begun."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from socket import socket
from typing import Final

from app import collection
from app.settings import Settings
from app.startup import run_reported

READY: Final = "ready"


def work(settings: Settings, listener: socket, parent: Connection) -> None:
    """Serve until the parent closes its end of the connection; end the process."""
    # A terminal interrupts all processes of a group; the parent stops this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collection.pause()
    sys.exit(run_reported(lambda: _serve(settings, listener, parent)))


def _serve(settings: Settings, listener: socket, parent: Connection) -> int:
    from app.serving import serve  # noqa: PLC0415

    def wait_for_parent(stop: Callable[[], None]) -> None:
        with suppress(EOFError, OSError):
            parent.recv()
        stop()

    def stop_with_parent(stop: Callable[[], None]) -> None:
        threading.Thread(target=wait_for_parent, args=(stop,), daemon=True).start()

    def report_ready() -> None:
        with suppress(OSError):  # the parent has ended, which `wait_for_parent` detects too
            parent.send(READY)

    return serve(settings, sockets=[listener], on_ready=report_ready, on_start=stop_with_parent)
