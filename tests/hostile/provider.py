"""A misbehaving provider on a real socket, with a model for each fault."""

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = _SSE + b"transfer-encoding: chunked\r\n\r\n"
# Until the client disconnects, but no longer than any test.
_ENDLESS_SECONDS = 20.0

Behaviour = Callable[[socket.socket], None]


def _event(fields: dict[str, Any]) -> bytes:
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**shared, **fields}).encode() + b"\n\n"


def chunk(delta: Any, **more: Any) -> bytes:
    """Return one event with a chunk of a response; `more` replaces fields of the object."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return _event({"choices": [choice], **more})


def end(reason: Any = "stop", **more: Any) -> bytes:
    """Return the event that ends a response."""
    return _event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more})


def usage(counts: Any) -> bytes:
    """Return the event that reports the usage."""
    return _event({"choices": [], "usage": counts})


HELLO = chunk({"role": "assistant", "content": "Hello"})
DONE = b"data: [DONE]\n\n"


def stream(*events: bytes) -> Behaviour:
    """Send a whole stream of these events."""
    body = b"".join(events)
    return lambda client: client.sendall(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def byte_by_byte(*events: bytes) -> Behaviour:
    """Send a whole stream of these events, one byte at a time."""

    def behave(client: socket.socket) -> None:
        chunks = [b"1\r\n%c\r\n" % byte for byte in b"".join(events)]
        client.sendall(CHUNKED + b"".join(chunks) + b"0\r\n\r\n")

    return behave


def raw(data: bytes, *, reset: bool = False, hang: bool = False) -> Behaviour:
    """Send these bytes; then close the connection, reset it, or stay silent."""

    def behave(client: socket.socket) -> None:
        client.sendall(data)
        if hang:
            _wait_for_end(client)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def endless(piece: bytes, *, head: bytes = CHUNKED, pause: float = 0.0) -> Behaviour:
    """Send the same bytes repeatedly until the other side disconnects."""
    data = b"%x\r\n%s\r\n" % (len(piece), piece) if head is CHUNKED else piece

    def behave(client: socket.socket) -> None:
        client.sendall(head)
        deadline = time.monotonic() + _ENDLESS_SECONDS
        while time.monotonic() < deadline:
            client.sendall(data)
            time.sleep(pause)

    return behave


def body(status: str, kind: str, content: bytes, *more: str) -> Behaviour:
    """Send an ordinary response."""
    lines = (f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(content)}")
    head = "\r\n".join((*lines, *more, "", "")).encode()
    return lambda client: client.sendall(head + content)


def zipped(content: bytes) -> bytes:
    """Return a stream with a compressed body."""
    head = _SSE + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(content)
    return head + content


BOMB = zipped(gzip.compress(b"\n" * 200_000_000, 9))


class Provider:
    """Its address, and the models of started and disconnected requests."""

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        self._behaviours = behaviours
        self.left: set[str] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @property
    def environ(self) -> dict[str, str]:
        """Return the variables of a service that uses it."""
        return {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1",
            "OPENAI_MODELS": ",".join(self._behaviours),
            "OPENAI_MAX_RETRIES": "0",
        }

    def accept(self) -> None:
        """Serve until `close()`."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        model = ""
        with client, suppress(OSError, ValueError):
            client.settimeout(_ENDLESS_SECONDS)
            model = _model(client)
            self._behaviours[model](client)
        self.left.add(model)


@contextmanager
def provider(behaviours: dict[str, Behaviour]) -> Iterator[Provider]:
    """Listen on a free port until the end of the block."""
    one = Provider(behaviours)
    thread = threading.Thread(target=one.accept, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.close()
        thread.join()


def _model(client: socket.socket) -> str:
    with client.makefile("rb") as file:
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return str(json.loads(file.read(length))["model"])


def _wait_for_end(client: socket.socket) -> None:
    with suppress(OSError):
        client.recv(1)
