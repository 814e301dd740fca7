"""An OpenAI-compatible provider that needs little CPU: it responds with bytes made in advance.

A request's `max_tokens` is the number of tokens: one chunk each if it is streamed. Chunks are sent
as fast as the client reads them, in packets of 1,400 bytes, or one after each pause.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

MODEL: Final = "relayed"
_PACKET_BYTES: Final = 1_400
_TOKENS: Final = 60
_SHARED: Final = {"id": "chatcmpl-1", "created": 1, "model": MODEL}


@contextmanager
def provider(pause: float | None = None) -> Iterator[str]:
    """Run the provider inside; yield its base URL. `pause` in seconds precedes each chunk."""

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(connection, pause), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def _serve(connection: socket.socket, pause: float | None) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    with connection, connection.makefile("rb") as requests:
        while requests.readline():
            length = 0
            while (line := requests.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            asked = json.loads(requests.read(length) or b"{}")
            tokens = asked.get("max_tokens") or asked.get("max_completion_tokens") or _TOKENS
            packets = _stream(tokens, pause is None) if asked.get("stream") else _json(tokens)
            try:
                _send(connection, packets, pause)
            except OSError:
                return


def _send(connection: socket.socket, packets: tuple[bytes, ...], pause: float | None) -> None:
    # Of absolute times: a late packet does not delay the following ones.
    due = time.monotonic()
    for packet in packets:
        if pause is not None:
            time.sleep(max(0.0, due - time.monotonic()))
            due += pause
        connection.sendall(packet)


@cache
def _json(tokens: int) -> tuple[bytes, ...]:
    text = " ".join(f"word{number}" for number in range(tokens))
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {**_SHARED, "object": "chat.completion", "choices": [choice], "usage": _usage(tokens)}
    text = json.dumps(body)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
    return (f"{head}\r\n\r\n{text}".encode(),)


@cache
def _stream(tokens: int, joined: bool) -> tuple[bytes, ...]:
    """Return the packets of a stream, of several events each if `joined`."""

    def event(delta: dict[str, str], reason: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        body = {**_SHARED, "object": "chat.completion.chunk", "choices": [choice], **more}
        return f"data: {json.dumps(body)}\n\n".encode()

    events = [
        *(event({"content": f" word{number}"}) for number in range(tokens)),
        event({}, "stop", usage=_usage(tokens)) + b"data: [DONE]\n\n",
    ]
    if joined:
        body = b"".join(events)
        events = [body[at : at + _PACKET_BYTES] for at in range(0, len(body), _PACKET_BYTES)]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in events]
    chunks[-1] += b"0\r\n\r\n"
    return (head + chunks[0], *chunks[1:])


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": tokens + 4}
