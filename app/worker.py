"""The life of one worker process; imports the server only when the process logs."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from socket import socket
from typing import Final

from app.settings import Settings
from app.startup import run_reported

READY: Final = "ready"


def work(settings: Settings, listener: socket, parent: Connection) -> None:
    """Serve until the parent closes its end of the connection; end the process."""
    # A terminal interrupts us together with our parent, who then stops us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(run_reported(lambda: _serve(settings, listener, parent)))


def _serve(settings: Settings, listener: socket, parent: Connection) -> int:
    from app.transport.server import serve  # noqa: PLC0415

    def stop_with_parent(stop: Callable[[], None]) -> None:
        with suppress(EOFError, OSError):
            parent.recv()
        stop()

    def watch_parent(stop: Callable[[], None]) -> None:
        threading.Thread(target=stop_with_parent, args=(stop,), daemon=True).start()

    def tell_parent() -> None:
        with suppress(OSError):  # it is gone, which the other thread notices as well
            parent.send(READY)

    return serve(settings, sockets=[listener], ready=tell_parent, stoppable=watch_parent)
