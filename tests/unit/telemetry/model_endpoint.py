"""An endpoint on a socket that responds like OpenAI and Anthropic."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

# A model whose calls are rejected.
REFUSED: Final = "refused"
USAGE: Final = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
}
_SHARED: Final = {"id": "c-1", "created": 1, "model": "gpt-4o-2026"}


@contextmanager
def model_endpoint() -> Iterator[str]:
    """Serve, and yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body.get("model") == REFUSED:
            self._send(429, "application/json", b'{"error": {"message": "slow down"}}')
        elif self.path.endswith("/embeddings"):
            self._send(200, "application/json", json.dumps(_embeddings()).encode())
        elif self.path.endswith("/messages"):
            self._send(200, "application/json", json.dumps(_message()).encode())
        elif body.get("stream"):
            events = [f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks()]
            text = "".join([*events, "data: [DONE]\n\n"])
            self._send(200, "text/event-stream", text.encode())
        else:
            self._send(200, "application/json", json.dumps(_completion()).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _chunks() -> list[dict[str, Any]]:
    deltas = [{"role": "assistant", "content": "one "}, {"content": "two"}, {}]
    choices: list[list[Any]] = [
        [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]
        for delta in deltas
    ]
    chunks = [{**_SHARED, "object": "chat.completion.chunk", "choices": each} for each in choices]
    return [*chunks, {**chunks[0], "choices": [], "usage": USAGE}]


def _completion() -> dict[str, Any]:
    message = {"role": "assistant", "content": "one two"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**_SHARED, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def _embeddings() -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return {"object": "list", "data": data, "model": "e-2026", "usage": usage}


def _message() -> dict[str, Any]:
    return {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": "claude-2026",
        "content": [{"type": "text", "text": "one two"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }
