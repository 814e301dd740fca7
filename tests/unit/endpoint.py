"""A provider on a real socket that responds with a prepared status, and records its requests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_USAGE: Final = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@dataclass
class Endpoint:
    """It responds with `text`, or fails with `status`."""

    text: str = "hello"
    status: int = 200
    url: str = ""
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """The path and query of each request."""
        return [target for target, _, _ in self.requests]

    @property
    def models(self) -> list[str]:
        """The model of each request."""
        return [body["model"] for _, _, body in self.requests]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the last request, with names in lower case."""
        return self.requests[-1][1]


@contextmanager
def endpoint(text: str = "hello", status: int = 200) -> Iterator[Endpoint]:
    """Serve on a free port until the end of the block."""
    served = Endpoint(text, status)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.requests.append((self.path, headers, body))
            content, kind = _answer(served, body)
            self.send_response(served.status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(served: Endpoint, body: dict[str, Any]) -> tuple[bytes, str]:
    if served.status != 200:
        error = {"error": {"message": "it failed", "type": "x", "code": None}}
        return json.dumps(error).encode(), "application/json"
    shared = {"id": "r-1", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": served.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {**shared, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
        return json.dumps(whole).encode(), "application/json"
    chunk = {**shared, "object": "chat.completion.chunk"}
    delta = {"role": "assistant", "content": served.text}
    events = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**chunk, "choices": [], "usage": _USAGE},
    ]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream"
