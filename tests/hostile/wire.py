"""A proxy between the service and its receiver that can disconnect, block, or send garbage."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

_GARBAGE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n"


class Fault(Enum):
    """The state of the connection."""

    NONE = "none"
    CLOSES = "closes"  # closes each connection after accepting it
    RESETS = "resets"
    GARBAGE = "garbage"  # responds with bytes that are not HTTP/2
    STUCK = "stuck"  # forwards nothing, in either direction
    DEAF = "deaf"  # forwards requests, but no responses
    SLOW = "slow"  # forwards a few bytes at a time


class Wire:
    """A proxy with a settable `fault`, which also applies to existing connections."""

    def __init__(self, port: int) -> None:
        self.fault = Fault.NONE
        self._behind = port
        self._free = threading.Condition()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def become(self, fault: Fault) -> None:
        """Set the fault, and close the connections that it affects."""
        with self._free:
            self.fault = fault
            self._free.notify_all()
        if fault in (Fault.CLOSES, Fault.RESETS, Fault.GARBAGE, Fault.NONE):
            self._cut()

    def accept(self) -> None:
        """Serve until `close()`."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Close everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.become(Fault.NONE)

    def _cut(self) -> None:
        for one in list(self._open):
            with suppress(OSError):
                if self.fault is Fault.RESETS:
                    _reset_on_close(one)
                one.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.fault is Fault.RESETS:
                _reset_on_close(client)
            if self.fault is Fault.GARBAGE:
                client.sendall(_GARBAGE)
            if self.fault in (Fault.CLOSES, Fault.RESETS, Fault.GARBAGE):
                return
            with socket.create_connection(("127.0.0.1", self._behind)) as behind:
                self._open |= {client, behind}
                back = threading.Thread(target=self._pump, args=(behind, client, True), daemon=True)
                back.start()
                self._pump(client, behind, False)
                back.join()
                self._open -= {client, behind}

    def _pump(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        held = (Fault.STUCK, Fault.DEAF) if back else (Fault.STUCK,)
        with suppress(OSError):
            while data := source.recv(64 if self.fault is Fault.SLOW else 65_536):
                with self._free:
                    self._free.wait_for(lambda: self.fault not in held)
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(endpoint: str) -> Iterator[Wire]:
    """Run a proxy in front of `endpoint` until the end of the block."""
    one = Wire(int(endpoint.rpartition(":")[2]))
    thread = threading.Thread(target=one.accept, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.close()
        thread.join()


def _reset_on_close(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
